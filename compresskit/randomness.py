"""The global random generators of Python, NumPy and torch: seeded, saved and restored together."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

_bit_generator = np.random.get_bit_generator  # pyright: ignore[reportAttributeAccessIssue]
_set_bit_generator = np.random.set_bit_generator  # pyright: ignore[reportAttributeAccessIssue]


class _States(NamedTuple):
    """The states of the global generators except NumPy's, and of some others, each in its own type."""

    python: Any
    cpu: torch.Tensor
    cuda: list[torch.Tensor]
    others: list[torch.Tensor]

    @classmethod
    def now(cls, others: Sequence[torch.Generator] = ()) -> "_States":
        """Return the present states."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return cls(random.getstate(), torch.get_rng_state(), cuda, [other.get_state() for other in others])

    def restore(self, others: Sequence[torch.Generator] = ()) -> None:
        """Restore the generators to these states."""
        random.setstate(self.python)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        for other, state in zip(others, self.others, strict=True):
            other.set_state(state)


class RandomStream:
    """A stream of random numbers for the code inside `with stream:`, continued by the next such block.

    Outside, the global generators are as if the block had drawn nothing, except that NumPy may lose the second of a
    pair of normal numbers. The stream is entered for every batch, so it does not copy NumPy's state, which takes longer
    than everything else, but puts another generator in its place.

    Args:
        seeds: Seeds of the global generators in the first block.
        others: Further generators that are seeded, saved and restored with them.
    """

    def __init__(self, *seeds: int, others: Sequence[torch.Generator] = ()) -> None:
        self._seeds, self._others = seeds, others
        self._numpy: Any = np.random.MT19937(0)
        self._inside: _States | None = None
        self._outside: list[tuple[_States, Any]] = []

    def __enter__(self) -> None:
        self._outside.append((_States.now(self._others), _bit_generator()))
        _set_bit_generator(self._numpy)
        if self._inside is not None:
            self._inside.restore(self._others)
            return
        seed_all(*self._seeds)
        for other in self._others:
            other.manual_seed(int(torch.randint(2**62, ()).item()))

    def __exit__(self, *error: object) -> None:
        self._inside = _States.now(self._others)
        states, numpy = self._outside.pop()
        states.restore(self._others)
        _set_bit_generator(numpy)


def rng_state() -> dict[str, Any]:
    """Return the state of the Python, NumPy and torch generators, in types that load with `weights_only=True`."""
    (version, internal, gauss), cpu, cuda, _ = _States.now()
    name, keys, *rest = np.random.get_state()
    keys = torch.from_numpy(np.asarray(keys).astype(np.int64))
    return {"python": (version, list(internal), gauss), "numpy": (str(name), keys, *rest), "torch": cpu, "cuda": cuda}


def restore_rng_state(state: dict[str, Any]) -> None:
    """Restore the generators to a state from `rng_state`."""
    (version, internal, gauss), (name, keys, *rest) = state["python"], state["numpy"]
    _States((version, tuple(internal), gauss), state["torch"], state["cuda"], []).restore()
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))


def seed_all(*seeds: int) -> None:
    """Seed the Python, NumPy and torch generators from any number of integers.

    A GPU that is not in use yet is left alone: `torch.manual_seed` would store the seed for later, where it cannot be
    restored, together with the whole call stack, which takes longer than most samples.
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
    """Seed the global generators by `seeds` inside the block; restore them on exit."""
    before, generator, numpy = _States.now(), _bit_generator(), np.random.get_state(legacy=False)
    _set_bit_generator(np.random.MT19937(0))
    seed_all(*seeds)
    try:
        yield
    finally:
        before.restore()
        _set_bit_generator(generator)
        np.random.set_state(numpy)
