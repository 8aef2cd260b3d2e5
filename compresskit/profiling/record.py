"""What one forward did: every operation, every storage, every module's calls. All counted figures are read off it."""

from dataclasses import dataclass, field

GIVEN = -1
"""Born before the forward: a weight, a buffer or an input."""


@dataclass(slots=True)
class Storage:
    """The memory behind a tensor and its views."""

    bytes: int
    born: int
    """Number of the operation that made it, or `GIVEN`."""
    died: int | None = None
    """Number of the first operation that ran without it; None if it outlived the forward."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, as torch dispatched it."""

    name: str
    modules: tuple[str, ...]
    """Paths of the modules inside which it ran, the outermost, "", first."""
    macs: int
    elementwise: int
    bytes: int
    """Of its operands and results, each once; 0 for a view."""
    workspace: int
    """Bytes that it borrows on this machine's CPU while it runs."""
    counted: bool
    """False where neither a formula nor a table knows it."""
    reads: tuple[int, ...]
    """Numbers of the storages of its operands."""
    writes: tuple[int, ...]
    """And of its results, and of operands that it changes."""
    changes: bool
    """Whether it writes into an operand."""


@dataclass(slots=True)
class Calls:
    """How a module was called."""

    count: int = 0
    output_shape: tuple[int, ...] | None = None
    """Of the first tensor that the first call returned."""
    output_bytes: int = 0
    """Of all tensors that the first call returned."""


@dataclass(slots=True)
class Record:
    """One forward."""

    operations: list[Operation] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    calls: dict[str, Calls] = field(default_factory=dict)
    outputs: frozenset[int] | None = None
    """Numbers of the storages that were returned; None where no tensor was found in what was returned."""
    output_shape: tuple[int, ...] | None = None
    strangers: bool = False
    """Whether a tensor came from nowhere: a constant, or one that numpy made of another out of sight."""
