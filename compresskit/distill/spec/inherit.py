"""Inherit: a student's initial weights from one of its teachers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compresskit.distill.spec.address import TEACHER
from compresskit.errors import RecipeError, close_names

_KEYS = ("from", "names")


@dataclass(frozen=True, slots=True)
class Inherit:
    """A student starts from its teacher's weights, pruned to its own widths; see `compresskit.inherit`."""

    teacher: str = TEACHER
    """The name of the teacher."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The teacher's module for modules of the student that have another name; a key may be a glob."""

    @classmethod
    def of(cls, value: Any) -> "Inherit | None":
        """Return the option as a user writes it: a teacher's name, `{from: NAME, names: {…}}`, or None.

        Raises:
            RecipeError: The option is something else; the message's path starts inside the option.
        """
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            raise RecipeError(f"inherit must be a teacher's name or {{from: NAME, names: {{…}}}}, got {value!r}")
        for key in value:
            if key not in _KEYS:
                raise RecipeError(f"inherit has no option {key!r}{close_names(str(key), _KEYS)}", path=(key,))
        teacher, names = value.get("from", TEACHER), value.get("names") or {}
        if not isinstance(teacher, str):
            raise RecipeError(f"from must be a teacher's name, got {teacher!r}", path=("from",))
        if not isinstance(names, Mapping) or not all(isinstance(x, str) for pair in names.items() for x in pair):
            raise RecipeError(
                f"names must be a mapping of the student's modules to the teacher's, got {names!r}", path=("names",)
            )
        return cls(teacher, dict(names))

    def to_node(self) -> str | dict[str, Any]:
        """Return the option as a recipe writes it."""
        return {"from": self.teacher, "names": dict(self.names)} if self.names else self.teacher
