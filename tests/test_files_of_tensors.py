import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from compresskit.errors import CheckpointError
from compresskit.files import read_tensors

CONTENTS = {
    "text": (b"not weights, but a note", "it is text"),
    "page": (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "it is a pointer of Git LFS; .* lfs pull",
    ),
    "empty": (b"", "it is empty"),
    "byte": (b"\x80", ""),
    "archive": (b"PK\x03\x04aaaa", ""),
    "zeros": (bytes(200), ""),
    "json": (b"{}", "it is text"),
}


class _Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_file_of_tensors_is_told_in_one_line_without_torchs_advice(tmp_path, name, suffix):
    content, reason = CONTENTS[name]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"x{suffix} is damaged, or holds more than tensors.*{reason}") as caught:
        read_tensors(path)
    assert "weights_only" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_pickle_names_what_it_would_have_called_and_calls_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(_Payload(), "x.pt")
    with pytest.raises(CheckpointError, match=r"it names (posix|nt)\.mkdir; save the model's state_dict\(\) alone"):
        read_tensors(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(pickle.dumps(_Payload()))
    with pytest.raises(CheckpointError, match=r"x\.pt is damaged, or holds more than tensors"):
        read_tensors(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


def test_every_flipped_byte_of_a_header_is_refused_or_changes_nothing_else(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    whole = path.read_bytes()
    for place in range(60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="is damaged"):
            read_tensors(path)


def test_tensors_are_read_back(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "x.safetensors")
    torch.save({"weight": torch.ones(3)}, tmp_path / "x.pt")
    for name in ("x.safetensors", "x.pt"):
        assert read_tensors(tmp_path / name)["weight"].tolist() == [1, 1, 1]
