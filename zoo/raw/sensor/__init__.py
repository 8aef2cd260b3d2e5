"""The sensor: its colour filter array, its noise and unevenness, and the encoding of its values.

- `cfa`: which colour each pixel sees; mosaics, and their packing for a network.
- `four_axes`: the same in graphs for runtimes that take four axes at most.
- `sensor`: noise, unevenness and quantisation of a mosaic.
- `imperfections`: the unevenness, as functions of a mosaic.
- `encoding`: linear and display-encoded values.
- `from_mosaic`: packing as a part of a network.
"""
