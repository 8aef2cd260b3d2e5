"""Two processes train one student as one process would. All cases run in one pair, since it takes seconds to start."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compresskit import ProgressiveDistiller
from tests.distill import processes
from tests.distill.processes import PICTURES, Student, batches, stages, teacher, train, with_seed


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of both processes, by case."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, processes.__file__, str(folder)]
    pair = [
        subprocess.Popen(command, env={**environment, "RANK": rank}, stderr=subprocess.PIPE, text=True) for rank in "01"
    ]
    messages = [process.communicate(timeout=110)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], messages[0] + messages[1]
    assert "stage" not in messages[1], "only the main process prints"
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in "01"]


@pytest.mark.parametrize("case", [case.__name__ for case in processes.CASES])
def test_both_processes_have_bit_identical_results(results, case):
    assert results[0][case] == results[1][case]


@pytest.mark.parametrize(
    "case", ["sample_loader", "accumulation", "one_list", "distributed_sampler", "lists_of_pictures", "masked_tokens"]
)
def test_two_processes_have_the_results_of_one(results, case):
    weights, losses = getattr(processes, case)()
    torch.testing.assert_close(torch.tensor(results[0][case][0]), torch.tensor(weights), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(results[0][case][1]), torch.tensor(losses), atol=1e-6, rtol=0)


def test_targets_that_are_not_one_a_sample_are_not_cut(results):
    for message in results[0]["boxes"]:
        assert "it is not known how many samples a batch holds, with inputs of" in message


def test_each_process_s_own_list_holds_parts_of_the_batches(results):
    weights, _ = train(batches((4, 6)))
    torch.testing.assert_close(torch.tensor(results[0]["own_lists"][0]), torch.tensor(weights), atol=1e-6, rtol=0)


def test_a_run_leaves_nothing_on_the_student(results):
    assert results[0]["dropout_and_statistics"][1] is True


def test_the_metrics_are_those_of_the_main_process(results):
    assert results[1]["best_weights"][2] == {"rank": 0.0}


def test_a_resumed_run_has_the_numbers_of_an_undisturbed_one(results):
    whole, parts = results[0]["resume"]
    assert whole == parts


def test_a_cache_in_a_folder_is_shared_and_exact(results):
    weights, recalled = results[0]["cache_in_folder"]
    assert weights == results[0]["no_cache"]
    assert recalled == [0.0, 4 / 7]  # a pass of three batches, then seven at another tap


def test_a_cache_in_memory_is_refused(results):
    assert "give cache.folder" in results[0]["cache_in_memory"]


def test_a_parameter_that_gets_no_gradient_any_more_stops_the_run(results):
    assert results[0]["gradient_missing"].startswith("stage 's', step 1: a parameter got no gradient from this batch")


def test_a_parameter_that_gets_its_gradient_later_stops_the_run(results):
    assert results[0]["gradient_added"].startswith("stage 's', step 1: a parameter got a gradient from this batch")


def test_processes_join_for_each_fit_and_separate_after_it(results):
    first, *others = results[0]["several_fits"]
    assert others == [first, first]
    assert first == results[0]["one_list"]
    assert results[0]["initialized"] is False


def test_validation_covers_all_data_however_it_is_split(results):
    for ours, alone in zip(results[0]["validation"], processes.validation(), strict=True):
        assert ours == pytest.approx(alone, rel=1e-5)


def test_gradient_norms_are_those_of_the_whole_batch(results):
    for ours, alone in zip(results[0]["gradient_norms"], processes.gradient_norms(), strict=True):
        assert ours == [value if value is None else pytest.approx(value, rel=1e-4) for value in alone]


def test_the_user_s_own_wrapper_may_allow_unused_parameters(results):
    assert results[0]["unused_parameters"][1] is True


def test_a_user_s_loop_has_the_gradients_of_the_whole_batch(results):
    student = with_seed(Student, 1)
    distiller = ProgressiveDistiller(teacher(), student, stages(), device="cpu")
    with distiller.stage(0, (PICTURES[:8],)) as objective:
        parameters = objective.parameters()
        objective(PICTURES[:8])[0].backward()
        gradients = [value for parameter in parameters for value in parameter.grad.flatten().tolist()]
    once, twice = (torch.tensor(values) for values in results[0]["own_loop"])
    torch.testing.assert_close(once, torch.tensor(gradients))
    torch.testing.assert_close(twice, once)
