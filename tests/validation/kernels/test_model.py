"""Predictions of our kernels come from their static counts: cycles by hand, and counts that change a prediction."""

from __future__ import annotations

from copy import deepcopy

import pytest

from cascadesim.accelerators.gpu.attention.tile import case_of
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import shape
from cascadesim.validation.gpu.model import device
from cascadesim.validation.kernels import model as kernel_model
from cascadesim.validation.kernels.model import (
    Attended,
    call_timing,
    calls_of,
    counted,
    descriptor,
    loop_cycles,
    resident_blocks,
)
from cascadesim.validation.measure.cases import cases

H100 = device("h100-sxm")
LONG = shape(1, 16, 16, 16384, 16384, 128)
MADE_UP = {
    "name": "made up", "family": "attention", "target": 90, "warps": 8, "stages": 3, "registers": 160,
    "shared_bytes": 131072,
    "constants": {"E": 128, "F": 128, "P0": 128, "M0": 64, "CAUSAL": True, "RAGGED": False},
    "loops": [
        {"matrix_flop": 4 * 128 * 64 * 128, "exponentials": 8704, "instructions_per_warp": each,
         "classes": {"matrix": 12}}
        for each in (352, 512)
    ],
}  # fmt: skip


def cycles_of(counts: dict, masked: float) -> list[list[float]]:
    case = case_of(H100, descriptor(counts, H100), constants("hopper"), LONG, "fp16", "fp16")
    return [[float(unit[0]) for unit in loop] for loop in loop_cycles(case, counts, masked)]


def test_cycles_of_a_tile_are_counts_over_rates() -> None:
    """4,194,304 FLOP over 4096 a clock: 1024 clocks at the peak; 8704 exponentials over 16: 544; of 8 warps 340
    instructions besides products, 4 a clock: 680, and with masks in a quarter of the tiles 40 x 2 more."""
    known = constants("hopper")
    ((tensor, special, issue, _),) = cycles_of(MADE_UP, masked=0.25)
    assert tensor == pytest.approx(1024 / known.tensor_fraction)
    assert special == pytest.approx(544 / known.special_fraction)
    assert issue == pytest.approx(680 + 0.25 * 8 * 160 / 4)


def test_loops_of_a_recomputing_cascade_are_all_run() -> None:
    """3-pass, not causal: three loops, none of them for masks; 1 + 1 + 2 of the two products of a tile."""
    counts = counted()["attention-3pass fp16 D128", 90]
    each = cycles_of(counts, masked=0.0)
    whole = cycles_of(counted()["attention-1pass fp16 D128", 90], masked=0.0)[0][0]
    assert [loop[0] / whole for loop in each] == pytest.approx([0.5, 0.5, 1.0])


@pytest.mark.parametrize(("field", "unit"), [("matrix_flop", "tensor_s"), ("exponentials", "special_s"),
                                             ("instructions_per_warp", "issue_s")])  # fmt: skip
def test_a_prediction_follows_the_counts(field: str, unit: str) -> None:
    """Twice as much of one count is twice as long on its unit, and no faster in all."""
    counts = counted()["attention-1pass fp16 D128", 90]
    more = deepcopy(counts)
    for loop in more["loops"]:
        loop[field] *= 2
        loop["classes"]["matrix"] *= 1 + (field == "instructions_per_warp")
    before, after = (call_timing(each, H100, LONG) for each in (counts, more))
    assert getattr(after, unit)[0] == pytest.approx(2 * getattr(before, unit)[0])
    assert after.total_s[0] > before.total_s[0]


def test_masks_cost_what_their_loop_has_more() -> None:
    counts = counted()["neighborhood 2-D fp16 D128", 90]
    few, all_masked = (call_timing(counts, H100, LONG, masked=share).total_s[0] for share in (0.1, 1.0))
    assert few < all_masked


def test_blocks_of_an_sm_share_its_registers_and_shared_memory() -> None:
    """160 registers x 256 threads x 4 bytes: 1 of 262,144 bytes. 64 registers, 20 KiB: 4 by registers; with 100 KiB of
    shared memory, 2 of 228 KiB, 1 KiB of each reserved."""
    assert resident_blocks(MADE_UP, H100) == 1
    assert resident_blocks({**MADE_UP, "registers": 60, "shared_bytes": 20 * 1024}, H100) == 4
    assert resident_blocks({**MADE_UP, "registers": 60, "shared_bytes": 100 * 1024}, H100) == 2


@pytest.mark.parametrize("preset", ["a100-sxm", "h100-sxm", "h200-sxm", "b200"])
def test_every_measured_family_has_counts_for_every_device(preset: str) -> None:
    found = set()
    for case in cases():
        for calls in calls_of(case.suite, case.shape, case.work).values():
            for call in calls:
                if isinstance(call, Attended):
                    assert (call.kernel, kernel_model.target_of(device(preset).compute_capability)) in counted()
                    found.add(case.suite)
    assert found == {"attention", "decode", "neighborhood", "pruned"}


def test_our_predictions_are_near_published_figures_of_plain_triton() -> None:
    """FlashAttention-3 paper, H100, head dimension 128, 16K, full: 395 TFLOP/s; the model's constants know no Triton
    kernel, so only the order of size is asked: within a factor of 1.5."""
    seconds = float(call_timing(counted()["attention-1pass fp16 D128", 90], H100, LONG).total_s[0])
    assert 395e12 / 1.5 < 4 * 16 * 16384**2 * 128 / seconds < 395e12 * 1.5
