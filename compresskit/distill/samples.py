"""The samples of a nested batch: their number, and the part of them that one process has.

A batch does not say by itself how many samples it holds: a tensor's first dimension may be time, channels of one image,
or boxes of all images. The number is therefore taken only where everything agrees, and None where it does not.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from compresskit.errors import DataError
from compresskit.nested import map_items, tensors_in


def sample_count(inputs: Any, targets: Any = None, declared: int | None = None) -> int | None:
    """Return the number of samples in a batch, or None if it is not known.

    It is the length that all inputs have in common, if one of the targets has it too: the first dimension of a tensor,
    the number of items of a list. A tuple, a mapping and a list at the top hold a model's arguments; such a list may
    also hold one item a sample if its length is that of the targets.

    Args:
        inputs: Inputs of the batch.
        targets: Targets of the batch.
        declared: Number of samples that the loader put into the batch. It counts where the lengths do not agree, and
            where all of them are the lengths of sequences whose second dimension is the batch.
    """
    if isinstance(inputs, Tensor) and isinstance(targets, Tensor) and declared is None and inputs.dim():
        count = inputs.shape[0]  # the usual batch, in the least time
        if targets.dim() == 0 or targets.shape[0] == count:
            return count
        return None
    of_arguments = set(_lengths(list(inputs) if isinstance(inputs, (list, tuple)) else inputs, at_top=True))
    of_items = {len(inputs)} if isinstance(inputs, list) and inputs else of_arguments
    of_targets = set(_lengths(targets))
    agreed = None
    for lengths in (of_arguments, of_items):
        if len(lengths) == 1 and (lengths <= of_targets or (not of_targets and of_items == of_arguments)):
            agreed = next(iter(lengths))
            break
    if declared is None or agreed == declared:
        return agreed
    return declared if agreed is None or _is_time_first((inputs, targets), declared) else agreed


def may_be_time_first(inputs: Any, targets: Any) -> bool:
    """Return whether a batch can be read as sequences whose second dimension is the batch."""
    tensors = [tensor for tensor in tensors_in((inputs, targets)) if tensor.dim()]
    return all(2 <= tensor.dim() <= 3 for tensor in tensors) and len({tensor.shape[1] for tensor in tensors}) == 1


def lengths_text(inputs: Any, targets: Any) -> str:
    """Return the lengths of a batch's inputs and targets, for a message."""
    texts = []
    for name, value in (("inputs", inputs), ("targets", targets)):
        lengths = list(dict.fromkeys(_lengths(value, at_top=name == "inputs")))
        texts.append(f"{name} of {', '.join(map(str, lengths[:4])) or 'no length'}")
    return " and ".join(texts)


def rows_of(value: Any, count: int, rows: slice, *, at_top: bool = False, shared: bool = False) -> Any:
    """Return some samples of a nested batch of `count`: rows of its tensors, and items of its lists.

    Args:
        value: Inputs or targets of the batch.
        count: Number of samples in the batch.
        rows: The samples to return.
        at_top: Whether a list holds a model's arguments.
        shared: Whether a tensor of another length belongs to all samples; else it is refused.

    Raises:
        DataError: A tensor has another length, so it is not known what of it belongs to which sample.
    """
    if isinstance(value, Tensor):
        if value.dim() and value.shape[0] != count:
            if shared:
                return value
            raise DataError(
                f"a tensor of shape {tuple(value.shape)} in a batch of {count} samples does not have one row a sample, "
                "so it cannot be shared out between processes: give each process batches of its own (a DataLoader with "
                "a DistributedSampler), or a list with one item a sample"
            )
        return value[rows] if value.dim() else value
    if isinstance(value, list) and len(value) == count:
        arguments = at_top and all(tensor.dim() == 0 or tensor.shape[0] == count for tensor in tensors_in(value))
        if not arguments:
            return value[rows]
    return map_items(lambda item: rows_of(item, count, rows, shared=shared), value)


def _lengths(value: Any, *, at_top: bool = False) -> Iterator[int]:
    """Yield the lengths of the tensors and lists in a nested value; the items of a list are not looked at."""
    if isinstance(value, Tensor):
        if value.dim():
            yield value.shape[0]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _lengths(item)
    elif isinstance(value, tuple) or (at_top and isinstance(value, list)):
        for item in value:
            yield from _lengths(item)
    elif isinstance(value, list):
        yield len(value)


def _is_time_first(value: Any, count: int) -> bool:
    tensors = [tensor for tensor in tensors_in(value) if tensor.dim()]
    return bool(tensors) and all(t.dim() > 1 and t.shape[1] == count != t.shape[0] for t in tensors)
