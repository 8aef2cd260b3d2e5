"""Runs that are killed, stopped, starved of disk space and damaged, and resumed: is the end that of an undisturbed run?

    python tests/benchmarks/reliability.py                    all of it, about half an hour on two cores
    python tests/benchmarks/reliability.py kills bits         some of it: kills processes stops disk bits folder history

The run is a small one with everything that a folder can hold: a module in closed form, a teacher's own stage, two
stages of the student with accumulation, averaged weights and a cache in a folder, the control, rows by sample. A
checkpoint is due after every step, so that many moments fall into writing one. "The end" is the weights of
all parts, the table, the rows by sample and the log, bit for bit; only times may differ.
"""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

RECIPE = """\
name: small
seed: 3
teacher:
  _target_: torch.nn.Sequential
  _args_:
    - {_target_: small_parts.Centre}
    - {_target_: torch.nn.Linear, in_features: 4, out_features: 16}
    - {_target_: torch.nn.Tanh}
    - {_target_: torch.nn.Linear, in_features: 16, out_features: 3}
student:
  _target_: torch.nn.Sequential
  _args_:
    - {_target_: small_parts.Centre}
    - {_target_: torch.nn.Linear, in_features: 4, out_features: 8}
    - {_target_: torch.nn.Dropout, p: 0.2}
    - {_target_: torch.nn.Linear, in_features: 8, out_features: 3}
data:
  train: {_target_: small_parts.Points}
  val: {_target_: small_parts.Points, count: 6, seed: 5}
  test: {_target_: small_parts.Points, count: 5, seed: 9}
  batch_size: 4
cache: {budget: 1MB, folder: CACHE}
pretrain:
  - {name: fit, steps: 12, tasks: [mse]}
stages:
  - {name: features, steps: 10, train: upstream, accumulate: 2, matches: ["1"]}
  - name: output
    steps: 14
    clip: 1.0
    ema: 0.9
    every: 4
    best: min loss
    matches: ["."]
    tasks: [{loss: l1, weight: 1e-1}]
    optimizer: {_target_: torch.optim.SGD, lr: 1e-2, momentum: 0.9}
    scheduler: {_target_: compresskit.schedules.WarmupCosine, warmup: 0.5}
control: true
evaluate: {_target_: small_parts.Evaluation}
"""

WHOLE = "whole"
"""Folder of the run that nothing disturbs."""

Verdicts = Counter[str]


def main(names: list[str]) -> None:
    """Run the experiments with these names, or all, and print a line for each."""
    experiments: dict[str, Callable[[], Iterator[tuple[str, Verdicts]]]] = {
        "kills": kills,
        "processes": kills_of_processes,
        "stops": stops,
        "disk": full_disks,
        "bits": flipped_bits,
        "folder": shared_folder,
        "history": histories,
    }
    parts = Path(__file__).with_name("small_parts.py").resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copy(parts, ".")
        Path("small.yaml").write_text(RECIPE.replace("CACHE", str(Path("cache").resolve())))
        undisturbed = run(WHOLE)
        assert undisturbed.returncode == 0, undisturbed.stderr
        for name in names or experiments:
            for title, verdicts in experiments[name]():
                counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
                print(f"{title}: {counts}", flush=True)


def command(out: str, *options: str, processes: int = 1) -> list[str]:
    """Return the command of the run in one or several processes."""
    launch = [sys.executable, "-m"]
    if processes > 1:
        launch += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    return [*launch, "compresskit", "run", "small.yaml", "--allow", "small_parts", "--out", out, *options]


