"""Mutated recipes and command lines, and what counts as a fault of the answer.

    python tests/fuzzing.py SEED SECONDS

runs in an empty temporary folder as long as that, and prints the number of inputs and every fault.
"""

import copy
import io
import os
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from compresskit.cli import main

MARKER = "ran"
EVIL = f"from pathlib import Path\nPath({MARKER!r}).touch()\n"
NETWORK = {
    "_target_": "torch.nn.Sequential",
    "_args_": [
        {"_target_": "torch.nn.Flatten"},
        {"_target_": "torch.nn.Linear", "in_features": 64, "out_features": 10},
    ],
}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
DIGITS = {"_target_": "zoo.classify.Digits", "split": "train", "per_class": 2}
RECIPES = [
    {
        "name": "plain",
        "seed": 0,
        "teacher": NETWORK,
        "student": NETWORK,
        "data": {"train": DIGITS, "test": {**DIGITS, "split": "test"}, "batch_size": 4},
        "pretrain": [{"name": "labels", "steps": 2, "tasks": ["cross_entropy"], "optimizer": SGD}],
        "stages": [
            {
                "name": "all",
                "steps": 2,
                "matches": [
                    {
                        "student": ".",
                        "loss": "kl",
                        "temperature": 2.0,
                        "weight": {"schedule": "linear", "start": 1, "end": 0},
                    }
                ],
                "tasks": [{"loss": "cross_entropy", "weight": 1.0}],
                "optimizer": SGD,
                "scheduler": {"_target_": "compresskit.schedules.WarmupCosine", "warmup": 0.1},
                "clip": 1.0,
            }
        ],
        "control": True,
        "evaluate": {"_target_": "zoo.classify.ClassificationEvaluation"},
        "presets": {"quick": {"stages.0.steps": 1}, "other": {"extends": "quick", "seed": 3}},
    },
    {
        "teacher": {"_target_": "zoo.classify.ResidualNet", "width": 4},
        "student": {"_target_": "zoo.classify.PlainNet", "width": 2},
        "data": {"train": DIGITS, "batch_size": 4},
        "stages": {
            "_target_": "compresskit.curricula.progressive",
            "matches": [{"student": "levels.0", "loss": "relative_mse", "adapter": "auto"}, "."],
            "tasks": ["cross_entropy"],
            "steps": [1, 2],
            "optimizer": SGD,
        },
        "views": {"teacher": {"_target_": "compresskit.distill.views.Resized", "size": 8}},
    },
    {
        "student": NETWORK,
        "data": {
            "train": {
                "_target_": "torchvision.datasets.FakeData",
                "size": 4,
                "image_size": [1, 8, 8],
                "num_classes": 10,
                "transform": {"_target_": "torchvision.transforms.ToTensor"},
            }
        },
        "stages": [
            {"name": "one", "epochs": 1, "tasks": [{"loss": "torch.nn.functional.cross_entropy", "student": "."}]}
        ],
    },
]
HOSTILE = [
    {"_target_": "compresskit.commands.run.run", "recipe": "inner.yaml", "allow": ["evil"]},
    {"_target_": "evil.run"},
    {"_target_": "os.system", "command": f"touch {MARKER}"},
    {"_target_": "builtins.eval", "_args_": [f"open({MARKER!r}, 'w')"]},
    {"_target_": "torch.load", "f": "evil.pt", "weights_only": False},
    {"_target_": "timm.create_model", "_args_": ["resnet18", False, None, None, "evil.pt"]},
    {
        "_target_": "torch.utils.data.ConcatDataset",
        "datasets": [{"_target_": "torch.utils.data.datapipes.iter.FileLister", "root": "."}],
    },
    {"_target_": "torch.nn.ModuleList", "modules": [{"_target_": "torch.nn.ReLU"}, 3]},
    {"_target_": "torchvision.datasets.ImageFolder", "root": "."},
    {"_target_": "torchvision.transforms.v2.Lambda", "lambd": "evil.run"},
    {"_target_": "torch.fx.GraphModule", "root": {}, "graph": "x"},
    {"_target_": "torch.utils.tensorboard.SummaryWriter"},
    {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 2},
    {"_target_": "torch.nn.Identity"},
    {"_target_": "zoo.raw.CFA", "tile": ["RG", "GB"]},
]
TEXTS = [
    "",
    ".",
    "..",
    "a",
    "evil",
    "evil.run",
    "torch.load",
    "torch.nn.ReLU",
    "conv1",
    ".[0]",
    ".@in",
    "x#9",
    "a.b#-1@out.c",
    ":",
    "*",
    "~",
    "on",
]
TEXTS += [
    "mse",
    "kl",
    "torch.nn.functional.relu",
    "torchdistill.KDLoss",
    "student",
    "teacher",
    "previous:.",
    "hybrid:.",
    "max loss",
    "linear",
    "\0",
    "é☃",
    "a\nb",
    "x" * 10_000,
    "a." * 3_000,
    "/",
    "~/x",
    "../x",
    "evil.pt",
    "w.safetensors",
    "lfs.pt",
]
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    10**15,
    2**63 - 1,
    2**64,
    10**400,
    0.0,
    0.5,
    -0.5,
    1e-300,
    1e300,
    float("nan"),
    float("inf"),
]
PLAIN = st.sampled_from(
    [*TEXTS, *NUMBERS, None, True, False, [], {}, [1, 2], ["."], [[]], {"a": 1}, {"schedule": "cosine"}]
)
VALUES = st.one_of(
    PLAIN,
    st.sampled_from(HOSTILE),
    st.lists(PLAIN, max_size=3),
    st.dictionaries(st.sampled_from(TEXTS), PLAIN, max_size=2),
)
OPTIONS = {
    "--preset": ["quick", "other", "", "\0", "x" * 300],
    "--device": ["cpu", "meta", "cuda", "cpu:9", "x", "", "hpu"],
    "--allow": ["nopkg", "../x", "", "a b", "zoo"],
    "--seeds": ["0,1", "a", "", "1,1", "9" * 50],
    "--out": ["o", "", "x" * 300, "r.yaml", "r.yaml/x", "/proc/x"],
}
MODELS = [
    "torch.nn.Linear(3, 2)",
    "torch.nn.Linear",
    "torch.load('evil.pt')",
    "os.system('touch ran')",
    "zoo.pynet.PyNETQxQ(width=2)",
    "r.yaml#student",
    "r.yaml#teacher",
    "r.yaml#x",
    "r.yaml",
    "evil.Net",
    "torch.nn.Linear(*[1])",
    "(",
    "",
    "torch.nn.Linear(3, 2).forward",
    "torchvision.models.resnet18(weights='../x')",
    "torch.nn.ModuleList([])",
    "x" * 9000,
]
INPUTS = [
    "1x3",
    "4x3",
    "1x4x16x16",
    "0x3",
    "-1x3",
    "a",
    "@evil.pt",
    "@lfs.pt",
    "@none.pt",
    "1x3:int64",
    "9" * 99 + "x1",
    "",
]


