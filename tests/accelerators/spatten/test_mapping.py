"""Units by structure: where each Einsum of known cascades runs, which cascades are refused."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.spatten.mapping import RESULTS, SCORES, SOFTMAX, units_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find


def test_attention_in_three_passes() -> None:
    assert units_of(find("attention-3pass")) == {
        "QK": SCORES, "GM": SOFTMAX, "SN": SOFTMAX, "SD": SOFTMAX, "A": SOFTMAX, "AV": RESULTS,
    }  # fmt: skip


@pytest.mark.parametrize(("cascade", "why"), [
    ("attention-1pass", "walks keys in tiles"), ("pruned-1pass", "walks keys in tiles"),
    ("linear-attention", "0 products of queries with keys"), ("top-k-gather", "chooses in its text"),
    ("local-value-pruning", "chooses in its text"), ("attention-pruned", "chooses in its text"),
    ("attention-3pass-deferred", "divides probabilities before"),
])  # fmt: skip
def test_what_is_no_softmax_attention_is_refused(cascade: str, why: str) -> None:
    with pytest.raises(CascadeSimError, match=why):
        units_of(find(cascade))


def test_another_function_of_scores_is_no_softmax() -> None:
    sigmoid = cascade("sigmoid-attention", """
        QK[h,m,p] = Q[h,p,e] * K[h,m,e]
        A[h,m,p]  = 1 / (1 + exp(-QK[h,m,p]))
        AV[h,p,f] = A[h,m,p] * V[h,m,f]
    """)
    with pytest.raises(CascadeSimError, match=r"1 divide \+ 1 exp \+ 1 max for each score, the cascade has 1 add"):
        units_of(sigmoid)
