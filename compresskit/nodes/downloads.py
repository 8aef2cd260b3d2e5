"""A block in which published weights come from the caches of torch and of Hugging Face, and nothing is downloaded."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.hub

from compresskit.errors import RecipeError


@contextmanager
def without_downloads() -> Iterator[None]:
    """Refuse to download weights inside the block, such as those of `weights: DEFAULT`; cached ones are used.

    Raises:
        RecipeError: Inside the block, weights are needed that are not in the cache.
    """
    places: list[tuple[Any, str, Any]] = [(torch.hub, "download_url_to_file", _refuse)]
    if hub := sys.modules.get("huggingface_hub.constants"):
        places.append((hub, "HF_HUB_OFFLINE", True))
    before = [getattr(owner, name) for owner, name, _ in places]
    for owner, name, value in places:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(places, before, strict=True):
            setattr(owner, name, value)


def _refuse(url: str, *_: Any, **__: Any) -> None:
    raise RecipeError(f"these weights would be downloaded from {url}, and a dry run downloads nothing: run it without")
