"""One family of errors, one line each, with the name that was meant where there is one."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.errors import CascadeSimError, NotationError, SpecError, UnknownNameError, suggestion


def test_a_close_name_is_suggested() -> None:
    error = UnknownNameError("architecture", "fusmax", ("flat", "fusemax", "unfused"))
    assert str(error) == "no architecture 'fusmax'; did you mean 'fusemax'?"


def test_without_a_close_name_all_known_ones_are_listed_in_order() -> None:
    assert suggestion("zzz", ("flat", "bert")) == "; known: bert, flat"
    assert suggestion("zzz", ()) == ""


@pytest.mark.parametrize("error", [NotationError, SpecError, UnknownNameError])
def test_every_error_of_ours_is_of_one_family(error: type[Exception]) -> None:
    assert issubclass(error, CascadeSimError)
