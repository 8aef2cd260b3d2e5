"""Properties of every loss of the catalogue. A new loss needs a row in CASES, as the first test demands."""

import inspect
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses import CATALOGUE, make_loss

MAP, LOGITS, IMAGE = (4, 6, 4, 5), (4, 5, 2, 3), (4, 3, 12, 13)


@dataclass(frozen=True)
class Case:
    """Arguments of a loss, and the properties that it claims."""

    shape: tuple[int, ...] = MAP
    options: dict = field(default_factory=dict)
    zero_at_equal: bool = True
    not_negative: bool = True
    tiles: bool = True  # the same for a picture laid out 2 x 2 times
    labels_only: bool = False  # the other side is class indices


CASES = {
    "mse": Case(),
    "relative_mse": Case(),
    "l1": Case(),
    "cosine": Case(),
    "variational": Case(options={"channels": 6}, zero_at_equal=False, not_negative=False),
    "attention_transfer": Case(tiles=False),
    "gram": Case(),
    "fsp": Case(),
    "similarity_preserving": Case(),
    "relational_distance": Case(),
    "relational_angle": Case(),
    "cka": Case(),
    "probabilistic_transfer": Case(),
    "kl": Case(LOGITS),
    "standardized_kl": Case(LOGITS),
    "dkd": Case(LOGITS),
    "dist": Case(LOGITS),
    "reverse_kl": Case(LOGITS),
    "jsd": Case(LOGITS),
    "skew_kl": Case(LOGITS),
    "topk_kl": Case(LOGITS),
    "cross_entropy": Case(LOGITS, zero_at_equal=False, labels_only=True),
    "charbonnier": Case(IMAGE, zero_at_equal=False),
    "ssim": Case(IMAGE, tiles=False),
    "ms_ssim": Case((2, 1, 176, 176), tiles=False),
    "gradient": Case(IMAGE, tiles=False),
    "fourier_amplitude": Case(IMAGE, tiles=False),
    "perceptual": Case(IMAGE, {"layers": ["relu1_2"]}, tiles=False),
}
everyone = pytest.mark.parametrize("name", CASES)


def having(claim):
    return pytest.mark.parametrize("name", [name for name, case in CASES.items() if getattr(case, claim)])


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A function that returns the loss of a name, with options of its own, as a function of its sides."""
    weights = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    shapes = {"features.0": (64, 3, 3, 3), "features.2": (64, 64, 3, 3)}
    generator = torch.Generator().manual_seed(1)
    state = {f"{name}.weight": 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(state | {f"{name}.bias": torch.zeros(64) for name in shapes}, weights)

    def built(name, **more):
        options = {**CASES[name].options, **more} | ({"weights": str(weights)} if name == "perceptual" else {})
        loss = make_loss(CATALOGUE[name], options)
        return loss if CATALOGUE[name].built else lambda *sides: loss(*sides, **options)

    return built


def sides(name, *, seed=0, scales=(1.0, 1.0), dtype=torch.float32):
    """Return random arguments of a loss: the student's side, the other side and, if it takes them, labels."""
    case, generator = CASES[name], torch.Generator().manual_seed(seed)
    student, teacher = (
        (scale * (2 * torch.rand(case.shape, generator=generator, dtype=torch.float64) - 1)).to(dtype)
        for scale in scales
    )
    labels = torch.randint(0, case.shape[1], (case.shape[0], *case.shape[2:]), generator=generator)
    if case.labels_only:
        return student, labels
    if CATALOGUE[name].several:
        return (student, student.flip(1)[:, 1:]), (teacher, teacher.flip(1)[:, 1:])
    return (student, teacher, labels) if CATALOGUE[name].labels else (student, teacher)


def changed(arguments, change):
    """Return the arguments with `change` of every tensor."""
    return tuple(change(a) if isinstance(a, torch.Tensor) else changed(a, change) for a in arguments)


def leaves(student):
    """Return the student's side as new leaves of a graph, and a list of them."""
    copies = [tensor.clone().requires_grad_() for tensor in (student if isinstance(student, tuple) else (student,))]
    return (tuple(copies) if isinstance(student, tuple) else copies[0]), copies


def test_every_loss_of_the_catalogue_has_a_case():
    assert list(CASES) == list(CATALOGUE)


