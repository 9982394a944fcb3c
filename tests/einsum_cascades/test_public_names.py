"""The names that the package offers: each is the one its module defines, and none is imported before it is used."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cascadesim import einsum_cascades


def test_a_cascade_is_written_evaluated_and_analysed_by_public_names_alone() -> None:
    mine = einsum_cascades.cascade("mine", "S[r] = X[r,d]\nY[r,d] = X[r,d] / S[r]")
    found = einsum_cascades.evaluate(mine, {"X": np.array([[1.0, 3.0]])})
    assert found["Y"].tolist() == [[0.25, 0.75]]
    assert einsum_cascades.passes(mine, "d") == 2
    assert einsum_cascades.graph(mine).number_of_edges() == 1
    assert einsum_cascades.parse("mine", einsum_cascades.to_text(mine)).produced == ("S", "Y")


def test_every_public_name_is_there_and_is_listed_once() -> None:
    assert len(set(einsum_cascades.__all__)) == len(einsum_cascades.__all__)
    for name in einsum_cascades.__all__:
        assert getattr(einsum_cascades, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        einsum_cascades.nothing  # noqa: B018


def test_importing_the_package_imports_no_module_of_it() -> None:
    script = ("import sys, cascadesim.einsum_cascades as package; "
              "sys.exit(any(name.startswith(package.__name__ + '.') for name in sys.modules))")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
