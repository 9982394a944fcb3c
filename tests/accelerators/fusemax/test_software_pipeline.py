"""The smallest distances between the four tiles of an epoch, by hand; and what a preset may say about the binding."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.pipeline import smallest_distances
from cascadesim.accelerators.fusemax.spec import Distances, Placement, place
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.einsum_cascades.texts import find

Design = Callable[..., FuseMax]

BERT_TILE = {
    "QK": 64, "LM": 1, "SLN": 7, "SLD": 1, "SLNV": 64, "RM": 1, "PRM": 7, "SPD": 1, "RD": 1, "SPNV": 64, "RNV": 64,
    "AV": 64,
}  # fmt: skip


@pytest.fixture
def placement(design: Design) -> Placement:
    return place(find("attention-1pass"), design("fusemax").spec)


def test_bert_needs_four_epochs_to_hide_a_drain_of_256_cycles(placement: Placement) -> None:
    """An epoch lasts 138 cycles (1D array), the 1D array starts it s cycles after the 2D array.

    LM[d] ends at 64 + 64 + 1 = 129, has left at 385; RM may start in epoch c at 138 c + s; and SLN[c] starts at 129,
    when RM (third in turn) has ended at s + 3: s <= 126, so c = 2 with s >= 109. SLNV[b] follows SLN[c] by an epoch:
    b = 3. It streams 256 cycles ahead of RNV[a]: 138 (a - 3) + s >= 256, so a = 4 with s >= 118.
    """
    assert smallest_distances(placement, BERT_TILE, 256) == Distances(a=4, b=3, c=2, d=0)


def test_without_drains_a_tile_takes_the_epochs_of_its_order_only(placement: Placement) -> None:
    """RM[c] of the epoch of LM would come after SLN[c]: c is one epoch behind d, and so on."""
    assert smallest_distances(placement, BERT_TILE, 0) == Distances(a=2, b=2, c=1, d=0)


def test_longer_epochs_hide_the_same_drain_in_fewer_of_them(placement: Placement) -> None:
    longer = {**BERT_TILE, **dict.fromkeys(["QK", "SLNV", "SPNV", "RNV"], 128)}
    assert smallest_distances(placement, longer, 256) == Distances(a=3, b=2, c=1, d=0)


def test_longer_drains_never_shorten_the_pipeline(placement: Placement) -> None:
    found = [smallest_distances(placement, BERT_TILE, drain) for drain in range(0, 1200, 25)]
    assert [each.a for each in found] == sorted(each.a for each in found)


def test_the_1d_array_may_begin_its_epoch_first(placement: Placement) -> None:
    """An epoch lasts 13 cycles: 10 for three in turn, of which RM ends last, and RD, PRM, SPD. SLN[c] begins at 5, so
    s <= -5. LM[d] ends at 5, has left at 15: 13 c + s >= 15, c = 2; b = 3. SLNV[b] leaves from 10 on, the first of it:
    13 (a - 3) + s >= 10, a = 5."""
    tile = {**dict.fromkeys(BERT_TILE, 1), "QK": 2, "SLNV": 2, "SPNV": 2, "RNV": 2, "RM": 6}
    assert smallest_distances(placement, tile, 10) == Distances(a=5, b=3, c=2, d=0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("binding.policy=greedy", "binding.policy: should be 'epochs', 'serial' or 'interleave' .got 'greedy'."),
        ("binding.in_flight=4", "in_flight belongs to policy interleave, not to epochs"),
        ("binding.distances={a: 1, b: 2, c: 3}", "expected d <= c < b <= a"),
        ("binding.policy=interleave", "policy interleave needs in_flight"),
        ("pe_array.rows=0", "pe_array.rows: should be greater than 0"),
        ("binding.depth=3", "binding.depth: unknown field"),
    ],
)
def test_a_binding_that_means_nothing_is_refused(setting: str, message: str, design: Design) -> None:
    with pytest.raises(SpecError, match=message):
        design("fusemax", setting)


def test_distances_belong_to_the_epochs(design: Design) -> None:
    with pytest.raises(SpecError, match="distances belong to policy epochs, not to serial"):
        design("fusemax-architecture", "binding.distances={a: 4, b: 3, c: 2}")
