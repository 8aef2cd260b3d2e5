"""Files that are whole or absent, and whose damage is noticed."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from compresskit.errors import CheckpointError
from compresskit.files import read_records, read_weights, write_records, write_weights
from compresskit.recipe.run_files import is_unchanged, signed_text

STATE = {
    "b": torch.arange(6.0).reshape(2, 3),
    "a": torch.ones((), dtype=torch.bool),
    "c": torch.empty(0, 4, dtype=torch.bfloat16),
}
RECORDS = [{"name": "one", "value": 0.1 + 0.2, "nothing": None, "not a number": math.nan}, {"name": "two", "list": [1]}]


def equal(one, other):
    return one.keys() == other.keys() and all(
        tensor.equal(other[name]) and tensor.dtype == other[name].dtype for name, tensor in one.items()
    )


def flipped(content):
    """Yield a file's content with one bit of each of its bytes flipped."""
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        yield bytes(damaged)


def test_tensors_come_back_and_any_loader_reads_them(tmp_path):
    path = tmp_path / "state.safetensors"
    write_weights(path, STATE)
    assert equal(read_weights(path), STATE)
    assert equal(load_file(path), STATE)
    with safe_open(path, "pt") as file:
        assert file.metadata()["format"] == "pt"


def test_equal_tensors_make_equal_files(tmp_path):
    for number in range(8):
        write_weights(tmp_path / str(number), STATE)
    assert len({(tmp_path / str(number)).read_bytes() for number in range(8)}) == 1


def test_no_flipped_bit_in_a_file_of_tensors_gives_other_tensors(tmp_path):
    path = tmp_path / "state.safetensors"
    write_weights(path, STATE)
    refused = 0
    for content in flipped(path.read_bytes()):
        path.write_bytes(content)
        try:
            tensors = read_weights(path)
        except CheckpointError:
            refused += 1
        else:
            assert equal(tensors, STATE)
    assert refused > 100


def test_a_file_of_tensors_without_a_checksum_is_read(tmp_path):
    save_file(STATE, tmp_path / "state.safetensors")
    assert equal(read_weights(tmp_path / "state.safetensors"), STATE)


def test_records_come_back_and_are_plain_json_with_a_checksum_each(tmp_path):
    path = tmp_path / "records.json"
    write_records(path, RECORDS)
    records, intact = read_records(path)
    assert intact
    assert str(records) == str(RECORDS)
    assert [sorted(record) for record in json.loads(path.read_text())][1] == ["crc32", "list", "name"]
    assert read_records(tmp_path / "missing.json") == ([], True)


def test_no_flipped_bit_in_a_record_goes_unnoticed(tmp_path):
    path = tmp_path / "records.json"
    write_records(path, RECORDS[1:])
    whole = path.read_bytes()
    for content in flipped(whole):
        path.write_bytes(content)
        records, intact = read_records(path)
        assert not intact or records == RECORDS[1:] or b"crc32" not in content


@pytest.mark.parametrize("content", ["", "<html>", "{}", "[1, 2]", "null", "[" * 100_000])
def test_a_file_that_holds_no_records_is_damaged(tmp_path, content):
    path = tmp_path / "records.json"
    path.write_text(content)
    records, intact = read_records(path)
    assert records == []
    assert not intact or content == "null"


def test_a_signed_text_is_recognised_and_no_flipped_bit_goes_unnoticed():
    text = signed_text("seed: 3\nname: toy\n")
    assert is_unchanged(text)
    assert is_unchanged("seed: 3\nname: toy\n")
    unnoticed = [content for content in flipped(text.encode()) if is_unchanged(content.decode("latin-1"))]
    assert all(content.startswith(b"seed: 3\nname: toy\n") for content in unnoticed)
