"""Taps: a tensor inside any module, read or replaced by hooks that exist only inside a `with` block.

- `locate`: from an address to a module, and from its output to a tensor; the model below its wrappers
- `taps`: tensors at some addresses of a model, read in one forward; the hooks are placed in `Taps.__enter__`
- `stop`: the early end of that forward, as soon as everything is read
- `replace`: another tensor in the place of one inside the model
- `failure`: a layer that does not take what it gets, named by its path
- `compiled`: the same taps on a model that runs through `torch.compile`
"""
