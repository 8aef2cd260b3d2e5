"""Call every name of the list with hostile arguments, in a process whose audit hook notes what the calls do.

    python tests/nodes/hostile_calls.py SEED SECONDS

First each name gets each hostile value for all of its arguments; mixtures follow for SECONDS. The current folder must
be an empty one: every file and folder that a call looks for below it appears there at that moment, with hostile
content. One line of JSON is printed: the number of calls and of objects that they built, and the faults, each with the
name, its arguments and the event.
"""

import importlib
import json
import os
import pickle
import random
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

TOKEN = "h0stile"  # in every text that a call gets
ROOT = Path.cwd() / TOKEN
MARKER = Path.cwd() / "ran"
os.environ["TORCH_HOME"] = str(Path.cwd() / "hub")

import torch  # noqa: E402
from torch import nn  # noqa: E402

from compresskit import nodes  # noqa: E402
from compresskit.nodes.allowed import FILE, PUBLISHED, SLOTS, allowed_names  # noqa: E402

PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")
CONNECTIONS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
LISTINGS = ("os.listdir", "os.scandir", "glob.glob", "ctypes.dlopen", "sqlite3.connect")
SOURCES = ("compile", "exec", "marshal.loads")
PUBLISHERS = ("https://download.pytorch.org/",)


class Evil:
    def __reduce__(self):
        return Path.touch, (MARKER,)


class Watch:
    """The audit hook: notes what happens while it is on."""

    def __init__(self):
        self.on = False
        self.entry = None
        self.events = []

    def __call__(self, event, args):
        if not self.on or not (fault := self._fault(event, args)):
            return
        self.events.append(fault)
        if event in (*PROCESSES, *CONNECTIONS, "pickle.find_class"):
            raise PermissionError(f"not in this test: {event}")

    def _fault(self, event, args):
        marks = self.entry.marks.values() if self.entry else ()
        cached = PUBLISHED in marks and args and str(args[0]).startswith((*PUBLISHERS, os.environ["TORCH_HOME"]))
        if event == "open":
            return self._opened(*args, marks, cached=cached)
        if event in LISTINGS and TOKEN in str(args):
            self._appear(Path(str(args[0])))
            return None if FILE in marks else f"{event} {args}"
        if event == "urllib.Request" and cached:
            raise PermissionError("not in this test: a download")
        if event in (*PROCESSES, *CONNECTIONS, *CHANGES) or event.startswith("shutil."):
            return None if cached else f"{event} {args}"
        if event == "pickle.find_class":
            return f"unpickles {args}"
        return f"{event} {args}" if event in SOURCES and TOKEN in str(args) else None

    def _opened(self, path, mode, flags, marks, *, cached):
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or set(str(mode)) & set("wax+"):
            return None if cached or str(path) == os.devnull else f"writes {path}"
        if TOKEN not in str(path):
            return None
        self._appear(Path(os.fsdecode(path)))
        return None if FILE in marks else f"reads {path}"

    def find_spec(self, name, *_):
        """Note an import by name, as the first of the finders."""
        if self.on and TOKEN in name:
            self.events.append(f"import {name}")

    def _appear(self, path):
        if not path.is_absolute():
            path = Path.cwd() / path
        if ROOT not in (path, *path.parents) or os.path.lexists(path):
            return
        self.on = False
        try:
            if path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content(path.suffix))
            else:
                for name in ("x.jpg", "x.png", "x.txt", "x.mat", "x.pkl"):
                    (path / "a").mkdir(parents=True, exist_ok=True)
                    (path / "a" / name).write_bytes(content(Path(name).suffix))
        except OSError:
            pass
        finally:
            self.on = True


def content(suffix):
    """Return hostile bytes for a file: an EPS where a picture is expected, a pickle where anything else is."""
    if suffix in (".jpg", ".jpeg", ".png", ".ppm"):
        return (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n("
            + bytes(f"{MARKER}", "utf-8")
            + b") run\n%%EOF\n"
        )
    if suffix in (".txt", ".csv", ".names"):
        return bytes(f"a/x {ROOT}/x.pkl 1\n" * 3, "utf-8")
    if suffix == ".json":
        return b'{"images": [{"id": 1, "file_name": "x.pkl"}], "annotations": []}'
    return pickle.dumps(Evil())


def appearing(watch, real):
    """Return `os.stat` for a file system in which everything below ROOT exists."""

    def stat(path, *args, **options):
        try:
            return real(path, *args, **options)
        except FileNotFoundError:
            if watch.on and isinstance(path, str | os.PathLike) and TOKEN in os.fsdecode(path):
                watch._appear(Path(os.fsdecode(path)))
                return real(path, *args, **options)
            raise

    return stat


def hostile_values():
    """Return texts, and lists and mappings of texts, that would do harm in the wrong hands."""
    texts = [
        str(ROOT),
        str(ROOT / "x.pkl"),
        str(ROOT / "x.pt"),
        f"{TOKEN}_module.Name",
        f"{TOKEN}_module:name",
        f"http://127.0.0.1:9/{TOKEN}.pt",
        f"file://{ROOT}/x.pt",
        f"hf-hub:{TOKEN}/x",
        f"local-dir:{ROOT}",
        f"__import__('{TOKEN}_module')",
        f"| touch {MARKER} # {TOKEN}",
    ]
    return [*texts, [texts[1]], [texts[3]], {"a": texts[1]}, {texts[3]: texts[3]}, [[texts[1]]]]


def plain_values():
    """Return values that many calls take, so that others of their arguments come to be used."""
    return [2, 0.5, True, None, [2, 2], "train", "mean"]


def call(entry, arguments, positional=()):
    """Call a name as a recipe's node does, and use what it builds."""
    kind = slot_of(entry)
    node = {"_target_": entry.dotted, **arguments}
    if positional:
        node["_args_"] = list(positional)
    parameters = [nn.Parameter(torch.zeros(2, 2))]
    if kind == "callable" and entry.group == "functions":
        function, data = nodes.find(entry.dotted), [torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)]
        return function(**arguments) if isinstance(function, type) else function(*data, **arguments)
    if kind == "curriculum":
        return nodes.find(entry.dotted, kind=kind)(**arguments)
    first = {"optimizer": [parameters], "scheduler": [torch.optim.SGD(parameters, 0.1)]}.get(kind, [])
    offered = {"evaluation": {"dataset": [1]}}.get(kind, {})
    with torch.device("meta" if entry.module.startswith(("torchvision.models", "timm")) else "cpu"):
        thing = nodes.build(node, *first, kind=kind, **offered)
    if entry.group == "datasets":
        len(thing)
        thing[0]
    elif entry.group in ("modules", "transforms", "views") and "models" not in entry.module:
        thing(torch.rand(2, 3, 8, 8))
    return thing


