"""Devices: presets against datasheets, ceilings below peaks; types of operands: what is multiplied, moved, refused."""

from __future__ import annotations

import pytest
from preset_devices import device

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.catalogue import load, presets
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Dtype, OperandTypes
from cascadesim.accelerators.protocol import Plan, problems
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.lowering import linear
from cascadesim.einsum_cascades.models.operation import Operand
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError

NAMES = tuple(name for name in presets() if name.startswith("gpu/"))
every_device = pytest.mark.parametrize("name", NAMES)


def test_an_h100_multiplies_989_tflops() -> None:
    """132 SMs x 1.83 GHz x 4096 FLOP = 989.5e12 (datasheet: 989.4)."""
    h100 = device("gpu/h100-sxm")
    assert (h100.sms, h100.clock_hz, h100.flop_per_clock_sm("bf16")) == (132, 1.83e9, 4096)
    assert h100.flop_per_clock_sm("fp8") == 2 * 4096


def test_every_public_device_has_a_preset() -> None:
    assert {"gpu/h100-sxm", "gpu/a100-sxm", "gpu/h200-sxm", "gpu/b200", "gpu/rtx4090", "gpu/l40s"} < set(NAMES)
    assert len(NAMES) == 31


@every_device
def test_tensor_rates_times_sms_times_clock_are_the_datasheet(name: str) -> None:
    """Within 2%: the tolerance of the public table, whose clocks are rounded."""
    found = device(name)
    rates = found.sm.tensor_flop_per_clock.known
    for dtype, tflops in found.datasheet.tensor_tflops.known.items():
        assert found.sms * found.clock_hz * rates[dtype] == pytest.approx(tflops * 1e12, rel=0.02), dtype


@every_device
def test_fp32_lanes_times_the_highest_clock_are_the_datasheet(name: str) -> None:
    """Within 3%, as the public table states; H20's 44 TFLOPS are 11% more than its 78 SMs do (see there)."""
    found = device(name)
    flops = 2 * found.sm.fp32_fma_per_clock * found.sms * found.max_clock_hz
    stated = found.datasheet.fp32_tflops * 1e12 / (1.113 if name == "gpu/h20" else 1)
    assert flops == pytest.approx(stated, rel=0.03)


@every_device
def test_measured_ceilings_are_below_what_the_vendor_states(name: str) -> None:
    found = device(name)
    assert found.dram_ceiling_bytes_per_s < found.datasheet.dram_bytes_per_s
    assert found.l2_ceiling_bytes_per_s > found.dram_ceiling_bytes_per_s


def test_an_exponential_takes_a_sixteenth_of_a_clock_on_hopper_and_blackwell() -> None:
    """FA3 paper: 3.9 T special functions a second on H100; FA4 paper: unchanged on B200."""
    hopper = device("gpu/h100-sxm")
    assert hopper.sms * hopper.clock_hz * hopper.sm.special_per_clock == pytest.approx(3.9e12, rel=0.01)
    assert device("gpu/b200").sm.special_per_clock == hopper.sm.special_per_clock


def test_a_device_says_what_it_does_not_multiply() -> None:
    with pytest.raises(CascadeSimError, match="multiplies no fp8; it multiplies"):
        device("gpu/a100-sxm").flop_per_clock_sm("fp8")


def test_a_clock_beyond_the_highest_is_refused() -> None:
    with pytest.raises(SpecError, match="exceeds max_clock_hz"):
        load("h100-sxm", ["clock_hz=3_000_000_000.0"])


def gpu(name: str, *settings: str) -> Gpu:
    found = catalogue.load(name, settings)
    assert isinstance(found, Gpu)
    return found


def product(rows: int, *settings: str, operand: Operand = "weights", name: str = "h100-sxm") -> Plan:
    return gpu(name, *settings).plan(linear("up", rows, 8192, 8192, operand=operand), "physical")


def attention(phase: Phase, *settings: str, name: str = "h100-sxm") -> Plan:
    found = load_workload("llama").operations(
        sequence_length=8192, batch=16, phase=phase, scope="attention", attention="attention-1pass"
    )
    return gpu(name, *settings).plan(found[0], "physical")


