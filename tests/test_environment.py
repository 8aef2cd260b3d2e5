import pytest
import torch

from compresskit import environment
from compresskit.distill.cache.options import CacheOptions
from compresskit.environment import free_bytes

MACHINE = {"/proc/meminfo": "MemTotal: 16000 kB\nMemAvailable:    8000 kB"}
VERSION_2 = {
    "/proc/self/cgroup": "0::/user.slice/run.scope",
    "/sys/fs/cgroup/user.slice/memory.max": "5000000",
    "/sys/fs/cgroup/user.slice/memory.current": "4000000",
    "/sys/fs/cgroup/user.slice/memory.stat": "anon 3500000\ninactive_file 500000",
    "/sys/fs/cgroup/user.slice/run.scope/memory.max": "max",
    "/sys/fs/cgroup/user.slice/run.scope/memory.current": "4000000",
}
CONTAINER = {  # its own group is the root of what it sees
    "/proc/self/cgroup": "4:memory:/docker/1f\n3:cpuset:/docker/1f\n0::/",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000",
}


@pytest.fixture
def system(monkeypatch):
    """A function that lets the system describe itself by these files alone."""
    return lambda files: monkeypatch.setattr(environment, "system_text", lambda path: files.get(str(path)))


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MACHINE, 8_192_000),
        (MACHINE | VERSION_2, 1_500_000),  # what is left in the tighter group, and the cached files
        (MACHINE | CONTAINER, 2_000_000),
        (MACHINE | {**CONTAINER, "/sys/fs/cgroup/memory/memory.usage_in_bytes": "4000000"}, 0),
        (VERSION_2, 1_500_000),
    ],
)
def test_free_memory_is_what_the_machine_and_its_control_groups_leave(system, files, free):
    system(files)
    assert free_bytes(torch.device("cpu")) == free


def test_a_cache_on_auto_takes_half_of_the_memory_that_a_container_leaves(system):
    system(MACHINE | CONTAINER)
    assert CacheOptions.of("auto") == CacheOptions(1_000_000, auto=True)
