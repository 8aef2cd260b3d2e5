"""`--input` on the command line."""

import pytest
import torch

from compresskit.errors import DataError
from compresskit.profiling.input_option import common_inputs, parse_inputs


def test_inputs_are_parsed_into_a_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = parse_inputs(["1x4x64x64", "ids=2x5:int64", "mask=3:bool", "7:bf16"])
    assert call.describe() == ["1x4x64x64 float32", "7 bfloat16", "ids=2x5 int64", "mask=3 bool"]
    assert all(tensor.is_meta for tensor in call.tensors())
    torch.save({"inputs": {"left": torch.ones(2), "right": torch.zeros(3)}, "targets": torch.ones(1)}, "named.pt")
    assert parse_inputs(["@named.pt"]).describe() == ["left=2 float32", "right=3 float32"]
    (tmp_path / "bad.pt").write_text("no tensors")
    with pytest.raises(DataError, match="no tensors that can be read safely"):
        parse_inputs(["@bad.pt"])
    torch.save(3, "number.pt")
    with pytest.raises(DataError, match="expected a tensor, a list or a mapping, got int"):
        parse_inputs(["@number.pt"])


def test_recipes_must_agree_on_the_inputs():
    assert common_inputs({"a": None, "b": torch.ones(2)}).describe() == ["2 float32"]
    with pytest.raises(DataError, match="own inputs differ: a 2 float32, b 3 float32; choose one with --input"):
        common_inputs({"a": torch.ones(2), "b": torch.ones(3)})
