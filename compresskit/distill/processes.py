"""The processes that share one run: each works on its part of every batch, and all of them take the same steps."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from compresskit.errors import RecipeError

T = TypeVar("T")


CPU = torch.device("cpu")


PATIENCE = timedelta(hours=12)
"""How long a process waits for another: the first one makes the table at a run's end alone. A launcher ends them all
where one fails."""


_turns = itertools.count()
"""How often this process has joined the others: each time under names of its own in the store where they meet."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of the processes of a run this is. Alone, every method gives back what it was given."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU
    """Where what is exchanged lies."""
    group: Any = None
    """torch's own object; None are all processes that are joined."""

    @classmethod
    def now(cls, device: torch.device = CPU, group: Any = None) -> Self:
        """The processes of a group, by default of all that are joined, or this one alone."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(group), dist.get_world_size(group), device, group)

    @property
    def is_single(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, elementwise."""
        if not self.is_single:
            tensor = tensor.clone()
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def any_async(self, flags: Callable[[], Sequence[bool]]) -> Callable[[], Sequence[bool]]:
        """What tells later, for each flag, whether it was raised in any process when all of them asked.

        Others may answer while this one works. Alone, the flags are those at the time of the answer.
        """
        if self.is_single:
            return flags
        raised = torch.tensor(flags(), dtype=torch.int32, device=self.device)
        work = dist.all_reduce(raised, group=self.group, async_op=True)

        def answer() -> Sequence[bool]:
            if work is not None:
                work.wait()
            return [count > 0 for count in raised.tolist()]

        return answer

    def any(self, *, flag: bool) -> bool:
        """Whether a flag is raised in any process. All of them are there when it returns."""
        return self.any_async(lambda: [flag])()[0]

    def broadcast(self, value: T) -> T:
        """What the first process has here: plain data or tensors."""
        if self.is_single:
            return value
        held = [value]
        dist.broadcast_object_list(held, group=self.group, group_src=0, device=self.device)
        return held[0]

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """What the first process makes, for all of them; the others make nothing.

        Raises:
            SystemExit: In the others, if the first one failed.
        """
        with self.main_first():
            made = [make()] if self.is_main else []
        return self.broadcast(made)[0]

    def gather(self, value: T) -> list[T]:
        """What each process has here, in their order."""
        if self.is_single:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self.group)
        return found

    @torch.no_grad()
    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors the values that they have in the first process."""
        for tensor in () if self.is_single else tensors:
            held = tensor.detach().to(self.device).contiguous()
            dist.broadcast(held.reshape(-1).view(torch.uint8), group=self.group, group_src=0)  # of any type
            if not self.is_main:
                tensor.copy_(held)

    def wait(self) -> None:
        """Return once all processes are here."""
        self.any(flag=False)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Inside, the first process goes ahead and the others follow once it is through.

        What it stumbles over is told once, and what it makes is there for the others.

        Raises:
            SystemExit: In the others, if the first one failed.
        """
        if not self.is_main and self.any(flag=False):
            raise SystemExit(1)
        try:
            yield
        except BaseException:
            if self.is_main:
                self.any(flag=True)
            raise
        if self.is_main:
            self.any(flag=False)


def launched() -> tuple[int, int]:
    """The rank of this process and the number of processes, as a launcher such as `torchrun` tells them."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def is_main() -> bool:
    """Whether this process speaks for all of its run."""
    processes = Processes.now()
    return launched()[0] == 0 if processes.is_single else processes.is_main


def local(device: torch.device) -> torch.device:
    """The GPU that is this process's where several share a machine; any other device as it is.

    Raises:
        RecipeError: There are fewer GPUs than processes.
    """
    processes, (rank, launched_count) = Processes.now(), launched()
    if device.type != "cuda" or device.index is not None or (launched_count == 1 and processes.is_single):
        return device
    place = int(os.environ.get("LOCAL_RANK", rank if processes.is_single else processes.rank))
    gpus = torch.cuda.device_count()
    if place >= gpus:
        raise RecipeError(f"device: process {place} of this machine has no GPU of its own, there are {gpus}")
    return torch.device("cuda", place)


@contextmanager
def init_processes(device: torch.device, group: Any = None) -> Iterator[Processes]:
    """Inside, the processes that a launcher started are joined; a group that is there already is taken and left as is.

    Args:
        device: Where these processes work.
        group: Those that share the run, where they are joined already; None are all.

    Yields:
        The processes; this one alone where no launcher started others.
    """
    if launched()[1] == 1 or not dist.is_available() or dist.is_initialized():
        yield Processes.now(device, group)
        return
    from torch.distributed.distributed_c10d import PrefixStore  # not in every build of torch

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, count = _meeting()
    names = PrefixStore(f"compresskit {next(_turns)}", store)
    dist.init_process_group(backend, store=names, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield Processes.now(device)
    finally:
        dist.destroy_process_group()


@cache
def _meeting() -> tuple[Any, int, int]:
    """Where the launched processes meet, which of them this is, and of how many. They can do so only once."""
    from torch.distributed.rendezvous import rendezvous

    return next(iter(rendezvous("env://", timeout=PATIENCE)))
