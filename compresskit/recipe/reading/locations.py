"""Where each part of a recipe was written, so that a message about it can say the file and the line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from compresskit.errors import CompressKitError, TrainingError
from compresskit.recipe.reading.yaml import Document


@dataclass(slots=True)
class Places:
    """The origin of each part of a recipe, by place: `stages[0].steps`."""

    source: str = "recipe"
    origins: dict[str, str] = field(default_factory=dict)
    """`"recipes/x.yaml, line 3"`, or `"--set stages.0.steps=5"`."""
    texts: dict[str, str] = field(default_factory=dict)
    """The place of each text value, the first where one stands at several: messages quote them."""

    @classmethod
    def of(cls, document: Document) -> "Places":
        """The places of a file."""
        origins = {place: f"{document.source}, line {line}" for place, line in document.lines.items() if place}
        places = cls(document.source, origins)
        places._remember("", {key: part for key, part in document.data.items() if key != "presets"})
        return places

    def move(self, path: str, value: Any, source: str) -> None:
        """Note that the value at a path, and all inside it, comes from `source` now."""
        place = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)
        replaced = re.compile(rf"{re.escape(place)}([.\[]|$)")
        self.origins = {known: origin for known, origin in self.origins.items() if not replaced.match(known)}
        self.texts = {text: known for text, known in self.texts.items() if not replaced.match(known)}
        self.origins[place] = source
        self._remember(place, value)

    @contextmanager
    def located(self, *, always: bool = False) -> Iterator[None]:
        """Inside, the messages of our own errors are made to start with where the recipe's part was written.

        With `always` they start with the file where nothing closer is known.
        """
        try:
            yield
        except TrainingError:  # the run failed, not what is written
            raise
        except CompressKitError as error:
            told = self.locate(str(error))
            raise type(error)(f"{self.source}: {told}" if always and told == str(error) else told) from error

    def locate(self, message: str) -> str:
        """The message with the origin of what it speaks of: the place that it starts with, or a text that it quotes."""
        start = re.match(r"[\w.\[\]-]*(?=[: ])", message)
        place = start.group() if start else ""
        if not self._origin(place):
            place = self._quoted(message)
            message = f"{place}: {message}" if place else message
        for word in re.findall(r"\w+", message[len(place) :]):  # the key, where the place is what holds it
            if f"{place}.{word}" in self.origins:
                return f"{self.origins[f'{place}.{word}']}: {message}"
        origin = self._origin(place)
        return f"{origin}: {message}" if origin else message

    def _origin(self, place: str) -> str | None:
        """The origin of the nearest known place around `place`."""
        while place and place not in self.origins:
            place = re.sub(r"(^|\.)[^.\[]*$|\[[^\]]*\]?$", "", place)
        return self.origins.get(place)

    def _quoted(self, message: str) -> str:
        """The place of the last text that the message quotes from the recipe, not counting what it suggests."""
        told = re.split(r"; (?:did you mean|known:|there are none)", message)[0]
        found = [self.texts[quoted] for quoted in re.findall(r"'([^']+)'", told) if quoted in self.texts]
        return found[-1].removesuffix(".name") if found else ""

    def _remember(self, place: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                self._remember(f"{place}.{key}" if place else key, part)
        elif isinstance(value, list):
            for index, part in enumerate(value):
                self._remember(f"{place}[{index}]", part)
        elif isinstance(value, str):
            for text in (value, re.split(r"[@#]", value.rpartition(":")[2])[0]):  # an address, and its path alone
                self.texts.setdefault(text, place)