def run(out: str, *options: str, processes: int = 1, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        command(out, *options, processes=processes),
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@contextlib.contextmanager
def running(out: str, *options: str, processes: int = 1, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a run that is about to train."""
    with (
        Path(f"{out}.stderr").open("w") as stderr,
        subprocess.Popen(
            command(out, *options, processes=processes),
            env={**os.environ, "OMP_NUM_THREADS": "1", "DELAY": "0.002", **environment},
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        while not Path(out, "recipe.yaml").exists() and process.poll() is None:
            time.sleep(0.01)
        yield process


def end(folder: str) -> dict[str, object]:
    """Return everything that must be the same at the end of a run."""
    import yaml
    from safetensors.torch import load_file

    root, parts = Path(folder), ("", "teacher", "alone")
    logs = {part: (root / part / "metrics.jsonl").read_text().splitlines() for part in parts}
    rows = json.loads((root / "evaluation.json").read_text())
    recipe = yaml.safe_load((root / "recipe.yaml").read_text())
    del recipe["data"]["workers"]
    return {
        "weights": {part: bits(load_file(root / part / "student.safetensors")) for part in parts},
        "fitted": bits(load_file(root / "fitted.safetensors")),
        "table": json.loads((root / "summary.json").read_text()),
        "rows": rows,
        "log": {part: [without_times(line) for line in lines] for part, lines in logs.items()},
        "recipe": recipe,
    }


def bits(state: dict) -> dict[str, bytes]:
    """Return the values of tensors as bytes."""
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def without_times(line: str) -> dict[str, object]:
    """Return a record of the log without the one figure that may differ."""
    return {key: value for key, value in json.loads(line).items() if key != "samples_per_s"}


def verdict(done: subprocess.CompletedProcess[str], out: str, whole: str = WHOLE) -> str:
    """Return how a resumed run ended."""
    if done.returncode:
        return f"WRONG: {done.stderr[-300:]}"
    ours, theirs = end(out), end(whole)
    different = [name for name in ours if ours[name] != theirs[name]]
    return f"WRONG: {different} differ" if different else "bit-identical"


def kills() -> Iterator[tuple[str, Verdicts]]:
    """Kill runs at 18 moments, and resume them."""
    draw, seconds = random.Random(0), duration()
    at_random = Counter()
    for number in range(8):
        out = f"killed-{number}"
        with running(out) as process:
            time.sleep(draw.uniform(0, 0.95 * seconds))
            os.killpg(process.pid, signal.SIGKILL)
        at_random[verdict(run(out, "--resume"), out)] += 1
    yield "SIGKILL at a random time", at_random
    titles = {
        "half": "SIGKILL in the middle of writing a checkpoint",
        "before": "SIGKILL before a written checkpoint is in its place",
        "between": "SIGKILL between two stages",
    }
    for moment, title in titles.items():
        verdicts = Counter()
        for number in range(2 if moment == "between" else 4):
            out = f"{moment}-{number}"
            count = number + 1 if moment == "between" else draw.randint(2, 50)
            killed = run(out, DIE=f"{moment}:{count}")
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            verdicts[verdict(run(out, "--resume"), out)] += 1
        yield title, verdicts


def kills_of_processes() -> Iterator[tuple[str, Verdicts]]:
    """Kill one or all of two processes at 4 moments, and resume the run in two."""
    draw, seconds = random.Random(3), duration()
    two = run("whole-2", processes=2)
    assert two.returncode == 0, two.stderr
    verdicts = Counter()
    for number, victim in enumerate(["all", "main", "other", "all"]):
        out = f"two-{number}"
        with running(out, processes=2) as process:
            workers = sorted(children(process.pid))
            time.sleep(draw.uniform(0.2, 0.8 * seconds))
            for pid in {"all": [process.pid, *workers], "main": workers[:1], "other": workers[1:]}[victim]:
                os.kill(pid, signal.SIGKILL)
            process.wait(100)
        verdicts[verdict(run(out, "--resume", processes=2), out, "whole-2")] += 1
    yield "SIGKILL of all, the main or the other one of two processes", verdicts


def duration() -> float:
    """Return the seconds that a run takes after its start."""
    shutil.rmtree("timed", ignore_errors=True)
    with running("timed") as process:
        began = time.monotonic()
        process.wait()
        return time.monotonic() - began


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stops() -> Iterator[tuple[str, Verdicts]]:
    """Stop runs as schedulers do, and start them again by the same command."""
    draw, seconds = random.Random(1), duration()
    for signum, times in ((signal.SIGTERM, 10), (signal.SIGUSR1, 4)):
        verdicts = Counter()
        for number in range(times):
            out, options = f"{signum.name}-{number}", ["--auto-resume", "--set", f"data.workers={number % 2}"]
            with running(out, *options) as process:
                time.sleep(draw.uniform(0, 0.8 * seconds))
                (os.killpg if number % 4 == 3 else os.kill)(process.pid, signum)
            if process.returncode == 0:
                verdicts["ended before the signal"] += 1
            elif process.returncode != 128 + signum or "To go on: " not in Path(f"{out}.stderr").read_text():
                verdicts[f"WRONG: exit code {process.returncode}"] += 1
            else:
                verdicts[verdict(run(out, *options), out)] += 1
        yield f"{signum.name}, then the same command", verdicts


def full_disks() -> Iterator[tuple[str, Verdicts]]:
    """Run on disks that are too small, then on the same ones enlarged."""
    verdicts = Counter()
    used = sum(path.stat().st_blocks * 512 for path in Path(WHOLE).rglob("*") if path.is_file())
    for number in range(10):
        out, size = f"full-{number}", int(used * (0.05 + 0.1 * number)) // 1024
        again = f"{' '.join(command('disk/run'))} --auto-resume"
        script = f"""
            mount -t tmpfs -o size={size}k tmpfs disk && {again} 2> {out}.first; echo $? > {out}.code
            mount -o remount,size=64m disk && {again}; code=$?; cp -r disk/run {out}; exit $code"""
        Path("disk").mkdir(exist_ok=True)
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        first = Path(f"{out}.first").read_text()
        if Path(f"{out}.code").read_text().strip() != "1" or "the disk is full" not in first or "Traceback" in first:
            verdicts[f"WRONG: {first[-300:]}"] += 1
        else:
            verdicts[verdict(done, out)] += 1
    yield "full disk, then the same command with more room", verdicts


def flipped_bits() -> Iterator[tuple[str, Verdicts]]:
    """Flip one bit of a file at 20 places a kind, and resume, in this process: starting others would take most time."""
    draw = random.Random(2)
    stopped = run("stopped", DIE="before:45")
    assert stopped.returncode == -signal.SIGKILL, stopped.stderr
    files = {
        "stopped": [str(max(Path("stopped", "checkpoints").glob("*.pt")).relative_to("stopped")), "metrics.jsonl"],
        "finished": ["summary.json", "student.safetensors", "teacher/student.safetensors"],
        "unfinished": ["evaluation.json"],
    }
    files["stopped"] += ["recipe.yaml", "environment.json", "fitted.safetensors", "../cache"]
    shutil.copytree("cache", "whole-cache")
    shutil.copytree(WHOLE, "finished")
    shutil.copytree(WHOLE, "unfinished")
    Path("unfinished", "summary.json").unlink()
    for template, names in files.items():
        for name in names:
            verdicts = Counter()
            for _ in range(20):
                shutil.rmtree("flipped", ignore_errors=True)
                shutil.copytree(template, "flipped")
                path = Path("flipped", name)
                if name == "../cache":
                    shutil.rmtree("cache")
                    shutil.copytree("whole-cache", "cache")
                    path = draw.choice(sorted(Path("cache").rglob("*.safetensors")))
                content = bytearray(path.read_bytes())
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
                path.write_bytes(content)
                verdicts[judged("flipped", path)] += 1
            title = {".pt": "a checkpoint", "": "a file of the cache"}.get(Path(name).suffix, name)
            yield f"one bit of {title}", verdicts


def judged(out: str, path: Path) -> str:
    """Resume a run with a damaged file, and return how that ended."""
    from compresskit import nodes, run_recipe
    from compresskit.errors import CompressKitError

    notes = io.StringIO()
    try:
        with contextlib.redirect_stderr(notes), nodes.allow(["small_parts"]):
            run_recipe("small.yaml", out=out, resume=True)
    except CompressKitError as error:
        return "refused, the damage named" if path.name in str(error) else f"WRONG: {error}"
    ours, theirs = end(out), end(WHOLE)
    different = [name for name in ours if ours[name] != theirs[name]]
    named = str(path) in notes.getvalue()
    if different and not (named and different == ["log"]):
        return f"WRONG: {different} differ"
    end_text = "a part of the log lost" if different else "bit-identical"
    return f"{end_text}, the damage named" if named else f"{end_text}, the bit without effect"


def shared_folder() -> Iterator[tuple[str, Verdicts]]:
    """Start a second run, from this process, in the folder of one that is running."""
    from compresskit import nodes, run_recipe
    from compresskit.errors import CompressKitError

    verdicts = Counter()
    for number in range(5):
        out, refused = f"shared-{number}", False
        with running(out, DELAY="0.02") as process:
            try:
                with nodes.allow(["small_parts"]):
                    run_recipe("small.yaml", out=out, resume=True)
            except CompressKitError as error:
                refused = f"in use by process {process.pid} on " in str(error)
            process.wait()
        whole = subprocess.CompletedProcess([], process.returncode, "", Path(f"{out}.stderr").read_text())
        verdicts[verdict(whole, out) if refused else "WRONG: not refused"] += 1
    yield "a second run in the same folder is refused, and the first one ends", verdicts


def histories() -> Iterator[tuple[str, Verdicts]]:
    """Measure the memory that 100,000 tiny steps take, beyond that of the first 10,000."""
    import torch
    from torch import nn

    from compresskit import ProgressiveDistiller, Stage, Task

    torch.set_num_threads(1)
    for folder in (None, Path("history")):
        sizes: list[int] = []

        def measured(_: nn.Module, sizes: list[int] = sizes) -> dict[str, float]:
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            return {}

        stage = Stage("s", tasks=[Task("mse")], steps=100_000, every=10_000)
        distiller = ProgressiveDistiller(None, nn.Linear(1, 1), [stage], out=folder, device="cpu")
        result = distiller.fit([(torch.zeros(1, 1), torch.zeros(1, 1))], evaluate=measured)
        grown = (max(sizes) - sizes[0]) / 2**20
        title = "100,000 steps without a folder" if folder is None else "100,000 steps with a folder"
        yield (
            title,
            Counter({f"MiB more than 10,000; the history holds {len(result.history)} records": round(grown, 1)}),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
