"""Makes a network of a finished run one that comes with the package: `python -m zoo.weights.ship RUN NAME FACTS`."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from compresskit import load_model
from compresskit.errors import CheckpointError
from compresskit.files import read_records, write_json, write_weights

FACTS = ("data", "hours", "history", "figures")
"""Keys of FACTS, a JSON file: what the run's folder does not know. Each is text or a mapping."""


def ship(run: Path, name: str, facts: dict[str, Any], folder: Path) -> None:
    """Write `NAME.safetensors`, in half precision, and its card `NAME.json` into a folder.

    Args:
        run: A finished run's folder.
        name: Name of the network.
        facts: Values for each of `FACTS`.
        folder: Folder of the two files.

    Raises:
        CheckpointError: The folder holds no finished run.
        ValueError: A fact is missing.
    """
    if missing := [key for key in FACTS if key not in facts]:
        raise ValueError(f"facts: missing {', '.join(missing)}")
    trained = load_model(run)
    halved = {key: value.half() for key, value in trained.model.named_parameters()}
    state = {**trained.model.state_dict(), **halved}  # buffers, such as fitted filters, keep their precision
    write_weights(folder / f"{name}.safetensors", state)
    records, _ = read_records(run / "environment.json")
    if not records:
        raise CheckpointError(f"{run} has no environment.json: it is no run's folder")
    environment = records[-1]
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    recipe = {**(trained.recipe or {}), "teacher": None, "inherit": None}
    card = {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "commit": environment["commit"],
        "steps": json.loads(lines[-1])["global_step"] + 1,
        "machine": f"{environment['device']}, {environment['threads']} threads, {environment['platform']}",
        **{key: facts[key] for key in FACTS},
        "sha256": hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest(),
        "recipe": recipe,
    }
    write_json(folder / f"{name}.json", card)


if __name__ == "__main__":
    run, name, facts = sys.argv[1:]
    ship(Path(run), name, json.loads(Path(facts).read_text(encoding="utf-8")), Path(__file__).parent)
