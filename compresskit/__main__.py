"""`python -m compresskit` is the command `compresskit`."""

import sys

from compresskit.cli import main

if __name__ == "__main__":
    sys.exit(main())
