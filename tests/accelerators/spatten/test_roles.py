"""Units by structure: where each Einsum of known cascades runs, which cascades are refused."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.spatten.roles import CHOICE, RESULTS, SCORES, SOFTMAX, units_of
from cascadesim.einsum_cascades.catalogue import find
from cascadesim.einsum_cascades.errors import CascadeSimError


def test_attention_in_three_passes() -> None:
    assert units_of(find("attention-3pass")) == {
        "QK": SCORES, "GM": SOFTMAX, "SN": SOFTMAX, "SD": SOFTMAX, "A": SOFTMAX, "AV": RESULTS,
    }  # fmt: skip


def test_a_deferred_division_is_no_product() -> None:
    units = units_of(find("attention-3pass-deferred"))
    assert (units["SNV"], units["AV"]) == (RESULTS, SOFTMAX)


@pytest.mark.parametrize(("cascade", "choices"), [
    ("local-value-pruning", {"I"}), ("attention-pruned", {"IV", "I", "O", "IH", "OH"}), ("attention-top-k", {"I"}),
])  # fmt: skip
def test_choices_run_on_the_top_k_engine(cascade: str, choices: set[str]) -> None:
    assert {name for name, unit in units_of(find(cascade)).items() if unit == CHOICE} == choices


@pytest.mark.parametrize(("cascade", "why"), [
    ("attention-1pass", "walks keys in tiles"), ("pruned-1pass", "walks keys in tiles"),
    ("linear-attention", "0 products of queries with keys"), ("top-k-gather", "0 of probabilities with values"),
])  # fmt: skip
def test_what_is_no_softmax_attention_is_refused(cascade: str, why: str) -> None:
    with pytest.raises(CascadeSimError, match=why):
        units_of(find(cascade))
