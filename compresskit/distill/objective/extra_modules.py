"""The modules that train beside the student: adapters, and losses that hold parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from zlib import crc32

import torch
from torch import nn

from compresskit.errors import RecipeError
from compresskit.randomness import own_randomness


@dataclass
class ExtraModules:
    """The adapters and losses of a run, by key. They are never part of the exported student.

    One adapter belongs to one (student tap, teacher tap) pair and lives on from stage to stage.

    Args:
        seed: Seed of their initial values.
        device: Device on which they are.
        dtype: Type of adapters that the engine builds. Losses and modules of the user's own keep theirs.
    """

    seed: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    modules: dict[str, nn.Module] = field(default_factory=dict, init=False)
    _specs: dict[str, str] = field(default_factory=dict, init=False)
    """The specification from which each module was built, as text."""
    _loaded_states: dict[str, Any] = field(default_factory=dict, init=False)
    """The states of a checkpoint, also those of modules that are not built yet."""

    @classmethod
    def for_student(cls, student: nn.Module, seed: int) -> Self:
        """Return an empty collection on the student's device, in double precision if the student is."""
        like = next((p for p in student.parameters() if p.is_floating_point()), torch.empty(0))
        return cls(seed, like.device, torch.promote_types(torch.float32, like.dtype))

    def get_or_build(self, key: str, build: Callable[[], nn.Module], spec: str = "") -> nn.Module:
        """Return the module called `key`, which is built on first use from a seed of its own.

        Args:
            key: The module's name; its initial values depend on it.
            build: Function that builds the module.
            spec: Text of what it is built from.

        Raises:
            RecipeError: It was built from something else before.
        """
        if self._specs.setdefault(key, spec) != spec:
            raise RecipeError(f"{key} is {self._specs[key]} in an earlier term and {spec} here; one pair, one adapter")
        if key not in self.modules:
            with own_randomness(self.seed, crc32(key.encode())):
                module = build()
            if key in self._loaded_states:
                module.load_state_dict(self._loaded_states[key])
            self.modules[key] = module.to(self.device)
        return self.modules[key]

    def state_dict(self) -> dict[str, Any]:
        """Return the states by key, also the loaded ones of modules that are not built yet."""
        return {**self._loaded_states, **{key: module.state_dict() for key, module in self.modules.items()}}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Load the states of a checkpoint, into the modules that exist now and into those built later."""
        self._loaded_states = dict(states)
        for key in self.modules.keys() & states.keys():
            self.modules[key].load_state_dict(states[key])
