"""Camera files: DNG, and all others that LibRaw reads. They need the extra `camera`.

- `camera`: a camera file to a frame; start here.
- `tiff`: the tags of a DNG, each checked against the file's length.
- `libraw`: the pixels, and what LibRaw says about a file.
- `geometry`: which tags belong to the pixels, the array's phase, and the picture's turn.
- `damage`: strips and tiles that the file does not hold.
- `black`: black levels by place, row and column, and the masked border.
- `opcodes`: corrections that a DNG asks for; gain maps are applied.
"""

from zoo.frames.camera.camera import read_camera as read_camera
from zoo.frames.camera.libraw import UnsupportedError as UnsupportedError
