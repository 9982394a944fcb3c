"""Time and traffic of kernels that no library has: by hand, and beside the kernels that are known."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from preset_devices import device

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.explain import shares
from cascadesim.accelerators.gpu.generic.blocks import problem_of
from cascadesim.accelerators.gpu.generic.plans import plan_text
from cascadesim.accelerators.gpu.generic.timing import Launches, launched, launches
from cascadesim.accelerators.gpu.memory import small_kernel_s
from cascadesim.accelerators.gpu.spec import Device
from cascadesim.accelerators.protocol import Plan
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.engine.engine import run

BERT = {"b": 1, "h": 12, "g": 1, "m": 65536, "p": 65536, "e": 64, "f": 64}
SIGMOID = cascade("sigmoid-attention", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    A[h,m,p]  = sigmoid(QK[h,m,p])
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")
RELU = cascade("relu-attention", SIGMOID.text.replace("sigmoid", "relu"))


def asked(text: Cascade, sizes: Mapping[str, int] = BERT, mask: Mask = FULL, **changed: int) -> Operation:
    return Operation("attention", "attention", text, tuple({**sizes, **changed}.items()), mask=mask)


def found(operation: Operation, on: Device) -> Launches:
    problem = problem_of(operation, on)
    return launches(problem, shares(operation, problem.splits), constants(on.generation))


def seconds(plan: Plan, on: Device) -> float:
    return sum(phase.analytical_cycles for phase in plan.phases) / on.clock_hz


def test_linear_attention_reads_its_inputs_once_and_writes_its_output_once() -> None:
    """12 heads of 65,536 x 64 numbers in 16 bits are 100,663,296 bytes a tensor, far beyond L2.

    KV and SK are 12 x (64 x 64 + 64) numbers in FP32; they, and their 8 parts, fit L2 but for what streams by.
    """
    tensor, sums = 12 * 65536 * 64 * 2, 12 * (64 * 64 + 64) * 4
    timings = found(asked(find("linear-attention")), device("h100-sxm")).timings
    keys, combine, queries = (each.movement for each in timings)
    assert (keys.read_bytes, keys.write_bytes, keys.again_bytes) == (2 * tensor, 0, 0)
    assert (combine.read_bytes, combine.write_bytes) == (0, sums)
    assert (queries.read_bytes, queries.write_bytes, queries.again_bytes) == (tensor + sums, tensor, 0)
    assert combine.l2_bytes == 8 * sums + sums
    blocks = 12 * 512
    assert queries.l2_bytes == 2 * tensor + blocks * (64 * 64 + 64) * 4


def test_units_of_linear_attention_by_hand() -> None:
    """132 SMs: 2,048 multiply-accumulates and 16 functions a clock, as far as constants of Hopper say."""
    spec, known = device("h100-sxm"), constants("hopper")
    keys, combine, queries = found(asked(find("linear-attention")), spec).timings
    assert keys.launch_s == queries.launch_s == spec.launch_s + known.kernel_latency_s
    assert combine.launch_s == small_kernel_s(spec)
    rates = spec.sms * spec.clock_hz
    elements = 12 * 65536 * 64
    assert keys.special_s == pytest.approx(elements / (16 * known.special_fraction * rates))
    assert keys.issue_s == pytest.approx((2 * elements + elements) / (128 * rates))  # ranges of exp, and sums
    assert keys.tensor_s == pytest.approx(elements * 64 / (2048 * known.tensor_fraction * rates))
    # NV, and SD as a product of 16 columns; exponentials of Q, and a reciprocal of each output
    assert queries.tensor_s == pytest.approx(elements * (64 + 16) / (2048 * known.tensor_fraction * rates))
    assert queries.special_s == pytest.approx(2 * elements / (16 * known.special_fraction * rates))


def test_two_passes_leave_weights_and_statistics_in_dram() -> None:
    """65,536 x 65,536 weights of 12 heads in 16 bits; statistics of 1,024 tiles a query in FP32."""
    weights, tiles, rows = 12 * 65536**2 * 2, 12 * 1024 * 65536 * 4, 12 * 65536 * 4
    tensor = 12 * 65536 * 64 * 2
    first, second = (each.movement for each in found(asked(find("attention-2pass")), device("h100-sxm")).timings)
    assert first.write_bytes == weights + 3 * tiles + rows  # SLN; LM, SLD and PLM; SD
    assert first.read_bytes - first.again_bytes == 2 * tensor + 2 * tiles  # Q and K; LM and SLD after the walk
    assert second.read_bytes - second.again_bytes == weights + tiles + rows + tensor  # SLN, PLM, SD, V
    assert second.write_bytes == tensor


def test_a_mask_leaves_out_weights_that_are_stored() -> None:
    """Causal: tile i of 512 tiles of 128 queries sees 2 (i + 1) of 1,024 steps; statistics of tiles are all stored."""
    share = sum(2 * (tile + 1) for tile in range(512)) / (512 * 1024)
    weights, tiles, rows = 12 * 65536**2 * 2, 12 * 1024 * 65536 * 4, 12 * 65536 * 4
    first, _ = found(asked(find("attention-2pass"), mask=KeyInterval(True)), device("h100-sxm")).timings
    assert first.movement.write_bytes == pytest.approx(share * weights + 3 * tiles + rows)


def test_parts_that_l2_does_not_hold_pass_by_dram() -> None:
    """8 parts of 12 heads of 256 x 257 sums in FP32 are 0.96 times the 26,214,400 bytes that L2 has: 43 % are lost."""
    spec, operation = device("h100-sxm"), asked(find("linear-attention"), h=12, e=256, f=256)
    problem = problem_of(operation, spec)
    parts = shares(operation, problem.splits)
    walk, combine, _ = launched(problem, ((8, 1), (1, 1)), parts, constants("hopper")).timings
    partial = 8 * 12 * 256 * 257 * 4
    lost = partial * (partial / spec.l2_kept_bytes - 0.75) / 0.5
    assert 0.4 < lost / partial < 0.5
    assert walk.movement.write_bytes == pytest.approx(lost)
    assert combine.movement.read_bytes == pytest.approx(lost)


def test_small_intermediates_stay_in_l2() -> None:
    """512 tokens: weights of 6 MB and all else fit the 26 MB that L2 keeps."""
    for timing in found(asked(find("attention-2pass"), m=512, p=512), device("h100-sxm")).timings:
        assert timing.movement.read_bytes == timing.movement.write_bytes == 0


@pytest.mark.parametrize("length", [65536, 131072, 262144])
def test_linear_attention_takes_between_its_traffic_and_two_and_a_half_times_that(length: int) -> None:
    spec = device("h100-sxm")
    floor = 4 * 12 * length * 64 * 2 / spec.datasheet.dram_bytes_per_s
    assert floor < found(asked(find("linear-attention"), m=length, p=length), spec).total_s < 2.5 * floor


def test_linear_attention_is_linear_in_its_length() -> None:
    """Beyond what launches and the ramp of DRAM take, which do not grow."""
    spec = device("h100-sxm")
    times = [found(asked(find("linear-attention"), m=n, p=n), spec).total_s for n in (262144, 524288, 1048576)]
    for shorter, longer in pairwise(times):
        assert longer / shorter == pytest.approx(2, rel=0.05)


def test_one_block_more_than_there_are_sms_takes_a_second_round() -> None:
    """132 and 133 heads of one block each; the last one also waits for its first loads."""
    spec, known = device("h100-sxm"), constants("hopper")
    one, two = (found(asked(RELU, h=heads, m=4096, p=128), spec) for heads in (132, 133))
    turn = known.block_latency_s / 132 / 2  # of two blocks that run together
    assert two.timings[0].schedule_s == pytest.approx(2 * one.timings[0].schedule_s + turn)


def test_few_blocks_load_no_faster_than_their_sms() -> None:
    """Chunked linear attention of 12 heads in 4 columns: 48 SMs, each with 64 bytes a clock from L2."""
    spec = device("h100-sxm")
    (timing,), (stage,) = (getattr(found(asked(find("linear-attention-chunked")), spec), name)
                           for name in ("timings", "stages"))  # fmt: skip
    assert stage.blocks == 48
    assert timing.schedule_s == pytest.approx(timing.movement.l2_bytes / 48 / 64 / spec.clock_hz)


def test_running_values_wait_for_those_before_them() -> None:
    """A state of every key: 65,536 steps of three Einsums of 60 cycles, on blocks of a quarter of a head's results that
    compute their own part in between."""
    text = cascade("delta", """
        S[h,0,e,f]   = 0
        KS[h,m,f]    = K[h,m,e] * S[h,m,e,f]
        D[h,m,f]     = V[h,m,f] - KS[h,m,f]
        S[h,m+1,e,f] = S[h,m,e,f] + K[h,m,e] * D[h,m,f]
        AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
    """)
    spec = device("h100-sxm")
    launch = found(asked(text), spec)
    (timing,), (stage,) = launch.timings, launch.stages
    own_s = (timing.tensor_s + max(timing.special_s, timing.issue_s)) * spec.sms / stage.blocks
    assert stage.blocks == 12 * 4
    assert timing.waits_s == pytest.approx(65536 * 3 * 60 / spec.clock_hz)
    assert timing.schedule_s == pytest.approx(timing.waits_s + own_s)


def test_a_report_says_how_long_steps_wait_for_each_other() -> None:
    """The busiest unit of a recurrence may be busy for less than half of the time: waits are no unit's.

    Qwen3.5-27B at 4,096 tokens: 96 blocks of 64 steps on 132 SMs.
    """
    (operation, *_) = load_workload("qwen3.5-27b").operations(sequence_length=4096, batch=1, scope="attention")
    spec = device("h100-sxm")
    (timing,), (stage,) = (getattr(found(operation, spec), name) for name in ("timings", "stages"))
    assert timing.waits_s == pytest.approx(64 * stage.kernel.circuit * 60 / spec.clock_hz)
    lines = plan_text(operation, spec).mapping
    said = f"  its steps wait for each other for {timing.waits_s * 1e6:,.1f} us, in which a block computes nothing"
    assert [line.partition(" (")[0] for line in lines if "wait for each other" in line] == [said]
    assert not [line for line in plan_text(asked(find("linear-attention")), spec).mapping if "wait for" in line]


@pytest.mark.parametrize("name", ["gated-deltanet-step", "deltanet", "linear-attention-gated",
                                  "gated-deltanet-chunked"])  # fmt: skip
def test_steps_one_after_another_take_as_long_at_both_levels(name: str) -> None:
    """A single block on an SM, whose steps nothing hides: 12 heads of 8,192 tokens."""
    (operation,) = load_workload("bert").operations(sequence_length=8192, batch=1, scope="attention", attention=name)
    plan = load("h100-sxm").plan(operation, "physical")
    closed = sum(phase.analytical_cycles for phase in plan.phases)
    assert sum(run(phase.program()).cycles for phase in plan.phases if phase.program) == pytest.approx(closed, rel=0.05)


KNOWN = {"attention-1pass": "triton", "attention-3pass": "unfused-pytorch"}


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm", "b200", "l40s"])
@pytest.mark.parametrize("text", KNOWN)
@pytest.mark.parametrize("sizes", [{"b": 64, "m": 1024, "p": 1024}, {"m": 65536, "p": 65536}])
def test_known_texts_as_kernels_of_their_own_take_as_long_as_the_kernels_that_are_known(
    name: str, text: str, sizes: Mapping[str, int]
) -> None:
    """Triton's fused attention, and PyTorch's unfused one, whose times were compared with measurements.

    Work of a score is counted there, derived from the text here: nothing was fitted to make them agree. On a B200 short
    sequences spend more than a third of the time between blocks, of which more run together here.
    """
    within = 0.35 if (name, text) == ("b200", "attention-1pass") else 0.2
    operation = asked(find(text), {**BERT, **sizes})
    known = load(name, (f"kernel={KNOWN[text]}",)).plan(operation, "physical")
    own = plan_text(operation, device(name))
    assert seconds(own, device(name)) == pytest.approx(seconds(known, device(name)), rel=within)


def test_texts_with_other_work_take_other_units_for_another_time() -> None:
    spec = device("h100-sxm")
    (sigmoid,), (relu,) = (found(asked(text), spec).timings for text in (SIGMOID, RELU))
    assert sigmoid.tensor_s == relu.tensor_s
    assert relu.special_s == 0 < sigmoid.special_s  # exponential and reciprocal against a maximum
    assert relu.issue_s * 11 == pytest.approx(sigmoid.issue_s)  # 2 of exp, an add, 8 of a division against 1


def test_a_mask_leaves_out_time_and_bytes() -> None:
    spec = device("h100-sxm")
    full, causal, window = (found(asked(SIGMOID, mask=mask), spec).timings[0]
                            for mask in (FULL, KeyInterval(True), KeyInterval(True, window=1024)))  # fmt: skip
    assert causal.tensor_s == pytest.approx(full.tensor_s / 2, rel=0.01)
    assert causal.movement.l2_bytes == pytest.approx(full.movement.l2_bytes / 2, rel=0.02)
    assert window.tensor_s < 0.03 * full.tensor_s
    assert full.total_s > 1.8 * causal.total_s > 10 * window.total_s


def test_long_walks_of_few_blocks_are_split_and_short_ones_are_not() -> None:
    spec = device("h100-sxm")
    long, short = (found(asked(SIGMOID, m=keys, p=1), spec) for keys in (65536, 128))
    assert [stage.parts for stage in long.stages] == [8, 1]
    assert [stage.parts for stage in short.stages] == [1]


def test_keys_that_later_rounds_walk_over_again_come_from_dram_once_l2_has_lost_them() -> None:
    """One head of 4,096 queries over keys of 1 GB: 32 blocks share one walk; 64 heads take three rounds."""
    spec = device("rtx4090")  # 128 SMs, 72 MB of L2
    sizes = {**BERT, "e": 128, "f": 128, "m": 2**21}
    one = found(asked(SIGMOID, sizes, h=1, p=4096), spec).timings[0].movement
    assert one.again_bytes == 0
    many = found(asked(SIGMOID, sizes, h=1, p=131072), spec).timings[0].movement
    assert many.again_bytes > 0
    fits = found(asked(SIGMOID, sizes, h=1, p=131072, m=8192), spec).timings[0].movement
    assert fits.again_bytes == 0


TEXTS = (*map(find, ("linear-attention", "attention-2pass", "attention-3pass-deferred", "pruned-1pass")), SIGMOID)
GENERATIONS = ("a100-sxm", "h100-sxm", "b200", "l40s", "mi300x")


def drawn(seed: int, count: int) -> list[tuple[Operation, np.random.Generator]]:
    """Prefill and decoding, grouped heads, causal or not."""
    pick = np.random.default_rng(seed)
    cases = []
    for place in range(count):
        heads, group, decode = int(pick.integers(1, 9)), int(2 ** pick.integers(0, 4)), bool(pick.random() < 0.4)
        keys, depth = int(2 ** pick.uniform(0, 16)), int(pick.choice([32, 64, 128]))
        queries = 1 if decode else min(int(2 ** pick.uniform(0, 13)), keys)
        text = TEXTS[place % len(TEXTS)]
        masked = not decode and pick.random() < 0.5 and text.name != "linear-attention"
        sizes = {"b": int(pick.integers(1, 17)), "h": heads * group, "g": group, "m": keys, "p": queries, "e": depth,
                 "f": depth}  # fmt: skip
        cases.append((asked(text, sizes, KeyInterval(True) if masked else FULL), pick))
    return cases


def improved(spec: Device, what: str, factor: float) -> Device:
    measured = {"dram": ("dram_bytes_per_s", spec.dram_ceiling_bytes_per_s),
                "l2_bandwidth": ("l2_bytes_per_s", spec.l2_ceiling_bytes_per_s)}  # fmt: skip
    if what in measured:
        field, ceiling = measured[what]
        return spec.model_copy(update={"measured": spec.measured.model_copy(update={field: factor * ceiling})})
    if what == "clock":
        return spec.model_copy(update={field: factor * getattr(spec, field) for field in ("clock_hz", "max_clock_hz")})
    return spec.model_copy(update={what: int(factor * getattr(spec, what)) + 1})


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATIONS)
def test_more_hardware_is_never_slower(name: str) -> None:
    for operation, pick in drawn(30, 20):
        before = found(operation, device(name))
        for what in ("sms", "clock", "dram", "l2_bandwidth", "l2_bytes"):
            after = found(operation, improved(device(name), what, float(pick.uniform(1.01, 2))))
            assert after.total_s <= before.total_s * (1 + 1e-9), (operation, what)


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATIONS)
def test_more_work_is_never_faster(name: str) -> None:
    for operation, pick in drawn(31, 20):
        sizes, before = dict(operation.extents), found(operation, device(name))
        step = int(pick.integers(1, 300))
        more = [{"b": sizes["b"] + step % 5 + 1}, {"h": sizes["h"] + sizes["g"]}, {"m": sizes["m"] + step}]
        more += [{"m": sizes["m"] + step, "p": sizes["p"] + step}] if sizes["p"] > 1 else []
        for changed in more:
            after = found(asked(operation.cascade, sizes, operation.mask, **changed), device(name))
            assert after.total_s >= before.total_s * (1 - 1e-9), (operation, changed)
