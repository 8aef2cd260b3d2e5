import pytest

from compresskit.distill.spec.address import parse_address, split_model
from compresskit.errors import TapError


def test_an_address_keeps_the_text_that_the_user_wrote():
    address = parse_address("block.3#-1@in.query[0]")
    assert (address.path, address.call, address.port, address.selectors) == ("block.3", -1, "in", ("query", 0))
    assert str(address) == "block.3#-1@in.query[0]"


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("[:, 5:]", (slice(None), slice(5, None))),
        ("[:,5:]", (slice(None), slice(5, None))),
        ("[..., :-1]", (..., slice(None, -1))),
        ("[:, 0]", (slice(None), 0)),
        ("[2:8:2]", (slice(2, 8, 2),)),
        ("[::2, :, -1]", (slice(None, None, 2), slice(None), -1)),
    ],
)
def test_a_selector_may_be_slices(text, index):
    address = parse_address(f"blocks.3@out.hidden{text}")
    assert address.selectors[0] == "hidden"
    assert address.selectors[1].index == index


def test_all_ways_to_write_slices_have_one_key():
    assert parse_address("h@out[:,5:]").key == parse_address("h[:, 5:]").key != parse_address("h[:, 4:]").key
    assert parse_address("h@in[:, 1:]").key == parse_address("h@in[0][:, 1:]").key
    assert split_model("big:h@out[:, 5:]") == ("big", "h@out[:, 5:]")
    assert split_model("h@out[:, 5:]") == ("", "h@out[:, 5:]")


@pytest.mark.parametrize("text", ["h[:, 5:", "h[a:b]", "h[..., ...]", "h[:, ::0]", "h[1.5:]", "h[,]", "h[]"])
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(TapError, match=r"cannot read .*selectors are .*slices such as"):
        parse_address(text)
