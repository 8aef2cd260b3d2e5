"""Everything a recipe may name: networks, their data, metrics and baselines.

- `zoo.raw`: the camera. Colour filter arrays, photographs, the sensor, conventional demosaicing, image metrics.
- `zoo.pynet`: PyNET and PyNET-QxQ, as plain modules.
- `zoo.classify`: small classifiers and digits that need no download: proof that the engine knows nothing of cameras.

The engine in `compresskit` never imports this package: a recipe names what it needs by a dotted name.
"""
