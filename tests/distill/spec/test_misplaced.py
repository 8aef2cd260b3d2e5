import pytest
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage, curricula
from compresskit.errors import ArgumentError


def _distiller(**options):
    return ProgressiveDistiller(nn.Linear(2, 2), nn.Linear(2, 2), [Stage("one", [Match(".")], steps=1)], **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _distiller().fit([], epochs=3), r"fit has no argument 'epochs'; it is a field of Stage"),
        (lambda: _distiller().fit([], lr=0.1), r"fit has no argument 'lr'; it is an option of the stage's optimizer"),
        (lambda: _distiller().fit([], device="cpu"), r"'device'; it is an argument of ProgressiveDistiller"),
        (lambda: _distiller().fit([], trian_loader=[]), r"'trian_loader'; did you mean 'train_loader'"),
        (lambda: _distiller(epochs=3), r"ProgressiveDistiller has no argument 'epochs'; it is a field of Stage"),
        (lambda: Stage("one", [Match(".")], lr=0.1), r"Stage has no argument 'lr'; .* optimizer="),
        (lambda: Stage("one", [Match(".")], batch_size=2), r"'batch_size'; it is a matter of the loader"),
        (lambda: Stage("one", [Match(".")], step=2), r"Stage has no argument 'step'; did you mean 'steps'"),
        (lambda: curricula.progressive([Match(".")], epochs=3), r"progressive has no argument 'epochs': .* in steps"),
        (lambda: curricula.joint([Match(".")], steps=3, lr=0.1), r"'lr'; it is an option of the stage's optimizer"),
    ],
)
def test_an_argument_given_to_the_wrong_object_says_where_it_belongs(call, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
