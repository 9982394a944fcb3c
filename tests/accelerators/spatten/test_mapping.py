"""Units by structure: where each Einsum of known cascades runs, which cascades are refused, what stays idle."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.spatten.accelerator import Spatten
from cascadesim.accelerators.spatten.mapping import (
    RESULTS,
    SCORES,
    SOFTMAX,
    head_work,
    lanes_in_use,
    piece_sizes,
    smaller_pieces,
    units_of,
)
from cascadesim.einsum_cascades.models.operation import Operation
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


@pytest.mark.parametrize(("changes", "used"), [
    ((), (32, 8)),  # as the RTL has them: two fetch channels a DRAM channel, a lane for each of 8 vectors of a line
    (("fetch_channels=128", "softmax_lanes=32"), (32, 8)),
    (("dram.channels=2",), (4, 4)),  # no more lanes than fetch channels, which bring a vector's index each
    (("multipliers=64",), (4, 1)),  # two lines of one 8-bit vector are 4 transactions
    (("fetch_channels=24", "softmax_lanes=6"), (16, 4)),
])  # fmt: skip
def test_lanes_that_only_delay_others_stay_idle(changes: tuple[str, ...], used: tuple[int, int]) -> None:
    machine = load("spatten", changes)
    assert isinstance(machine, Spatten)
    assert lanes_in_use(machine.spec) == used


def test_pieces_of_a_smaller_buffer_are_pieces_of_a_larger_one() -> None:
    """Multiples of the count and of two lines, 32 keys at 512 multipliers; two of the largest fit."""
    small, large = (load("spatten", [f"buffer_lines={lines}"]) for lines in (100, 256))
    assert isinstance(small, Spatten)
    assert isinstance(large, Spatten)
    assert piece_sizes(small.spec) == (32, 64, 128, 256)  # 800 keys, half of them 400
    assert piece_sizes(large.spec) == (32, 64, 128, 256, 512, 1024)


def test_streams_of_very_many_pieces_are_not_tried() -> None:
    """16 heads of 2,048 keys: 128 pieces each, 2,048 in all, is the most; smaller pieces than 16 keys are more."""
    machine = load("spatten-1-8")
    assert isinstance(machine, Spatten)
    extents = {"b": 1, "h": 16, "g": 1, "m": 2048, "p": 1, "e": 64, "f": 64}
    operation = Operation("attention", "attention", find("attention-3pass"), tuple(extents.items()))
    assert smaller_pieces(head_work(operation, machine.spec), machine.spec) == (16, 32, 64, 128, 256, 512, 1024)
