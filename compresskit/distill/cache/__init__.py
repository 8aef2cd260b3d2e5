"""The teacher cache: frozen teachers' tensors, kept by sample, so that from the second pass on no teacher runs.

- `options`: the values that `cache` may have: budget, type, folder
- `cache`: the cache of a run: which stores a stage needs, and whether they fit
- `lookup`: one teacher's tensors for a batch, recalled or from a run
- `store`: tensors by key, in memory or in a folder that processes share
- `fingerprints`: checksums of inputs and digests of models, by which equal ones are recognised
- `determinism`: the check that a sample's tensors depend on that sample alone
"""
