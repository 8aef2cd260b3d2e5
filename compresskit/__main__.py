"""`python -m compresskit` is the command `compresskit`."""

import sys

from compresskit.installation import without_current_folder

if __name__ == "__main__":
    with without_current_folder():  # Python has put it before everything else
        from compresskit.cli import main

        sys.exit(main())
