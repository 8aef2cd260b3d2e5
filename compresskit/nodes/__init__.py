"""Objects from dotted names: the configuration language of a recipe, and the limits of what a name may reach.

A string is a reference; a mapping with `_target_` is called with its other keys (`_args_` are positional). A recipe is
data and must not run code. So a slot takes the names of a list, each with the arguments on the list and no others, and
what they name is imported from the installation, never from the current folder. `allow` (the command line's `--allow`)
lifts all of that for one package.

- `allowed.yaml`: the list.
- `allowed`: the list as objects, and what each slot takes of it.
- `names`: the object of a dotted name, if a recipe may use it in a slot; the packages that the user allows.
- `build`: nodes: checked, and called.
- `downloads`: a block in which nothing is downloaded.
"""

from compresskit.nodes.allowed import Kind as Kind
from compresskit.nodes.build import build as build
from compresskit.nodes.build import check as check
from compresskit.nodes.build import check_listed_options as check_listed_options
from compresskit.nodes.downloads import without_downloads as without_downloads
from compresskit.nodes.names import FORMER_NAMES as FORMER_NAMES
from compresskit.nodes.names import allow as allow
from compresskit.nodes.names import allowed_packages as allowed_packages
from compresskit.nodes.names import find as find
