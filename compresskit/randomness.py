"""The global generators of Python, NumPy and torch: seeded, kept and put back together."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch


class Generators(NamedTuple):
    """The states of the global generators, each in its own type."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: list[torch.Tensor]

    @classmethod
    def now(cls) -> "Generators":
        """As they are."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Put the generators back to these states."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


def rng_state() -> dict[str, Any]:
    """The state of the Python, NumPy and torch generators, in types that load with `weights_only=True`."""
    (version, internal, gauss), (name, keys, *rest), cpu, cuda = Generators.now()
    keys = torch.from_numpy(np.asarray(keys).astype(np.int64))
    return {"python": (version, list(internal), gauss), "numpy": (str(name), keys, *rest), "torch": cpu, "cuda": cuda}


def restore_rng_state(state: dict[str, Any]) -> None:
    """Put the generators back to what `rng_state` saw."""
    (version, internal, gauss), (name, keys, *rest) = state["python"], state["numpy"]
    numpy = (name, keys.numpy().astype(np.uint32), *rest)
    Generators((version, tuple(internal), gauss), numpy, state["torch"], state["cuda"]).restore()


def seed_all(*seeds: int) -> None:
    """Seed the Python, NumPy and torch generators from any number of integers.

    A GPU that is not in use yet stays as it is: `torch.manual_seed` would note the seed for later, where no restoring
    reaches it, and the whole stack with it, which takes longer than most samples.
    """
    words = [int(word) for word in np.random.SeedSequence([int(seed) for seed in seeds]).generate_state(3)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.default_generator.manual_seed(words[2])
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(words[2])
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(words[2])


@contextmanager
def own_randomness(*seeds: int) -> Iterator[None]:
    """Inside, the global generators are seeded by `seeds`; outside they are as if nothing had been drawn."""
    before = Generators.now()
    seed_all(*seeds)
    try:
        yield
    finally:
        before.restore()