def busy(plan: Plan, unit: str) -> int:
    return sum(one.cycles for phase in plan.phases for one in phase.activities if one.unit == unit)


@pytest.mark.parametrize(
    ("rows", "second", "product_type"),
    [
        ("bf16", "bf16", "bf16"), ("bf16", "fp8", "bf16"), ("bf16", "int4", "bf16"), ("fp16", "int8", "fp16"),
        ("bf16", "nvfp4", "bf16"), ("fp8", "bf16", "bf16"), ("fp8", "fp8", "fp8"), ("fp8", "nvfp4", "fp8"),
        ("fp8", "int4", "fp8"), ("int8", "int4", "int8"), ("nvfp4", "nvfp4", "fp4"), ("mxfp4", "mxfp4", "fp4"),
    ],
)  # fmt: skip
def test_a_product_is_made_in_the_type_of_its_wider_operand(rows: Dtype, second: Dtype, product_type: Dtype) -> None:
    assert OperandTypes(rows, second).product == product_type


@pytest.mark.parametrize(("rows", "second"), [("fp8", "int8"), ("int8", "fp8"), ("int8", "fp4"), ("bf16", "fp16")])
def test_types_that_do_not_convert_are_refused(rows: Dtype, second: Dtype) -> None:
    with pytest.raises(CascadeSimError, match=f"{rows} and a second operand in {second}: neither converts"):
        assert OperandTypes(rows, second).product


def test_groups_carry_their_scales() -> None:
    """int4: 32 bits for 128 numbers; mxfp4: 8 for 32; nvfp4: 8 for 16."""
    assert DTYPE_BYTES["int4"] * 8 == 4 + 32 / 128
    assert DTYPE_BYTES["mxfp4"] * 8 == 4 + 8 / 32
    assert DTYPE_BYTES["nvfp4"] * 8 == 4 + 8 / 16


@pytest.mark.parametrize("dtype", ["fp8", "int4", "mxfp4", "nvfp4", "int8"])
def test_weights_move_at_their_own_width(dtype: Dtype) -> None:
    """One row: 8192 x 8192 weights, and rows that stay in L2."""
    assert product(1, f"types.weights={dtype}").traffic.read_bytes == 8192 * 8192 * DTYPE_BYTES[dtype]
    assert product(1).traffic.read_bytes == 8192 * 8192 * 2


def test_rows_move_at_their_own_width() -> None:
    """2^20 rows of 1024, far more than L2 holds; 1024 x 128 weights of two bytes."""
    tall = linear("up", 2**20, 1024, 128)
    for setting, width in (("types.activations=bf16", 2), ("types.activations=fp8", 1)):
        plan = gpu("h100-sxm", setting).plan(tall, "physical")
        assert plan.traffic.read_bytes == 2**30 * width + 1024 * 128 * 2


def test_narrow_weights_pass_by_l2_at_their_own_width_too() -> None:
    assert busy(product(1, "types.weights=int4"), "l2") < 0.5 * busy(product(1), "l2")


def test_narrow_weights_beside_wide_activations_gain_bandwidth_and_no_rate() -> None:
    wide, narrow = product(8192), product(8192, "types.weights=fp8")
    assert busy(narrow, "tensor") == pytest.approx(busy(wide, "tensor"), rel=0.02)  # the tile may be another
    assert busy(product(8192, "types.weights=fp8", "types.activations=fp8"), "tensor") < 0.7 * busy(wide, "tensor")
    wide, narrow = product(1), product(1, "types.weights=int4")
    assert narrow.traffic.read_bytes == pytest.approx(wide.traffic.read_bytes * 4.25 / 16, rel=1e-2)
    assert 4.25 / 16 < busy(narrow, "dram") / busy(wide, "dram") < 0.4  # short transfers reach less of the bandwidth


def test_experts_have_a_type_of_their_own_and_otherwise_that_of_the_weights() -> None:
    wide = product(1, "types.experts=mxfp4")
    own = product(1, "types.experts=mxfp4", operand="experts")
    assert own.traffic.read_bytes / wide.traffic.read_bytes == 4.25 / 16
    assert product(1, "types.weights=fp8", operand="experts").traffic.read_bytes == 8192 * 8192


