"""Demosaicing without a network: modules from packed mosaics to pictures.

- `baselines`: normalised convolution, Malvar's filters for Bayer arrays, and averaged blocks.
- `menon`: Menon's method for Bayer arrays.
- `steered`: kernels that follow the edges.
- `lmmse`: the best linear filters, fitted to photographs.
- `remosaic`: a Bayer mosaic first, then a method for Bayer arrays.
- `methods`: all of them by name.
"""
