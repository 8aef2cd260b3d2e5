"""Labels carried through a forward, operator by operator, so that coupled channels are united."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from compresskit.inheritance.channels import Channels
from compresskit.inheritance.labels import Label, along, compact, core, covering, pairs
from compresskit.nested import call_model, tensors_in
from compresskit.restore import preserve_state

VIEWS = {"view", "_unsafe_view", "reshape"}
REARRANGEMENTS = VIEWS | {
    *("permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "slice", "select", "split", "split_with_sizes"),
    *("unbind", "flip", "roll", "repeat", "index", "index_select", "pixel_shuffle", "pixel_unshuffle", "unfold"),
    *("channel_shuffle", "alias", "detach", "diagonal", "constant_pad_nd"),
}
SAME_PLACES = {"_softmax", "_log_softmax", "native_dropout", "cumsum", "masked_fill", "clone", "_to_copy", "lift_fresh"}
REDUCTIONS = {"mean", "sum", "amax", "amin", "var", "std", "linalg_vector_norm", "prod", "logsumexp", "max", "min"}
SPATIAL = ("max_pool", "avg_pool", "_adaptive_avg_pool", "adaptive_max_pool", "upsample", "reflection_pad")
SPATIAL += ("replication_pad", "_upsample")
NORMS = ("native_batch_norm", "_native_batch_norm", "cudnn_batch_norm", "_batch_norm")


class Call(NamedTuple):
    """One call of an operator."""

    func: Any
    args: Any
    kwargs: Any
    outputs: Any


@torch.no_grad()
def trace_channels(model: nn.Module, inputs: Any) -> Channels:
    """Return the channels of a model, united by one forward in eval mode; the model stays as it was."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with preserve_state(model, buffers=True):
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # one opaque operator for a whole transformer layer
        try:
            trace = ChannelTrace(model)
            with trace:
                outputs = call_model(model, inputs)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    for tensor in tensors_in(outputs):
        for label in trace.labels.get(tensor, ()):
            trace.channels.pin(core(label.ids).unique().tolist(), "output")
    return trace.channels