@having("zero_at_equal")
def test_a_loss_between_equal_sides_is_zero(name, build):
    student, _, *labels = sides(name)
    assert build(name)(student, student, *labels).abs() < 1e-6


@having("not_negative")
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), log_scale=st.floats(-3, 3))
def test_a_loss_is_one_number_and_not_negative(name, build, seed, log_scale):
    value = build(name)(*sides(name, seed=seed, scales=(10.0**log_scale, 1.0)))
    assert value.shape == ()
    assert value >= -1e-6


@everyone
def test_a_batch_may_be_split_unless_the_loss_is_relational(name, build):
    arguments, loss = sides(name, dtype=torch.float64), build(name)
    half = CASES[name].shape[0] // 2
    try:
        first, last = (
            loss(*changed(arguments, lambda t, part=part: t[part])) for part in (slice(half), slice(half, None))
        )
    except ShapeError:  # two samples are too few for it
        assert CATALOGUE[name].relational
        return
    assert torch.isclose((first + last) / 2, loss(*arguments)).item() is not CATALOGUE[name].relational


@having("tiles")
def test_an_image_tiled_twice_in_both_directions_has_the_same_loss(name, build):
    arguments, loss = sides(name, dtype=torch.float64), build(name)
    tiled = changed(arguments, lambda t: t.repeat(*(1,) * (t.ndim - 2), 2, 2))
    torch.testing.assert_close(loss(*tiled), loss(*arguments))


@everyone
def test_another_batch_is_refused(name, build):
    student, *others = sides(name)
    with pytest.raises(ShapeError, match=f"^{name}: "):
        build(name)(student, *changed(others, lambda t: t[:-1]))


@everyone
def test_the_gradient_agrees_with_finite_differences(name, build):
    student, *others = sides(name, dtype=torch.float64)
    student, inputs = leaves(student)

    def value(*tensors):
        return build(name)(tensors if isinstance(student, tuple) else tensors[0], *others)

    assert torch.autograd.gradcheck(value, tuple(inputs), fast_mode=True)
    assert value(*inputs).dtype == torch.float64


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e4, 1e4), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
@everyone
def test_half_precision_gives_finite_values_and_gradients(name, scales, half, build):
    student, *others = sides(name, scales=scales, dtype=half)
    student, inputs = leaves(student)
    value = build(name)(student, *others)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(leaf.grad.isfinite().all() for leaf in inputs)


@everyone
def test_dead_and_repeated_samples_have_finite_gradients(name, build):
    student, *others = changed(sides(name), lambda t: t.index_copy(0, torch.tensor([1]), t[:1]) if t.ndim > 3 else t)
    student = changed((student,), lambda t: t.index_fill(0, torch.tensor([0]), 0.0))[0]
    student, inputs = leaves(student)
    build(name)(student, *others).backward()
    assert all(leaf.grad.isfinite().all() for leaf in inputs)


@everyone
def test_autocast_does_not_lower_the_precision(name, build):
    arguments, loss = sides(name), build(name)
    expected = loss(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(*arguments), expected, rtol=1e-6, atol=1e-7)


def _numeric_options():
    for name, entry in CATALOGUE.items():
        for option in inspect.signature(entry.function).parameters.values():
            if isinstance(option.default, float):
                yield name, option


@pytest.mark.parametrize(("name", "option"), [pytest.param(n, o, id=f"{n}-{o.name}") for n, o in _numeric_options()])
def test_a_numeric_option_has_no_jumps(name, option, build):
    assert option.annotation == float | int
    arguments, tried = sides(name), 0
    for value in {option.default, 0.0, 1.0}:
        for near in (value - 1e-6, value + 1e-6):
            try:
                there, here = (build(name, **{option.name: v})(*arguments) for v in (near, value))
            except RecipeError:  # outside the option's limits
                continue
            tried += 1
            torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)
    assert tried >= 2


@pytest.mark.parametrize("name", ["kl", "standardized_kl", "dkd", "dist", "reverse_kl", "jsd", "skew_kl"])
def test_a_gradient_keeps_its_size_at_high_temperatures(name, build):
    norms = []
    for temperature in (100.0, 1000.0):
        student, *others = sides(name, dtype=torch.float64)
        build(name, temperature=temperature)(student.requires_grad_(), *others).backward()
        norms.append(student.grad.norm())
    torch.testing.assert_close(norms[0], norms[1], rtol=0.02, atol=0)
