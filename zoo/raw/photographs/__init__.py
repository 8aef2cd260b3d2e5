"""Photographs as training and test data.

- `dataset`: pairs of a packed mosaic and the photograph that it shows.
- `photographs`: the photographs of a folder, or those in two Python wheels.
- `read`: a photograph from its file, in 8 or 16 bits.
- `targets`: the reduced pictures that PyNET's coarse levels learn from.
- `losses`: a loss that leaves out the border of a crop.
"""
