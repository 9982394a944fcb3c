"""The smallest distances between the four tiles of an epoch, by hand; and what a preset may say about the binding."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.pipeline import smallest_distances
from cascadesim.accelerators.fusemax.spec import Distances
from cascadesim.einsum_cascades.notation.errors import SpecError

Design = Callable[..., FuseMax]

BERT_TILE = {
    "QK": 64, "LM": 1, "SLN": 7, "SLD": 1, "SLNV": 64, "RM": 1, "PRM": 7, "SPD": 1, "RD": 1, "SPNV": 64, "RNV": 64,
    "AV": 64,
}  # fmt: skip


def test_bert_needs_four_epochs_to_hide_a_drain_of_256_cycles() -> None:
    """An epoch lasts 138 cycles (1D array), the 1D array starts it s cycles after the 2D array.

    LM[d] ends at 64 + 64 + 1 = 129, has left at 385; RM may start in epoch c at 138 c + s; and SLN[c] starts at 129,
    when RM (third in turn) has ended at s + 3: s <= 126, so c = 2 with s >= 109. SLNV[b] follows SLN[c] by an epoch:
    b = 3. It streams 256 cycles ahead of RNV[a]: 138 (a - 3) + s >= 256, so a = 4 with s >= 118.
    """
    assert smallest_distances(BERT_TILE, 256) == Distances(a=4, b=3, c=2, d=0)


def test_without_drains_a_tile_takes_the_epochs_of_its_order_only() -> None:
    """RM[c] of the epoch of LM would come after SLN[c]: c is one epoch behind d, and so on."""
    assert smallest_distances(BERT_TILE, 0) == Distances(a=2, b=2, c=1, d=0)


def test_longer_epochs_hide_the_same_drain_in_fewer_of_them() -> None:
    longer = {**BERT_TILE, **dict.fromkeys(["QK", "SLNV", "SPNV", "RNV"], 128)}
    assert smallest_distances(longer, 256) == Distances(a=3, b=2, c=1, d=0)


def test_longer_drains_never_shorten_the_pipeline() -> None:
    found = [smallest_distances(BERT_TILE, drain) for drain in range(0, 1200, 25)]
    assert [each.a for each in found] == sorted(each.a for each in found)


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
