"""The options of the cache: every form that is accepted, and the answer to a mistake."""

import pytest

from compresskit import RecipeError
from compresskit.distill.cache.options import CacheOptions


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        ("always", "cache must be auto or a mapping"),
        ({"dtype": "fp16"}, "cache must be auto or a mapping such as"),
        ({"budget": "8GB", "dtyp": "fp16"}, "cache: unknown key 'dtyp'; did you mean 'dtype'?"),
        ({"budgt": "8GB"}, "cache: unknown key 'budgt'; did you mean 'budget'?"),
        ({"budget": "8GB", "dtype": "fp61"}, "cache: dtype: unknown 'fp61'; did you mean 'fp16'"),
        ({"budget": "8 Gigs"}, "cache: budget must be a size such as 8GB"),
        ({"budget": 0}, "cache: budget must be a size"),
        ({"budget": 1, "folder": 3}, "cache: folder must be a path"),
    ],
)
def test_bad_options_are_answered(cache, message):
    with pytest.raises(RecipeError) as error:
        CacheOptions.of(cache)
    assert message in str(error.value)


def test_sizes_are_read():
    assert CacheOptions.of({"budget": "8GB"}) == CacheOptions(8 * 10**9)
    assert CacheOptions.of({"budget": "1.5 MiB", "dtype": "fp16"}) == CacheOptions(1572864, "fp16")
