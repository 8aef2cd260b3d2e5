"""The origin of each part of a recipe: a line of a file or an option, which messages about the part start with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from compresskit.distill.spec.address import split_model
from compresskit.errors import CompressKitError, KeyPath, TrainingError
from compresskit.recipe.reading.yaml import Document


@dataclass(slots=True)
class SourceMap:
    """The origin of each part of a recipe, by path."""

    source: str = "recipe"
    """Name of the file in messages."""
    origins: dict[KeyPath, str] = field(default_factory=dict)
    """`"recipes/x.yaml, line 3"`, or `"--set stages.0.steps=5"`."""
    options: list[KeyPath] = field(default_factory=list)
    """The places that `--set` and `overrides` have changed."""
    texts: dict[str, list[KeyPath]] = field(default_factory=dict)
    """The places of each text value: the engine's errors know an address or a stage's name, and no place."""

    @classmethod
    def of(cls, document: Document) -> "SourceMap":
        """Return the origins in a file as it was read."""
        origins = {path: f"{document.source}, line {line}" for path, line in document.lines.items() if path}
        sources = cls(document.source, origins)
        sources._remember((), {key: part for key, part in document.data.items() if key != "presets"})
        return sources

    def replace(self, path: KeyPath, value: Any, origin: str) -> None:
        """Set the origin of the value at a path, and of everything inside it."""
        self.origins = {place: line for place, line in self.origins.items() if not _inside(place, path)}
        self.texts = {
            text: [place for place in places if not _inside(place, path)] for text, places in self.texts.items()
        }
        self.origins[path] = origin
        if origin.startswith(("--set", "override")):
            self.options.append(path)
        self._remember(path, value)

    @contextmanager
    def with_locations(self, *, always: bool = False) -> Iterator[None]:
        """Start the messages of our own errors with the origin of the part that they are about.

        Args:
            always: Start them with the file where no closer origin is known.
        """
        try:
            yield
        except TrainingError:  # the run failed, not what is written
            raise
        except CompressKitError as error:
            if not error.located:
                error.outer = self._place(error)
                if origin := self._origin(error.path) or (self.source if always else None):
                    error.within(origin)
                    error.located = True
            raise

    def _place(self, error: CompressKitError) -> KeyPath:
        """Return the place that the error's own path counts from."""
        place = error.outer
        for text in reversed(error.about):
            paths = [path for path in self.texts.get(text, ()) if _inside(path, error.outer)]
            paths = [path for path in paths if _inside(path, place)] or paths
            if paths:
                place = paths[0][:-1] if paths[0][-1] == "name" else paths[0]
        return place

    def _origin(self, path: KeyPath) -> str | None:
        """Return the origin of the nearest known part around a path; or of an option that has changed something inside.

        What the file says was right before the option came.
        """
        inside = [place for place in self.options if _inside(place, path) and place in self.origins] if path else []
        if inside and path not in self.options:
            return self.origins[inside[-1]]
        return next((self.origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.origins), None)

    def _remember(self, path: KeyPath, value: Any) -> None:
        if isinstance(value, dict | list):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                self._remember((*path, key), part)
        elif isinstance(value, str):
            for text in dict.fromkeys((value, split_model(value)[1])):  # an address, and it without its model
                self.texts.setdefault(text, []).append(path)


def _inside(path: KeyPath, outer: KeyPath) -> bool:
    return path[: len(outer)] == outer
