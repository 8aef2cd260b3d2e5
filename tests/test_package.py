"""What the package shows, what importing it does, and who imports whom."""

import ast
import importlib.metadata
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from importlinter.cli import lint_imports

import compresskit

ROOT = Path(__file__).parents[1]

PUBLIC = [
    "Callback",
    "CompressKitError",
    "DataError",
    "Evaluation",
    "Match",
    "ProgressiveDistiller",
    "RecipeError",
    "ShapeError",
    "Splice",
    "Stage",
    "TapError",
    "Task",
    "compare",
    "curricula",
    "inherit",
    "load_model",
    "load_recipe",
    "profile",
    "run_recipe",
]

STATE = """
import json, logging, os, random, signal, sys, threading, warnings
import numpy, torch

def state():
    return {
        "environment": dict(os.environ),
        "path": list(sys.path),
        "folder": os.getcwd(),
        "threads of torch": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "threads": threading.active_count(),
        "torch": [str(torch.get_default_dtype()), str(torch.get_default_device()), torch.is_grad_enabled()],
        "deterministic": [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark],
        "precision": torch.get_float32_matmul_precision(),
        "random": [str(random.getstate()), str(numpy.random.get_state()), torch.get_rng_state().tolist()],
        "log handlers": [str(handler) for handler in logging.getLogger().handlers],
        "warnings": [str(rule) for rule in warnings.filters],
        "hooks": [str(sys.excepthook), str(sys.displayhook)],
        "Ctrl-C": str(signal.getsignal(signal.SIGINT)),
    }

before, modules = state(), set(sys.modules)
import compresskit
for name in compresskit.__all__:
    getattr(compresskit, name)
after = state()
print(json.dumps({
    "changed": [key for key in before if before[key] != after[key]],
    "loaded": sorted({name.partition(".")[0] for name in set(sys.modules) - modules}),
}))
"""


def _printed_by(script):
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    return json.loads(run.stdout)


def test_the_public_names_are_these_and_exist():
    assert sorted(compresskit.__all__) == PUBLIC
    assert all(hasattr(compresskit, name) for name in PUBLIC)


def test_importing_the_package_does_not_wait_for_torch():
    script = "import compresskit, json, sys; print(json.dumps('torch' in sys.modules))"
    assert _printed_by(script) is False


def test_importing_every_public_name_starts_nothing_and_loads_nothing_heavy():
    found = _printed_by(STATE)
    assert found["changed"] == []
    heavy = {
        "matplotlib",
        "skimage",
        "sklearn",
        "torchmetrics",
        "torchvision",
        "torchdistill",
        "typer",
        "zoo",
        "thop",
        "fvcore",
    }
    assert heavy.isdisjoint(found["loaded"])


def test_imports_point_the_way_the_design_says(capsys):
    broken = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert not broken, capsys.readouterr().out


def test_no_file_imports_one_that_imports_it():
    """Imports inside functions and for type checkers count, too; import-linter sees circles between its layers only."""
    files = {_module(file): file for package in ("compresskit", "zoo") for file in (ROOT / package).rglob("*.py")}
    imports = {name: {target for target in _imports(file) if target in files} for name, file in files.items()}
    list(
        TopologicalSorter({name: targets - {name} for name, targets in imports.items()}).static_order()
    )  # or CycleError


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(file: Path) -> set[str]:
    """Return the modules that a file may import: of `from a import b` both `a.b` and, where that is no module, `a`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                path = ROOT / f"{node.module}.{alias.name}".replace(".", "/")
                is_module = path.is_dir() or path.with_suffix(".py").exists()
                names.add(f"{node.module}.{alias.name}" if is_module else str(node.module))
    return names


def test_the_package_is_marked_as_typed_and_has_its_command():
    assert (ROOT / "compresskit" / "py.typed").exists()
    assert (ROOT / "zoo" / "py.typed").exists()
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="compresskit")
    assert command.value == "compresskit.cli:main"
