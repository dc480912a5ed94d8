import pickle

import pytest

from vse import errors


@pytest.mark.parametrize("kind", errors.tree(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_place(kind):
    error = kind("read /a", "it is not there", "look elsewhere")
    assert str(error) == "cannot read /a: it is not there. Look elsewhere"
    assert 1 <= errors.exit_code(error) <= 255
    assert 400 <= errors.http_status(error) <= 599
    assert errors.errno_of(error) > 0
    assert kind.__name__ in (errors.__doc__ or "")


def test_codes_are_unique():
    codes = [kind.code for kind in errors.tree()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", errors.tree(), ids=lambda kind: kind.__name__)
def test_survives_pickle_and_json(kind):
    error = kind("read /a", "gone", "ask")
    for copy in (pickle.loads(pickle.dumps(error)), errors.from_dict(error.to_dict())):  # noqa: S301
        assert type(copy) is kind
        assert str(copy) == str(error)


def test_an_unknown_code_is_still_an_error():
    error = errors.from_dict({"code": "from-the-future", "wanted": "fly"})
    assert type(error) is errors.VseError
    assert str(error) == "cannot fly"


def test_exit_codes_follow_the_branch():
    assert errors.exit_code(errors.BadLfn("x")) == 2
    assert errors.exit_code(errors.NoSuchFile("x")) == 3
    assert errors.exit_code(errors.Interrupted("x")) == 130