def paths_in(tree, path=()):
    """Return the path of every value."""
    members = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
    return [(*path, key) for key, _ in members] + [p for key, value in members for p in paths_in(value, (*path, key))]


@st.composite
def recipes(draw):
    """Draw a recipe with up to three changes, as text; sometimes with damage to the text itself."""
    tree = copy.deepcopy(draw(st.sampled_from(RECIPES)))
    for _ in range(draw(st.integers(0, 3))):
        places = paths_in(tree)
        if not places:
            break
        *steps, last = draw(st.sampled_from(places))
        owner = tree
        for step in steps:
            owner = owner[step]
        match draw(st.sampled_from(["set", "set", "set", "drop", "add"])):
            case "set":
                owner[last] = copy.deepcopy(draw(VALUES))
            case "drop":
                del owner[last]
            case "add" if isinstance(owner, dict):
                owner[
                    draw(st.sampled_from([*TEXTS[:20], "weights", "lr", "epochs", "device", "_args_", "adapter"]))
                ] = copy.deepcopy(draw(VALUES))
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text)))
        text = (
            text[:at]
            + draw(st.sampled_from(["", "\t", "&a [*a]", "!!python/object:os.system", "'", "{", "- ", "\x07", "? "]))
            + text[at + draw(st.integers(0, 5)) :]
        )
    return text