def test_one_type_for_all_is_the_setting_dtype() -> None:
    kinds = [f"types.{kind}=fp8" for kind in ("weights", "experts", "activations", "kv", "attention")]
    assert product(64, *kinds).phases[0].analytical_cycles == product(64, "dtype=fp8").phases[0].analytical_cycles
    for phase in ("prefill", "decode"):
        one, other = attention(phase, *kinds), attention(phase, "dtype=fp8")  # type: ignore[arg-type]
        assert one.phases[0].analytical_cycles == other.phases[0].analytical_cycles


def test_decoding_reads_the_cache_in_its_type_and_a_prompt_multiplies_what_it_made() -> None:
    """Of 16 x 8192 keys and values of 8 heads of 128, a byte each instead of two."""
    cache = 16 * 8192 * 8 * (128 + 128)
    half = attention("decode", "types.kv=fp8")
    assert attention("decode").traffic.read_bytes - half.traffic.read_bytes == pytest.approx(cache, rel=0.01)
    assert half.types == "bf16, cache in fp8"
    assert attention("prefill", "types.kv=fp8").traffic == attention("prefill").traffic


def test_a_cache_is_read_by_a_kernel_that_takes_it() -> None:
    """FlashAttention-2 takes 16 bits only; an A100 multiplies no fp8, so that XQA is none for it."""
    assert attention("decode").kernel == "flash-attention-3-decode"
    assert attention("decode", name="a100-sxm").kernel == "flash-attention-2-decode"
    assert attention("decode", "types.kv=fp8", name="a100-sxm").kernel == "flashinfer-decode"
    for kernel, why in (("flash-attention-2", "reads no cache in fp8"), ("trtllm-xqa", "which A100-SXM4-80GB cannot")):
        with pytest.raises(CascadeSimError, match=why):
            attention("decode", "types.kv=fp8", f"kernel={kernel}", name="a100-sxm")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (("dtype=fp4",), r"multiplies fp4; types\.attention \(and types\.kv\): fp8 or fp16 or bf16 or fp32"),
        (("dtype=fp4", "types.attention=fp8"), r"reads a KV cache in fp4 beside attention in fp8; types\.kv: fp8$"),
        (("types.attention=fp8",), r"reads a KV cache in bf16 beside attention in fp8; types\.kv: fp8$"),
        (("types.kv=int4",), r"reads a KV cache in int4 beside attention in bf16; types\.kv: fp8 or bf16$"),
    ],
)
def test_attention_in_a_type_that_no_kernel_takes_is_refused_with_those_that_some_take(
    settings: tuple[str, ...], line: str
) -> None:
    with pytest.raises(CascadeSimError, match=line):
        attention("decode", *settings, name="b200")


@pytest.mark.parametrize(
    "settings",
    [
        ("types.weights=int4", "types.kv=fp8"), ("types.weights=fp8", "types.activations=fp8"),
        ("dtype=nvfp4", "types.attention=bf16", "types.kv=fp8"), ("types.weights=fp32",), ("types.experts=mxfp4",),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_plans_of_every_type_have_no_problems(settings: tuple[str, ...]) -> None:
    """Operations, rates, least traffic (`accelerators.plan_check`), on a device that multiplies all of them."""
    on, model = gpu("b200", *settings), load_workload("gpt-oss-20b")
    for phase in ("prefill", "decode"):
        for operation in model.operations(sequence_length=512, batch=2, phase=phase, attention=on.attention):  # type: ignore[arg-type]
            assert not list(problems(on.plan(operation, "physical"), on))


def test_four_bits_everywhere_run_with_attention_in_more() -> None:
    plan = attention("decode", "dtype=nvfp4", "types.attention=bf16", "types.kv=fp8", name="b200")
    assert plan.types == "bf16, cache in fp8"
    rate = product(8192, "dtype=nvfp4", name="b200"), product(8192, "dtype=fp8", name="b200")
    assert busy(rate[0], "tensor") < 0.7 * busy(rate[1], "tensor")
    with pytest.raises(CascadeSimError, match="multiplies no fp4"):
        product(8192, "dtype=nvfp4")
