"""The keeper of what trains beside the student."""

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
    """What trains beside the student and never leaves with it: adapters, and losses that hold parameters.

    One adapter belongs to one (student tap, teacher tap) pair and lives on from stage to stage.
    """

    seed: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    """Of adapters that are built. Losses and modules of the user's own keep theirs."""
    modules: dict[str, nn.Module] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """What each module was asked for as."""
    _restored: dict[str, Any] = field(default_factory=dict)

    def keep(self, key: str, build: Callable[[], nn.Module], origin: str = "") -> nn.Module:
        """The module called `key`; built on first use, from a seed of its own.

        Raises:
            RecipeError: It was asked for as something else before.
        """
        if self.origins.setdefault(key, origin) != origin:
            raise RecipeError(
                f"{key} is {self.origins[key]} in an earlier term and {origin} here; one pair, one adapter"
            )
        if key not in self.modules:
            with own_randomness(self.seed, crc32(key.encode())):
                module = build()
            if key in self._restored:
                module.load_state_dict(self._restored[key])
            self.modules[key] = module.to(self.device)
        return self.modules[key]

    @classmethod
    def for_student(cls, student: nn.Module, seed: int) -> Self:
        """For a student: on its device, and in double precision where it is in that."""
        like = next((p for p in student.parameters() if p.is_floating_point()), torch.empty(0))
        return cls(seed, like.device, torch.promote_types(torch.float32, like.dtype))

    def state_dict(self) -> dict[str, Any]:
        """States by key, those of modules that are not built again yet included."""
        return {**self._restored, **{key: module.state_dict() for key, module in self.modules.items()}}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Take the states of a checkpoint, for the modules that exist and for those to come."""
        self._restored = dict(states)
        for key in self.modules.keys() & states.keys():
            self.modules[key].load_state_dict(states[key])
