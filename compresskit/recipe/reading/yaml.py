"""YAML as plain data: nothing in a file can run code, and nothing is lost or reinterpreted silently.

Scalars follow the core schema of YAML 1.2: only `true` and `false` are booleans (`on`, `yes` and `no` are text), `1e-3`
is a number, `2026-11-22` and `1:30` are text. Duplicate keys are errors. The line of each value is kept for messages.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from compresskit.errors import KeyPath, RecipeError, first_line

_LIMIT = 100_000
"""Largest number of values in one file, as it is written and with its aliases written out, which grow exponentially."""


_LARGEST = 2**64
"""Whole numbers are smaller than this: no seed, size or count is larger."""


_FLOAT = r"[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"


class _CoreSchema(yaml.SafeLoader):
    """The safe loader, with YAML 1.2's rules for plain scalars in place of YAML 1.1's."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (a class attribute of PyYAML's, replaced not shared)

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._count = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Compose one value, and stop at a file with too many before they fill the memory."""
        self._count += 1
        if self._count > _LIMIT:
            mark = self.peek_event().start_mark
            raise ComposerError(None, None, f"it has more than {_LIMIT} values", mark)
        return super().compose_node(parent, index)


for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": _FLOAT,
}.items():
    _CoreSchema.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), None)


class Document:
    """The data of a YAML text, and the line of each value.

    Args:
        text: The YAML text.
        source: Name of the text in messages, such as the file's.

    Raises:
        RecipeError: The text is not one YAML document of plain data; the message has the line.
    """

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        """Line numbers, from 1, by path: `("stages", 0, "matches", 1, "loss")`."""
        self._count = 0
        try:
            node = yaml.compose(text, Loader=_CoreSchema)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise RecipeError(f"{source}, line {line}: this is not YAML: {error.problem or error.context}") from None
        except yaml.YAMLError as error:  # a character that YAML forbids
            raise RecipeError(f"{source}: this is not YAML: {first_line(error)}") from None
        except RecursionError:
            raise RecipeError(f"{source}: this is nested too deeply") from None
        self.data: Any = None if node is None else self._value(node, (), ())

    def _value(self, node: yaml.Node, path: KeyPath, above: tuple[yaml.Node, ...]) -> Any:
        self._count += 1
        if node in above or self._count > _LIMIT:
            raise self._error(node, "the aliases of this file never end")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path, (*above, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._value(item, (*path, n), (*above, node)) for n, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node)
            if not isinstance(key, str):
                raise self._error(key_node, f"a key must be text, got {key!r}")
            if key in mapping:
                raise self._error(key_node, f"the key {key!r} is here twice, first in line {self.lines[(*path, key)]}")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = self._value(value_node, (*path, key), above)
        return mapping

    def _scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind not in ("null", "bool", "int", "float", "str") or not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"expected plain data, got the tag {node.tag!r}")
        try:
            return _plain(kind, node.value)
        except OverflowError:
            raise self._error(node, f"the number {node.value} is too large") from None
        except (ValueError, KeyError):  # an explicit tag on something else: `!!int ten`
            raise self._error(node, f"{node.value!r} is not of the type {kind}") from None

    def _error(self, node: yaml.Node, message: str) -> RecipeError:
        return RecipeError(f"{self.source}, line {node.start_mark.line + 1}: {message}")


def _plain(kind: str, text: str) -> Any:
    """Return the value of a plain scalar."""
    match kind:
        case "null":
            return None
        case "bool":
            return {"true": True, "false": False}[text.lower()]
        case "int":
            number = int(text, 0 if text.startswith(("0o", "0x")) else 10)
            if abs(number) >= _LARGEST:
                raise OverflowError(text)
            return number
        case "float":
            return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))
    return text


def read(path: Path) -> Document:
    """Read a file.

    Raises:
        RecipeError: The file cannot be read, or is not one YAML document of plain data.
    """
    try:
        return Document(path.read_text(encoding="utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: this is not a text file in UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None


def value(text: str, source: str) -> Any:
    """Return the plain data in a short text, such as the value of `--set`."""
    return Document(text, source).data


def dump(data: Any) -> str:
    """Return plain data as YAML that `Document` reads back unchanged, with keys in their order."""
    return yaml.dump(data, Dumper=_CoreDumper, sort_keys=False, allow_unicode=True, width=120)


def dump_line(data: Any) -> str:
    """Return plain data as YAML on one line, for messages and commands."""
    flow = {"default_flow_style": True, "allow_unicode": True, "width": 10**9, "explicit_end": False}
    return yaml.dump(data, Dumper=_CoreDumper, sort_keys=False, **flow).strip().removesuffix("\n...")


class _CoreDumper(yaml.SafeDumper):
    """A dumper without aliases that writes flat lists on one line and quotes text that YAML 1.2 reads otherwise."""

    yaml_implicit_resolvers = _CoreSchema.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  (PyYAML's signature)
        return True


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flat = not any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


def _represent_float(dumper: yaml.SafeDumper, number: float) -> yaml.Node:
    text = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(number), repr(number))
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_CoreDumper.add_representer(list, _represent_list)


_CoreDumper.add_representer(float, _represent_float)
