"""A camera's frames of any size, from a file to a picture: the command `compresskit demosaic`.

- `command`: images from files, through one method, to files; start here.
- `method`: a way to demosaic, by its name or from weights.
- `frame`: a mosaic as its file states it, and the repair of defect pixels.
- `levels`: the user's statements, which override the file, and the levels that follow from both.
- `read`: mosaics from files of any kind, photographs as mosaics, maps of defects.
- `mipi`: binary mosaics without a header.
- `pgm`: grey pictures at their own depth.
- `camera`: camera files, through LibRaw, with a DNG's own tags.
- `development`: levels, white balance, demosaicing and the output's numbers, for a part of a frame.
- `tiled_inference`: a frame within a memory, whole or in tiles, with the same result.
- `memory`: the memory that a module takes, and its return to the system.
- `reach`: the halo of a tile: the distance that a module sees.
- `tiling`: the division of a frame into tiles, and the loop over them.
- `fold_instance_norm`: instance norm as a fixed part of the convolutions before it.
- `writing`: PNG, TIFF and NumPy files, whole or not there.
- `progress`: a bar on the terminal.
"""