@st.composite
def inputs(draw):
    """Draw a recipe and the arguments of a command that reads it and trains nothing."""
    text, tree = draw(recipes()), draw(st.sampled_from(RECIPES))
    if draw(st.integers(0, 4)) == 0:
        command = ["profile", draw(st.sampled_from(MODELS)), "--input", draw(st.sampled_from(INPUTS)), "--no-check"]
        return text, command[: draw(st.sampled_from([2, 5]))]
    command = ["run", "r.yaml", "--dry-run"]
    for _ in range(draw(st.integers(0, 2))):
        place = ".".join(map(str, draw(st.sampled_from(paths_in(tree)))))
        written = (
            yaml.safe_dump(copy.deepcopy(draw(VALUES)), default_flow_style=True, width=10**9)
            .strip()
            .removesuffix("...")
            .strip()
        )
        command += [
            "--set",
            draw(st.sampled_from([f"{place}={written}", f"{place}.x={written}", f"{place}", f"={written}"])),
        ]
    if draw(st.integers(0, 3)) == 0:
        option = draw(st.sampled_from(sorted(OPTIONS)))
        command += [option, draw(st.sampled_from(OPTIONS[option]))]
    return text, command


def prepare(folder):
    """Fill a folder with what hostile recipes name."""
    (folder / "evil.py").write_text(EVIL)
    (folder / "timm.py").write_text(EVIL)
    (folder / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    (folder / "w.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    (folder / "evil.pt").write_bytes(b"cpathlib\nPath.touch\n.")


def dry_run(recipe):
    """Return the exit code of a dry run of a recipe."""
    Path("r.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return main(["run", "r.yaml", "--dry-run"])


def _files():
    return {path.name for path in Path().iterdir()}


def fault_of(text, command):
    """Run a command in the current folder and return what is wrong with its answer; None if it is as it should be."""
    Path("r.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    before, out, err = _files(), io.StringIO(), io.StringIO()
    begun = time.process_time()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(command)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}: {str(error)[:200]}"
    message = err.getvalue().strip()
    if code not in (0, 2) and "not enough memory" not in message:
        return f"exit code {code}: {message[-300:]}"
    if code == 2 and not (
        message.startswith("compresskit: ") and len(message.splitlines()) <= 4 and len(message) < 3000
    ):
        return f"{len(message.splitlines())} lines, {len(message)} characters: {message[:300]}"
    if "Re-running `torch.load`" in message or "only if you trust the source" in message:
        return f"torch's advice: {message[:300]}"
    if _files() - before - {"__pycache__"}:
        return f"it wrote {_files() - before}"
    if time.process_time() - begun > 20:
        return f"it took {time.process_time() - begun:.0f} s"
    return None


def fuzz(number, *, examples, seconds=float("inf")):
    """Return the number of inputs that were tried, and the faults with an example of each."""
    faults, tried, end = {}, 0, time.monotonic() + seconds

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs())
    def attempt(drawn):
        nonlocal tried
        if time.monotonic() < end:
            tried += 1
            if fault := fault_of(*drawn):
                faults.setdefault(fault[:80], (fault, drawn))

    attempt()
    return tried, faults


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        prepare(Path(place))
        total, found = 0, {}
        number, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
        while time.monotonic() < end:
            tried, faults = fuzz(number, examples=500, seconds=end - time.monotonic())
            total, found, number = total + tried, {**faults, **found}, number + 1
        for fault, (text, command) in found.values():
            sys.stdout.write(f"--- {fault}\n{command}\n{text[:1500]}\n")
        sys.stdout.write(f"{total} inputs, {len(found)} kinds of faults\n")
