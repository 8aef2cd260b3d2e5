"""Scores and pictures of demosaicing methods, networks and baselines alike.

- `metrics`: PSNR, SSIM and MS-SSIM.
- `artefacts`: zipper effect and false colour.
- `evaluation`: all metrics of a model on whole photographs.
- `side_by_side`: a picture of one photograph by several models.
- `sheet`: a picture of the places where a model is worst.
"""
