import pytest

from compresskit import Match, RecipeError, Stage, Task


def test_terms_of_the_same_name_get_numbers():
    stage = Stage("s", matches=[Match("a"), Match("a"), Match("a", loss="l1")], steps=1)
    assert list(stage.terms) == ["mse(a)", "mse(a)#2", "l1(a)"]


def test_two_terms_at_one_counted_call_stay_two():
    assert len(Stage("s", matches=[Match("a#0"), Match("a#0", weight=5)], steps=1).terms) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stage("s", steps=5), "stage 's': it has neither matches nor tasks"),
        (lambda: Stage("s", tasks=[Task("mse")]), "stage 's': neither steps nor epochs; give one of them"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=5, epochs=1), "stage 's': both steps and epochs"),
        (lambda: Stage("s", tasks=[Task("mse")], steps="ten"), "steps must be a whole number of at least 1, got 'ten'"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=0), "steps must be a whole number of at least 1, got 0"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=1, accumulate=True), "accumulate must be a whole number"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=1, clip=0), "clip must be a number above 0, got 0"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=1, train="conv*"), "train must be a list of globs"),
        (lambda: Stage("s", matches=["a"], steps=1), "matches must be a list of Match objects"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=1, ema=1.0), "ema must be a decay from 0 to below 1, got 1.0"),
        (
            lambda: Stage("s", tasks=[Task("mse")], steps=1, best="max psnr"),
            "every must say after how many steps to evaluate",
        ),
        (
            lambda: Stage("s", tasks=[Task("mse")], steps=1, best="psnr", every=1),
            "best must be 'max METRIC' or 'min METRIC', got 'psnr'",
        ),
        (
            lambda: Stage("s", tasks=[Task("mse")], steps=1, until={"plateu": "max psnr"}, every=1),
            "until must be a mapping such as",
        ),
        (
            lambda: Stage("s", tasks=[Task("mse")], steps=1, until={"plateau": "max psnr", "patiense": 1}, every=1),
            "did you mean 'patience' or",
        ),
        (
            lambda: Stage("s", tasks=[Task("mse")], steps=1, groups={"a": 1}),
            "groups must be a mapping of globs to options",
        ),
        (
            lambda: Stage("s", tasks=[Task("mse")], steps=1, gradient_norms=0),
            "gradient_norms must be a whole number of at least 1",
        ),
    ],
)
def test_an_error_names_the_stage_and_the_field(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)
