"""The domains that compresskit is proved on: networks, their data, metrics and baselines, for recipes to name.

- `classify`: small classifiers and digits that need no download. The smallest example of a domain.
- `raw`: the camera. Colour filter arrays, photographs, the sensor, conventional demosaicing, image metrics.
- `pynet`: PyNET and PyNET-QxQ, as plain modules.
- `frames`: a camera's frames of any size, from files to pictures.
- `weights`: trained networks that come with the package.
- `commands`: the command line `compresskit demosaic`.

The engine in `compresskit` never imports this package: a recipe names what it needs by a dotted name.
"""
