"""Lists of key tiles and what choosing adds, on GPUs: tiles walked over, rows gathered, 4-bit products, fp32 parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.attention.tile import case_of, tile_cycles
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import work_of
from cascadesim.accelerators.gpu.plans import kernel_of, shape_of
from cascadesim.accelerators.protocol import checked
from cascadesim.einsum_cascades.models.operation import Operation, elementwise
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import Mask
from cascadesim.einsum_cascades.sparsity.pattern_masks import PatternMask
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS


def card(name: str = "h100-sxm", *settings: str) -> Gpu:
    found = load(name, settings)
    assert isinstance(found, Gpu)
    return found


def attention(mask: Mask, tokens: int, heads: int = 8) -> Operation:
    sizes = {"b": 1, "h": heads, "g": 1, "m": tokens, "p": tokens, "e": 128, "f": 128}
    return Operation("attention", "attention", ATTENTION_1PASS, tuple(sizes.items()), mask=mask)


def test_blocks_walk_over_the_tiles_of_the_list() -> None:
    """Half of 1, 2 ... 32 blocks of 128: as many keys in all, 16 blocks at most, 1 at least; each own block masked."""
    device, mask = card("a100-sxm").spec, PatternMask("pbs:share=0.5", (4096,), True)
    operation = attention(mask, 4096)
    kernel = kernel_of(operation, device)
    shape = shape_of(operation, mask, kernel, device)
    blocks = 1 + sum(count / 2 for count in range(2, 33))
    assert shape.visited_keys[0] == pytest.approx(blocks * 128 / 32)
    assert shape.listed is not None
    assert (shape.listed.shortest, shape.listed.longest) == (128, 16 * 128)
    case = case_of(device, kernel, constants("ampere"), shape, "bf16", "bf16")
    work = work_of(kernel, device, shape, case.tiles)
    assert work.visited[0] == pytest.approx(8 * blocks * 128 / case.tiles.keys[0])
    assert work.longest[0] == 16 * 128 / case.tiles.keys[0]
    assert work.shortest[0] == 128 / case.tiles.keys[0]
    assert work.masked[0] / work.visited[0] == pytest.approx(shape.listed.masked)
    assert shape.listed.masked == pytest.approx(32 / blocks)  # both halves of each own block


def test_a_tile_of_a_list_costs_its_factor_on_every_unit() -> None:
    device, mask = card().spec, PatternMask("pbs", (4096,), True)
    operation = attention(mask, 4096)
    kernel = kernel_of(operation, device)
    shape = shape_of(operation, mask, kernel, device)
    assert shape.listed is not None
    listed, plain = (tile_cycles(case_of(device, kernel, constants("hopper"), each, "bf16", "bf16"))
                     for each in (shape, replace(shape, listed=replace(shape.listed, cost=1.0))))  # fmt: skip
    for slow, fast in zip(listed, plain, strict=True):
        assert slow[0] == pytest.approx(kernel.block_sparse_factor * fast[0])


def test_gathered_rows_pass_at_the_rate_of_copies() -> None:
    """A million rows of 128 numbers, read and written: 512 MiB at 10 bytes a clock and SM, or DRAM's turns."""
    gpu = card("a100-sxm")
    rows = 1 << 20
    plan = checked(gpu.plan(elementwise("rows", find("gathered-rows"), rows, 128), "physical"), gpu)
    moved = 2 * rows * 128 * 2
    seconds = sum(phase.analytical_cycles for phase in plan.phases) / gpu.clock_hz
    at_least = moved / (gpu.spec.sms * gpu.clock_hz * constants(gpu.spec.generation).copied_bytes_per_clock)
    copied = checked(gpu.plan(elementwise("rows", find("moved-numbers"), rows, 128), "physical"), gpu)
    assert seconds > at_least
    assert seconds > 1.1 * sum(phase.analytical_cycles for phase in copied.phases) / gpu.clock_hz
    assert plan.traffic.total_bytes == pytest.approx(moved, rel=0.01)  # and the places


def test_parts_in_fp32_are_twice_as_wide() -> None:
    gpu = card()
    extents = (("r", 1 << 20), ("s", 4), ("d", 128))
    narrow = Operation("merge", "elementwise", find("merged-parts"), extents)
    wide = replace(narrow, numbers="fp32")
    bytes_of = [checked(gpu.plan(each, "physical"), gpu).traffic.total_bytes for each in (narrow, wide)]
    assert bytes_of[1] == pytest.approx(2 * bytes_of[0])


def test_codes_are_multiplied_where_tensor_cores_take_them() -> None:
    """RTX 4090: 4,096 FLOPs a clock and SM of 4-bit integers, 8 times those of 16 bits; H100 has none."""
    extents = (("b", 1), ("h", 32), ("g", 1), ("m", 8192), ("p", 16384), ("e", 128), ("f", 128))
    codes = Operation("scores", "attention", find("block-scores"), extents, numbers="int4")
    gpu = card("rtx4090")
    plan = checked(gpu.plan(codes, "physical"), gpu)
    tensor = sum(each.cycles for phase in plan.phases for each in phase.activities if each.unit == "tensor")
    macs = 32 * 8192 * 16384 * 128
    assert macs / (gpu.spec.sms * 2048) <= tensor < 2 * macs / (gpu.spec.sms * 2048)
    with pytest.raises(CascadeSimError, match="multiplies no int4"):
        card().plan(codes, "physical")


def test_a_kernel_that_is_asked_for_leaves_the_passes_of_a_pattern_alone() -> None:
    extents = (("b", 1), ("h", 32), ("g", 1), ("m", 128), ("p", 16384), ("e", 128), ("f", 128))
    scores = Operation("pattern_scores", "attention", find("block-scores"), extents)
    asked, free = (card("h100-sxm", f"kernel={kernel}") for kernel in ("flash-attention-2", "auto"))
    assert asked.plan(scores, "physical").phases[0].analytical_cycles == pytest.approx(
        free.plan(scores, "physical").phases[0].analytical_cycles)
    with pytest.raises(CascadeSimError, match="leave kernel=auto"):
        asked.plan(replace(scores, name="scores"), "physical")


@pytest.mark.parametrize("pattern", ["pbs", "moba", "sink-window:sinks=64,window=512",
                                     "power:block=256,window=4,sinks=1"])  # fmt: skip
def test_what_is_taken_apart_ends_at_the_plan(pattern: str) -> None:
    gpu, operation = card(), attention(PatternMask(pattern, (8192,), True), 8192)
    parts = gpu.listed_seconds(operation)
    plan = checked(gpu.plan(operation, "physical"), gpu)
    assert parts.plain_s <= parts.masked_s < parts.total_s
    assert parts.total_s * gpu.clock_hz == pytest.approx(sum(phase.analytical_cycles for phase in plan.phases))
    assert 0 < parts.visited <= 1.05