def rounds(seed, seconds):
    """Yield a name and its arguments, first each name with each hostile value everywhere, then mixtures."""
    entries = [entry for entry in allowed_names().values() if importlib.util.find_spec(entry.module.partition(".")[0])]
    choose = random.Random(seed)
    choose.shuffle(entries)
    for entry in entries:
        for arguments in hostile_arguments(entry):
            yield entry, arguments, ()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        entry = choose.choice(entries)
        yield entry, *mixture(entry, choose)


def hostile_arguments(entry):
    """Yield arguments that are all hostile, and those without which nothing is read."""
    values = hostile_values()
    if entry.module.startswith("torchvision.models"):  # building them takes long
        values = [values[0], values[3], values[11], values[13]]
    else:
        yield {name: str(ROOT) for name, mark in entry.marks.items() if mark == FILE}
    for value in values:
        yield dict.fromkeys(entry.arguments, value)


def mixture(entry, choose):
    """Return some plain and some hostile arguments, by name and by position."""
    arguments = {name: choose.choice(plain_values()) for name in entry.arguments if choose.random() < 0.5}
    positional = [choose.choice([*hostile_values(), 2]) for _ in range(choose.choice([0, 0, 0, 1, 2, 4]))]
    if entry.arguments:
        arguments[choose.choice(entry.arguments)] = choose.choice(hostile_values())
    arguments |= {name: str(ROOT) for name, mark in entry.marks.items() if mark == FILE and choose.random() < 0.8}
    return arguments, positional


def prove_that_the_watch_sees(watch):
    """Do what no call may do, and return the deeds that the hook has not noted."""
    deeds = {
        "reads": lambda: open(ROOT / "x.pkl", "rb").close(),  # noqa: PTH123
        "writes": lambda: open(Path.cwd() / "y", "w").close(),  # noqa: PTH123
        "unpickles": lambda: pickle.loads(pickle.dumps(Evil())),
        "import": lambda: importlib.import_module(f"{TOKEN}_module"),
        "subprocess.Popen": lambda: subprocess.run(["true"], check=False),
        "socket.connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "os.mkdir": (Path.cwd() / "z").mkdir,
        "exec": lambda: exec(compile("pass", TOKEN, "exec")),
    }
    missed = []
    for name, deed in deeds.items():
        watch.events.clear()
        watch.on = True
        try:
            deed()
        except (OSError, ImportError):
            pass
        finally:
            watch.on = False
        if not any(event.startswith(name) for event in watch.events):
            missed.append(name)
    watch.events.clear()
    return missed


def import_everything():
    """Import what the list names, because imports and their caches are no part of a call."""
    for package in ("colour_demosaicing", "scipy.io"):
        if importlib.util.find_spec(package.partition(".")[0]):
            importlib.import_module(package)
    for entry in allowed_names().values():
        if importlib.util.find_spec(entry.module.partition(".")[0]):
            nodes.find(entry.dotted, kind=slot_of(entry))


def slot_of(entry):
    """Return a slot that takes the name."""
    return next(slot for slot, groups in SLOTS.items() if entry.group in groups)


def main(seed, seconds):
    (Path.cwd() / "hub" / "checkpoints").mkdir(parents=True)
    warnings.simplefilter("ignore")
    import_everything()
    watch = Watch()
    sys.addaudithook(watch)
    sys.meta_path.insert(0, watch)
    os.stat = appearing(watch, os.stat)
    missed = prove_that_the_watch_sees(watch)
    refused = built = 0
    faults, tried = {}, set()
    for entry, arguments, positional in rounds(seed, seconds):
        watch.entry, watch.on = entry, True
        try:
            call(entry, arguments, positional)
            built += 1
        except Exception:  # noqa: BLE001  (they refuse in many ways)
            refused += 1
        finally:
            watch.on = False
        tried.add(entry.dotted)
        for event in watch.events:
            faults.setdefault(f"{entry.dotted}: {event.split()[0]}", f"{arguments} {positional}: {event}"[:400])
        watch.events.clear()
    report = {"calls": built + refused, "built": built, "names": len(tried), "missed": missed, "faults": faults}
    sys.stdout.write(json.dumps({**report, "ran": MARKER.exists()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
