"""Signals that stop a run: saved, named, continued; in the main thread only, and handed back."""

import multiprocessing
import os
import signal
import threading

import pytest
import torch
from torch import nn

from compresskit import ProgressiveDistiller, Stage, Task
from compresskit.data import SampleLoader
from compresskit.distill.session.interrupt import deferred_interrupt, stopped_by_schedulers
from compresskit.errors import CompressKitError, Stopped

STOPPING = [signal.SIGTERM, signal.SIGUSR1]
BATCH = [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]


def distiller(out=None, steps=6):
    torch.manual_seed(0)
    stage = Stage("s", tasks=[Task("cross_entropy")], steps=steps, every=3)
    return ProgressiveDistiller(None, nn.Linear(3, 3), [stage], out=out, device="cpu")


def send(signum):
    def evaluate(_):
        os.kill(os.getpid(), signum)
        return {}

    return evaluate


@pytest.mark.parametrize("signum", STOPPING)
def test_a_scheduler_s_signal_saves_and_stops_the_run_which_continues_to_the_same_weights(tmp_path, capsys, signum):
    whole = distiller().fit(BATCH, evaluate=lambda _: {}).student
    with pytest.raises(Stopped) as stop:
        distiller(tmp_path).fit(BATCH, evaluate=send(signum))
    assert stop.value.signal == signum
    assert isinstance(stop.value, KeyboardInterrupt)
    assert not isinstance(stop.value, CompressKitError)
    assert f"stopped by {signum.name} in stage 's' after step 3; saved in {tmp_path}" in capsys.readouterr().err
    resumed = distiller(tmp_path).fit(BATCH, evaluate=lambda _: {}, resume=True)
    assert [record["step"] for record in resumed.history] == list(range(6))
    assert resumed.student.weight.equal(whole.weight)


@pytest.mark.parametrize("signum", [signal.SIGINT, *STOPPING])
def test_handlers_are_handed_back(signum):
    before = signal.getsignal(signum)
    with deferred_interrupt() as interrupt:
        assert signal.getsignal(signum) is not before
        os.kill(os.getpid(), signum)
        assert interrupt.requested
        assert interrupt.signal == signum
    assert signal.getsignal(signum) is before
    with pytest.raises(RuntimeError), deferred_interrupt():
        raise RuntimeError
    assert signal.getsignal(signum) is before


def test_the_second_ctrl_c_interrupts_at_once_and_the_second_signal_of_a_scheduler_does_not():
    with deferred_interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.signal == signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_signal_that_the_caller_ignores_or_handles_stays_the_caller_s(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with deferred_interrupt() as interrupt, stopped_by_schedulers():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not interrupt.requested
            assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_training_a_scheduler_s_signal_raises_at_once():
    with stopped_by_schedulers():
        with deferred_interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.requested
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_in_another_thread_a_run_trains_and_leaves_all_handlers_alone(tmp_path):
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, *STOPPING)}
    seen, results = [], []

    def evaluate(_):
        seen.append({signum: signal.getsignal(signum) for signum in before})
        return {}

    thread = threading.Thread(target=lambda: results.append(distiller(tmp_path).fit(BATCH, evaluate=evaluate)))
    thread.start()
    thread.join()
    assert len(results[0].history) == 6
    assert all(handlers == before for handlers in seen)
    assert {signum: signal.getsignal(signum) for signum in before} == before


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_that_was_forked_during_training_can_be_terminated():
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    with deferred_interrupt() as interrupt:
        child = fork.Process(target=lambda: (ready.set(), signal.pause()))
        child.start()
        try:
            assert ready.wait(10)
            child.terminate()
            child.join(10)
        finally:
            child.kill()
        child.join()
        assert child.exitcode == -signal.SIGTERM
        assert not interrupt.requested


class Slow:
    """A dataset that sends a signal to its own worker process, as a scheduler does that signals all processes."""

    def __init__(self, signum):
        self.signum = signum

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 3:
            os.kill(os.getpid(), self.signum)
        return torch.full((3,), float(index)), index % 3


@pytest.mark.parametrize("signum", [signal.SIGINT, *STOPPING])
def test_a_worker_process_outlives_the_signal_that_stops_the_run(signum):
    loader = SampleLoader(Slow(signum), 2, workers=1, shuffle=False)
    assert [len(targets) for _, targets in loader] == [2, 2, 2, 2]
