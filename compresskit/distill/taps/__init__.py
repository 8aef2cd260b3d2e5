"""Taps: a tensor inside any module, read or replaced by hooks that exist only inside a `with` block.

- `taps`: tensors at some addresses of a model, read in one forward
- `stop`: the early end of that forward, as soon as everything is read
- `replace`: another tensor in the place of one inside the model
- `compiled`: the same taps on a model that runs through `torch.compile`
"""
