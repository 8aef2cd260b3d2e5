import pickle

import pytest

from compresskit.errors import CompressKitError, RecipeError, TapError, at, close_names, path_text, within


def _raised(*blocks, error=None):
    with pytest.raises(CompressKitError) as caught:
        _enter(list(blocks), error or RecipeError("steps must be a whole number", path=("steps",)))
    return caught.value


def _enter(blocks, error):
    if not blocks:
        raise error
    with blocks[0]:
        _enter(blocks[1:], error)


def test_each_caller_puts_its_part_before_the_path_and_the_message():
    error = _raised(at("stages", 0), at("matches", 2))
    assert error.path == ("stages", 0, "matches", 2, "steps")
    assert str(error) == "stages[0].matches[2]: steps must be a whole number"


def test_the_part_that_the_message_names_itself_is_not_shown_again():
    error = _raised()
    assert (error.path, str(error)) == (("steps",), "steps must be a whole number")


def test_a_title_starts_the_message_and_is_no_part_of_the_path():
    error = _raised(at("stages", 0), within("stage 'features'"))
    assert error.path == ("stages", 0, "steps")
    assert str(error) == "stages[0]: stage 'features': steps must be a whole number"
    error = _raised(within("stage 'features'"), at("optimizer"))
    assert error.path == ("optimizer", "steps")
    assert str(error) == "stage 'features': optimizer: steps must be a whole number"


def test_an_error_collects_the_users_texts_that_it_is_about_the_narrowest_first():
    error = _raised(within(about="features"), error=TapError("no module '9'", about=("9",)))
    assert (error.about, str(error)) == (("9", "features"), "no module '9'")


def test_it_is_still_the_same_error_with_its_class_and_its_traceback():
    error = TapError("no module '9'")
    assert _raised(at("stages"), within("title"), error=error) is error


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError, match=r"^'x'$"), at("stages"), within("title"):
        raise KeyError("x")


def test_an_error_of_another_process_arrives_whole():
    error = pickle.loads(pickle.dumps(_raised(at("stages", 0))))
    assert (error.path, str(error)) == (("stages", 0, "steps"), "stages[0]: steps must be a whole number")


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), (("seed",), "seed"), (("a", "b"), "a.b"), (("a", 0, "b", 1, 2), "a[0].b[1][2]"), ((0, "a"), "[0].a")],
)
def test_a_path_is_written_as_in_a_recipe(path, text):
    assert path_text(path) == text


def test_close_names_are_the_nearest_or_some_of_those_that_exist():
    assert close_names("setps", ["steps", "seed"]) == "; did you mean 'steps'?"
    assert close_names("x", ["steps", "epochs"]) == "; known: steps, epochs"
    assert close_names("x", []) == "; there are none"
