"""The processes of one run: each works on its part of every batch, and all of them take the same steps."""

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

TIMEOUT = timedelta(hours=12)
"""Longest wait of a process for another: the main one makes the table at a run's end alone. A launcher ends all of them
where one fails."""

_joins = itertools.count()
"""Number of times that this process has joined the others: each time under new names in the store where they meet."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run, seen from one of them. In a single process every method returns its argument."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU
    """Device of the tensors that are exchanged."""
    group: Any = None
    """torch's process group; None stands for all processes that are joined."""

    @classmethod
    def now(cls, device: torch.device = CPU, group: Any = None) -> Self:
        """Return the processes of a group, by default of all that are joined, or this one alone."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(group), dist.get_world_size(group), device, group)

    @property
    def is_single(self) -> bool:
        """True if there is no other process."""
        return self.count == 1

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0

    def total(self, tensor: Tensor) -> Tensor:
        """Return the elementwise sum over all processes."""
        if not self.is_single:
            tensor = tensor.clone()
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def any_async(self, flags: Callable[[], Sequence[bool]]) -> Callable[[], Sequence[bool]]:
        """Return a function that says later, for each flag, whether any process had raised it at the time of this call.

        The others may answer while this process works. In a single process the flags are read when the answer is.
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
        """Return True if any process has raised the flag. All of them have arrived when it returns."""
        return self.any_async(lambda: [flag])()[0]

    def broadcast(self, value: T) -> T:
        """Return the main process's value: plain data or tensors."""
        if self.is_single:
            return value
        values = [value]
        dist.broadcast_object_list(values, group=self.group, group_src=0, device=self.device)
        return values[0]

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """Call `make` in the main process only, and return its result in all of them.

        Raises:
            SystemExit: In the others, if the main one failed.
        """
        with self.main_first():
            values = [make()] if self.is_main else []
        return self.broadcast(values)[0]

    def gather(self, value: T) -> list[T]:
        """Return each process's value, in their order."""
        if self.is_single:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values

    @torch.no_grad()
    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Copy the values of the main process into tensors."""
        for tensor in () if self.is_single else tensors:
            values = tensor.detach().to(self.device).contiguous()
            dist.broadcast(values.reshape(-1).view(torch.uint8), group=self.group, group_src=0)  # of any type
            if not self.is_main:
                tensor.copy_(values)

    def wait(self) -> None:
        """Return once all processes are here."""
        self.any(flag=False)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block in the main process first, and in the others once it is through.

        An error of the main process is reported once, and the others find what it has made.

        Raises:
            SystemExit: In the others, if the main one failed.
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
    """Return the rank of this process and the number of processes, from a launcher such as `torchrun`."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def is_main() -> bool:
    """Return True in the process that prints for all of its run, joined or not."""
    processes = Processes.now()
    return launched()[0] == 0 if processes.is_single else processes.is_main


def local(device: torch.device) -> torch.device:
    """Return this process's own GPU where several share a machine, and any other device as it is.

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
    """Join the processes that a launcher started, inside the block; a group that exists already is used as it is.

    Args:
        device: Device of this process.
        group: Group of the processes that share the run, where they are joined already; None stands for all.

    Yields:
        The processes; this one alone where no launcher started others.
    """
    if launched()[1] == 1 or not dist.is_available() or dist.is_initialized():
        yield Processes.now(device, group)
        return
    from torch.distributed.distributed_c10d import PrefixStore  # not in every build of torch

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, count = _rendezvous()
    names = PrefixStore(f"compresskit {next(_joins)}", store)
    dist.init_process_group(backend, store=names, rank=rank, world_size=count, timeout=TIMEOUT)
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield Processes.now(device)
    finally:
        dist.destroy_process_group()


@cache
def _rendezvous() -> tuple[Any, int, int]:
    """Return the store where the launched processes meet, this one's rank and their number. It works only once."""
    from torch.distributed.rendezvous import rendezvous

    return next(iter(rendezvous("env://", timeout=TIMEOUT)))
