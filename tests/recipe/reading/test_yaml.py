import math

import pytest

from compresskit.errors import RecipeError
from compresskit.recipe.reading import yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("True", True),
        ("false", False),
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("-.5E+3", -500.0),
        ("1.", 1.0),
        ("12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        (".", "."),
        ("'5'", "5"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{a: {b: []}}", {"a": {"b": []}}),
        ("<<", "<<"),
        ("!!str 5", "5"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    data = yaml.value(text, "here")
    assert data == value
    assert type(data) is type(value)
    again = yaml.value(yaml.dump(data), "again")
    assert again == value
    assert type(again) is type(value)


def test_nan_is_read_and_written():
    assert math.isnan(yaml.value(".nan", "here"))
    assert yaml.dump({"a": math.nan}) == "a: .nan\n"


@pytest.mark.parametrize(
    "text", ["on", "1e-3", "true", "~", "", "0x1", " padded", "- dash", "a: b", "@at", "ünï", "2.0"]
)
def test_text_that_looks_like_another_type_is_still_text_after_writing_and_reading(text):
    assert yaml.value(yaml.dump({"key": [text]}), "again") == {"key": [text]}
    assert yaml.value(yaml.dump_line(text), "again") == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "x.yaml, line 4: the key 'c' is here twice, first in line 3"),
        ("a: !!python/object/apply:os.system [ls]", "x.yaml, line 1: expected plain data, got the tag"),
        ("a: !mine 3", "x.yaml, line 1: expected plain data, got the tag '!mine'"),
        ("a: !!int ten", "x.yaml, line 1: 'ten' is not of the type int"),
        ("a:\n  1: 2", "x.yaml, line 2: a key must be text, got 1"),
        ("? [a]\n: 3", "x.yaml, line 1: expected plain data"),
        ("a: [1,\n2", "x.yaml, line 2: this is not YAML: expected ',' or ']'"),
        ("a:\n\t- b", "x.yaml, line 2: this is not YAML: found character '\\t'"),
        ("a: 1\n---\nb: 2", "x.yaml, line 2: this is not YAML: but found another document"),
        ("a: \x01", "x.yaml: this is not YAML: unacceptable character"),
        ("a: &x [*x]", "x.yaml, line 1: the aliases of this file never end"),
        ("a: *x", "x.yaml, line 1: this is not YAML: found undefined alias"),
        ("[" * 5000, "x.yaml: this is nested too deeply"),
        ("a: 1" + "0" * 30, "x.yaml, line 1: the number 1000000000000000000000000000000 is too large"),
        ("a:\n- " + "9" * 5000, "x.yaml, line 2: '9999"),
        ("a:\n- [" + "1, " * 101_000 + "]", "x.yaml, line 2: this is not YAML: it has more than 100000 values"),
    ],
)
def test_anything_but_plain_data_is_refused_with_its_line(text, message):
    with pytest.raises(RecipeError) as caught:
        yaml.Document(text, "x.yaml")
    assert str(caught.value).startswith(message)


def test_aliases_of_aliases_do_not_fill_the_memory():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(RecipeError, match="the aliases of this file never end"):
        yaml.Document("\n".join(lines), "x.yaml")


def test_an_alias_is_a_copy():
    data = yaml.value("a: &x {b: [1]}\nc: *x", "here")
    data["a"]["b"].append(2)
    assert data["c"] == {"b": [1]}


def test_every_value_has_a_line():
    document = yaml.Document("a:\n  - b: 1\n    c:\n      d: 2\n  - 3\n", "x.yaml")
    assert {path: line for path, line in document.lines.items() if path} == {
        ("a",): 1,
        ("a", 0): 2,
        ("a", 0, "b"): 2,
        ("a", 0, "c"): 3,
        ("a", 0, "c", "d"): 4,
        ("a", 1): 5,
    }


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(RecipeError, match="not a text file in UTF-8"):
        yaml.read(tmp_path / "x.yaml")
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        yaml.read(tmp_path / "y.yaml")
