"""Two processes train one student as one process would. All cases run in one pair: it takes seconds to start."""

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
from tests.distill.processes import PICTURES, Student, batches, learned, made, stages, teacher


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process found, by case."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    usual = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    usual["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, processes.__file__, str(folder)]
    pair = [subprocess.Popen(command, env={**usual, "RANK": rank}, stderr=subprocess.PIPE, text=True) for rank in "01"]
    said = [process.communicate(timeout=110)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said[0] + said[1]
    assert "stage" not in said[1], "one process speaks for both"
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in "01"]


@pytest.mark.parametrize("case", [case.__name__ for case in processes.CASES])
def test_both_processes_come_to_the_same_bit_by_bit(found, case):
    assert found[0][case] == found[1][case]


@pytest.mark.parametrize("case", ["sample_loader", "accumulated", "one_list", "distributed_sampler"])
def test_they_come_to_what_one_process_comes_to(found, case):
    weights, losses = getattr(processes, case)()
    torch.testing.assert_close(torch.tensor(found[0][case][0]), torch.tensor(weights), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(found[0][case][1]), torch.tensor(losses), atol=1e-6, rtol=0)


def test_lists_of_their_own_are_parts_of_one_batch(found):
    weights, _ = learned(batches((4, 6)))
    torch.testing.assert_close(torch.tensor(found[0]["own_lists"][0]), torch.tensor(weights), atol=1e-6, rtol=0)


def test_nothing_is_left_on_the_student(found):
    assert found[0]["apart"][1] is True


def test_the_first_process_says_what_the_student_is_worth(found):
    assert found[1]["best"][2] == {"asked": 0.0}


def test_a_resumed_run_has_the_numbers_of_one_that_nothing_stopped(found):
    whole, parts = found[0]["resumed"]
    assert whole == parts


def test_a_cache_in_a_folder_is_shared_and_exact(found):
    weights, recalled = found[0]["cached"]
    assert weights == found[0]["uncached"]
    assert recalled == [0.0, 4 / 7]  # a pass of three batches, then seven at another tap


def test_a_cache_in_memory_is_refused(found):
    assert "give cache.folder" in found[0]["cached_in_memory"]


def test_a_parameter_that_misses_its_gradient_stops_the_run(found):
    assert found[0]["fickle"].startswith("stage 's', step 1: a parameter got no gradient from this batch")


def test_a_parameter_that_gets_its_gradient_later_stops_the_run(found):
    assert found[0]["late"].startswith("stage 's', step 1: a parameter got a gradient from this batch")


def test_processes_join_for_each_fit_and_part_again(found):
    first, *others = found[0]["joining_often"]
    assert others == [first, first]
    assert first == found[0]["one_list"]
    assert found[0]["joined"] is False


def test_validation_data_is_measured_whole_however_it_is_parted(found):
    for ours, alone in zip(found[0]["validated"], processes.validated(), strict=True):
        assert ours == pytest.approx(alone, rel=1e-5)


def test_gradient_norms_are_those_of_the_whole_batch(found):
    for ours, alone in zip(found[0]["gradient_norms"], processes.gradient_norms(), strict=True):
        assert ours == [value if value is None else pytest.approx(value, rel=1e-4) for value in alone]


def test_the_users_own_wrapper_may_say_that_parameters_go_unused(found):
    assert found[0]["fickle_wrapped"][1] is True


def test_a_loop_of_ones_own_has_the_gradients_of_the_whole_batch(found):
    student = made(Student, 1)
    distiller = ProgressiveDistiller(teacher(), student, stages(), device="cpu")
    with distiller.stage(0, (PICTURES[:8],)) as objective:
        parameters = objective.parameters()
        objective(PICTURES[:8])[0].backward()
        gradients = [value for parameter in parameters for value in parameter.grad.flatten().tolist()]
    once, twice = (torch.tensor(found) for found in found[0]["own_loop"])
    torch.testing.assert_close(once, torch.tensor(gradients))
    torch.testing.assert_close(twice, once)
