from compresskit.distill.spec.address import parse_address


def test_an_address_keeps_the_text_that_the_user_wrote():
    address = parse_address("block.3#-1@in.query[0]")
    assert (address.path, address.call, address.port, address.selectors) == ("block.3", -1, "in", ("query", 0))
    assert str(address) == "block.3#-1@in.query[0]"