class ChannelTrace(TorchDispatchMode):
    """A forward's operators, each applied to the labels of its arguments as well."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.channels = Channels()
        self.labels: Any = WeakIdKeyDictionary()
        self._names: Any = WeakIdKeyDictionary()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            self._names[tensor] = name
            axes = [self._numbers(name, dim, size) for dim, size in enumerate(tensor.shape)]
            labels = [
                Label(along(ids, dim, tensor.shape), weight=True, dim=dim)
                for dim, ids in enumerate(axes)
                if tensor.numel()
            ]
            self.labels[tensor] = tuple(labels)

    def _numbers(self, name: str, dim: int, size: int) -> Tensor:
        return torch.tensor(list(self.channels.new_axis((name, dim), size)), dtype=torch.int64)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        operands = [tensor for tensor in tensors_in([args, kwargs or {}]) if self.labels.get(tensor)]
        if operands:
            name = func.name().removeprefix("aten::").partition(".")[0]
            base = name.rstrip("_")
            rule = self._rule(base, func)
            if rule is None:
                self._pin(operands, f"the operator {name} is not understood")
            else:
                rule(Call(func, args, kwargs or {}, outputs))
        return outputs

    def _rule(self, name: str, func: Any) -> Callable[..., None] | None:
        own = getattr(self, f"_{name.lstrip('_')}", None) if name in _OWN else None
        if own is not None:
            return own
        if name in REARRANGEMENTS:
            return self._rearrange
        if name in REDUCTIONS and func.name().partition(".")[2] != "other":
            return self._reduce
        if name.startswith(SPATIAL):
            return self._spatial
        if name.startswith(NORMS):
            return self._batch_norm
        if name.startswith("_scaled_dot_product"):
            return self._attend
        return self._elementwise if name in SAME_PLACES or torch.Tag.pointwise in func.tags else None

    def _pin(self, tensors: Sequence[Tensor], reason: str) -> None:
        for tensor in tensors:
            for label in self.labels.get(tensor, ()):
                self.channels.pin(core(label.ids).unique().tolist(), reason)

    def _of(self, tensor: Any) -> tuple[Label, ...]:
        return self.labels.get(tensor, ()) if isinstance(tensor, Tensor) else ()

    def _channels_of(self, tensor: Any) -> list[Label]:
        """Return a tensor's labels, without those of a parameter's axes of size 1, which only broadcast."""
        labels = list(self._of(tensor))
        if any(label.weight and label.varying for label in labels):
            return [label for label in labels if label.varying]
        return labels[-1:] if labels and labels[0].weight else labels

    def _set(self, tensor: Any, labels: Sequence[Label]) -> None:
        kept = [Label(compact(item.ids), item.weight, item.dim) for item in labels if item.ids.numel()]
        self.labels[tensor] = tuple(item for item in kept if bool(core(item.ids).any()))

    def _rearrange(self, call: Call) -> None:
        many = isinstance(call.outputs, (list, tuple))
        results: list[list[Label]] = [[] for _ in (call.outputs if many else [call.outputs])]
        name = call.func.name().removeprefix("aten::").partition(".")[0]
        for label in self._of(call.args[0]):
            if name in VIEWS:
                moved: Any = label.ids.reshape(call.outputs.shape)
            else:
                moved = call.func(label.ids, *call.args[1:], **call.kwargs)
            dim = self._moved_dim(name, label)
            for result, ids in zip(results, moved if many else [moved], strict=True):
                result.append(Label(ids, label.weight, dim))
        for output, result in zip(call.outputs if many else [call.outputs], results, strict=True):
            self._set(output, result)

    def _moved_dim(self, name: str, label: Label) -> int | None:
        """Return the dimension of a weight's label after a transposition; other rearrangements forget it."""
        if name in ("t", "alias", "detach") and label.dim is not None:
            return label.ids.ndim - 1 - label.dim if name == "t" else label.dim
        return None

    def _elementwise(self, call: Call) -> None:
        output = call.outputs[0] if isinstance(call.outputs, tuple) else call.outputs
        if call.func.name().startswith("aten::copy_") and call.args[0]._is_view():  # noqa: SLF001 - torch has no other name
            self._pin([call.args[1]], "it is written into a part of a tensor")
        merged: list[Label] = []
        for tensor in tensors_in([call.args, call.kwargs]):
            for label in self._channels_of(tensor):
                self._merge(merged, label, whole=tensor.shape == output.shape, shape=output.shape)
        self._set(output, merged)

    def _merge(self, merged: list[Label], label: Label, *, whole: bool, shape: torch.Size) -> None:
        """Unite a label with the one of the same dimensions, or add it."""
        ids = label.ids.expand(shape)
        varying = Label(ids).varying

        def overlap(other: Label) -> tuple[bool, int]:
            return other.varying == varying, len(other.varying & varying)

        for index, other in sorted(enumerate(merged), key=lambda item: overlap(item[1]), reverse=True):
            if other.varying & varying or (whole and not varying and not other.varying):
                self.channels.unite(pairs(other.ids, ids))
                both = torch.where(other.ids == 0, ids, other.ids)
                merged[index] = Label(compact(both), other.weight and label.weight)
                return
        merged.append(Label(ids, label.weight))

    def _collapsed(self, ids: Tensor, dims: Sequence[int]) -> Tensor:
        """Unite the channels along some dimensions, and return one of them for each place of the others."""
        for dim in dims:
            first = ids.narrow(dim, 0, 1)
            if ids.shape[dim] > 1 and ids.stride(dim) != 0:
                self.channels.unite(pairs(ids, first))
            ids = first
        return ids

    def _reduce(self, call: Call) -> None:
        output = call.outputs[0] if isinstance(call.outputs, tuple) else call.outputs
        dims = call.args[1] if len(call.args) > 1 and call.args[1] is not None else list(range(call.args[0].ndim))
        dims = [d % call.args[0].ndim for d in ([dims] if isinstance(dims, int) else dims)] or list(
            range(call.args[0].ndim)
        )
        result = []
        for label in self._of(call.args[0]):
            if label.varying <= set(dims) and (label.varying or label.dim in dims):
                continue
            ids = self._collapsed(label.ids, dims)
            if output.ndim < call.args[0].ndim:
                ids = ids.squeeze(dims)
            result.append(Label(ids.expand(output.shape), label.weight))
        self._set(output, result)

    def _spatial(self, call: Call) -> None:
        output = call.outputs[0] if isinstance(call.outputs, tuple) else call.outputs
        count = int(next(c for c in call.func.name() if c in "123")) if "linear1d" not in call.func.name() else 1
        dims = range(output.ndim - count, output.ndim)
        labels = self._of(call.args[0])
        self._set(output, [Label(self._collapsed(item.ids, dims).expand(output.shape)) for item in labels])

    def _cat(self, call: Call) -> None:
        tensors, dim = call.args[0], (call.args[1] if len(call.args) > 1 else 0) % call.outputs.ndim
        labels = [self._channels_of(tensor) for tensor in tensors]
        own = [[item for item in items if not item.varying or dim in item.varying] for items in labels]
        parts = [
            items[0].ids if items else torch.zeros(t.shape, dtype=torch.int64)
            for items, t in zip(own, tensors, strict=True)
        ]
        merged: list[Label] = [Label(torch.cat(parts, dim))] if any(own) else []
        for every, items in zip(labels, own, strict=True):
            for label in every:
                if label not in items:
                    ids = label.ids.narrow(dim, 0, 1).expand(call.outputs.shape)
                    self._merge(merged, Label(ids), whole=False, shape=call.outputs.shape)
        self._set(call.outputs, merged)

    def _stack(self, call: Call) -> None:
        dim = (call.args[1] if len(call.args) > 1 else 0) % call.outputs.ndim
        merged: list[Label] = []
        for tensor in call.args[0]:
            for label in self._channels_of(tensor):
                ids = label.ids.unsqueeze(dim).expand(call.outputs.shape)
                self._merge(merged, Label(ids), whole=False, shape=call.outputs.shape)
        self._set(call.outputs, merged)

    def _batch_norm(self, call: Call) -> None:
        self._per_channel(call.args[0], call.args[1:5], 1, call.outputs[0])

    def _native_layer_norm(self, call: Call) -> None:
        self._per_channel(call.args[0], call.args[2:4], call.args[0].ndim - 1, call.outputs[0])

    def _native_group_norm(self, call: Call) -> None:
        self._per_channel(call.args[0], call.args[1:3], 1, call.outputs[0])
        channels, groups = call.args[4], call.args[6]
        if 1 < groups < channels:
            for label in covering(self._of(call.outputs[0]), 1):
                self._blocks(self._channel_ids(label, 1).reshape(groups, -1))

    def _per_channel(self, tensor: Tensor, parameters: Sequence[Any], dim: int, output: Tensor) -> None:
        merged = list(self._of(tensor))
        for parameter in parameters:
            for label in self._of(parameter)[-1:]:
                ids = along(label.ids.reshape(-1), dim, tensor.shape)
                whole = tensor.shape[dim] == 1
                self._merge(merged, Label(ids), whole=whole, shape=tensor.shape)
        self._set(output, [Label(item.ids) for item in merged])

    def _channel_ids(self, label: Label, dim: int) -> Tensor:
        """Return the numbers along one dimension, with those along all others united."""
        return (
            self._collapsed(label.ids, [d for d in range(label.ids.ndim) if d != dim])
            .expand([label.ids.shape[d] if d == dim else 1 for d in range(label.ids.ndim)])
            .reshape(-1)
        )

    def _blocks(self, rows: Tensor) -> Tensor:
        """Put the channels of each row into a block, and return the blocks; equal rows are one block."""
        known: dict[tuple[int, ...], int] = {}
        blocks = []
        for row in core(rows).expand(len(rows), -1).tolist():
            key = tuple(self.channels.find(number) for number in row)
            block = known.get(key) or self.channels.new_block()
            known[key] = block
            self.channels.unite((number, block) for number in row)
            blocks.append(block)
        return torch.tensor(blocks, dtype=torch.int64)

    def _convolution(self, call: Call) -> None:
        tensor, weight, bias, transposed, groups = call.args[0], call.args[1], call.args[2], call.args[6], call.args[8]
        name = self._names.get(weight)
        if name is None or (transposed and groups > 1):
            return self._pin([tensor, weight], "a convolution of this kind is not understood")
        inner, outer = (0, 1) if transposed else (1, 0)
        labels = self._of(weight)
        into, out = self._channel_ids(labels[inner], inner), self._channel_ids(labels[outer], outer)
        if groups > 1:
            into = self._grouped(name, into, out, tensor.shape[1], groups)
        self.channels.outputs.add((name, outer))
        if groups == 1 or groups != tensor.shape[1] or len(out) != groups:
            self.channels.inputs.add((name, inner))
        for label in covering(self._of(tensor), 1):
            self.channels.unite(pairs(self._channel_ids(label, 1), into))
        for label in self._of(bias):
            self.channels.unite(pairs(label.ids, out))
        return self._set(call.outputs, [Label(along(out, 1, call.outputs.shape))])

    def _grouped(self, name: str, own: Tensor, out: Tensor, inputs: int, groups: int) -> Tensor:
        """Return the numbers of a grouped convolution's inputs, counted over all groups."""
        if groups == inputs == len(out):
            return out
        known = self.channels.groups.get(name)
        into = own if known else self._numbers(name, 1, inputs)
        self.channels.groups[name] = groups
        self._blocks(torch.cat([into.reshape(groups, -1), out.reshape(groups, -1)], dim=1))
        return into

    def _embedding(self, call: Call) -> None:
        labels = self._of(call.args[0])
        if labels:
            ids = self._channel_ids(labels[-1], 1)
            self._role(self.channels.outputs, ids)
            self._set(call.outputs, [Label(along(ids, call.outputs.ndim - 1, call.outputs.shape))])

    def _mm(self, call: Call) -> None:
        self._contract(call.args[0], call.args[1], call.outputs)

    _bmm = _mm

    def _addmm(self, call: Call) -> None:
        self._contract(call.args[1], call.args[2], call.outputs)
        merged = list(self._of(call.outputs))
        for label in self._of(call.args[0]):
            self._merge(merged, Label(label.ids), whole=call.outputs.shape[-1] == 1, shape=call.outputs.shape)
        self._set(call.outputs, merged)

    _baddbmm = _addmm

    def _role(self, role: set[Any], ids: Tensor) -> None:
        role.update(axis for axis in map(self.channels.axis_of, core(ids).unique().tolist()) if axis)

    def _contract(self, one: Tensor, other: Tensor, output: Tensor) -> None:
        """Unite the channels that a matrix product sums over; each operand's other channels are the product's."""
        rows, columns = one.ndim - 1, other.ndim - 2
        labels = self._product(self._of(one), self._of(other), rows, columns, output.shape)
        self._set(output, labels)

    def _product(
        self, ones: Sequence[Label], others: Sequence[Label], last: int, first: int, shape: torch.Size
    ) -> list[Label]:
        inner, outer = covering(ones, last), covering(others, first)
        for one in inner:
            for other in outer:
                a = self._collapsed(one.ids, [last - 1]).transpose(-1, -2)
                self.channels.unite(pairs(a, self._collapsed(other.ids, [last])))
        for label in (*inner, *outer):
            if label.weight:
                self._role(self.channels.inputs, label.ids)
        passed = []
        for label in (*(item for item in ones if item not in inner), *(item for item in others if item not in outer)):
            if label.weight:
                self._role(self.channels.outputs, label.ids)
            summed = last if any(label is item for item in ones) else first
            passed.append(Label(label.ids.narrow(summed, 0, 1).expand(shape)))
        if last == 2:
            self._heads((*ones, *others), passed, shape)
        return passed

    def _heads(self, labels: Sequence[Label], passed: list[Label], shape: torch.Size) -> None:
        """Keep the channels of each matrix of a batched product together: they are an attention head's."""
        rows = [
            self._collapsed(item.ids, []).contiguous().reshape(shape[0], -1) for item in labels if 0 in item.varying
        ]
        if not rows:
            return
        blocks = self._blocks(torch.cat([torch.stack([row.unique() for row in r]) for r in rows], dim=1))
        if not any(0 in item.varying for item in passed):
            passed.append(Label(along(blocks, 0, shape)))

    def _attend(self, call: Call) -> None:
        query, key, value = call.args[:3]

        def flat(tensor: Tensor) -> list[Label]:
            return [Label(compact(item.ids.reshape(-1, *tensor.shape[-2:]))) for item in self._of(tensor)]

        output = call.outputs[0] if isinstance(call.outputs, tuple) else call.outputs
        batch = query.shape[0] * query.shape[1]
        if key.shape[1] != query.shape[1]:
            return self._pin([query, key, value], "attention with shared keys is not understood")
        turned = [Label(item.ids.transpose(-1, -2)) for item in flat(key)]
        scores = self._product(flat(query), turned, 2, 1, torch.Size((batch, query.shape[2], key.shape[2])))
        shape = torch.Size((batch, query.shape[2], value.shape[3]))
        result = self._product([Label(compact(item.ids)) for item in scores], flat(value), 2, 1, shape)
        return self._set(output, [Label(item.ids.reshape(output.shape)) for item in result])


_OWN = {
    *("cat", "stack", "native_layer_norm", "native_group_norm", "convolution", "embedding"),
    *("mm", "bmm", "addmm", "baddbmm"),
}
"""Operators with a method of their own."""
