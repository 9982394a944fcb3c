"""Presets of devices without published rows: peaks, memory, caches and links by hand, and what they share with others.

Numbers are those of data sheets, not of the files; a product of units, clock and rate must give them within 1 %.
"""

from __future__ import annotations

import re

import pytest
from preset_devices import device

from cascadesim.accelerators.catalogue import load, presets
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

PEAKS = {  # dense TFLOPS of one device, as the vendor states them
    "gb200": {"bf16": 2500, "tf32": 1250, "fp8": 5000, "int8": 5000, "fp4": 10_000},  # GB200 NVL72 / 72
    "b300": {"bf16": 2250, "tf32": 1125, "fp8": 4500, "int8": 307 / 2, "fp4": 108_000 / 8},  # HGX B300 / 8
    "gb300": {"bf16": 2500, "tf32": 1250, "fp8": 5000, "int8": 165, "fp4": 1_080_000 / 72},  # GB300 NVL72 / 72
    "h100-nvl": {"bf16": 1671 / 2, "tf32": 835 / 2, "fp8": 3341 / 2, "int8": 3341 / 2},  # halves of what is sparse
    "h20": {"bf16": 148, "tf32": 74, "fp8": 296, "int8": 296},
    "a10": {"bf16": 125, "tf32": 62.5, "int8": 250, "int4": 500},
    "l40": {"bf16": 181.05, "tf32": 90.5, "fp8": 362, "int8": 362, "int4": 724},
    "rtx-pro-6000": {"bf16": 503.8, "fp8": 1007.6, "fp4": 4000 / 2},  # 4,000 AI TOPS are sparse FP4
    "rtx-pro-6000-server": {"bf16": 467.8, "fp8": 935.6, "int8": 935.6, "fp4": 1871.2},
    "mi325x": {"bf16": 1307.4, "tf32": 653.7, "fp8": 2614.9, "int8": 2614.9},
    "mi355x": {"bf16": 2516.6, "fp8": 5033.2, "int8": 5033.2, "fp4": 10_066},
}
CACHES = {  # L2 in MiB: partitions times what each has, or the vendor's figure
    "gb200": 2 * 63, "b300": 2 * 63, "gb300": 2 * 63, "h100-nvl": 50, "h20": 12 * 5, "a10": 12 / 2, "l40": 96,
    "rtx-pro-6000": 128, "rtx-pro-6000-server": 128, "mi325x": 8 * 4, "mi355x": 8 * 4,
}  # fmt: skip
MEMORIES = {  # GB of one device, and GB/s
    "gb200": (186, 576_000 / 72), "b300": (270, 7700), "gb300": (279, 576_000 / 72), "h100-nvl": (94, 3900),
    "h20": (96, 4000), "a10": (24, 600), "l40": (48, 864), "rtx-pro-6000": (96, 1792),
    "rtx-pro-6000-server": (96, 1597), "mi325x": (256, 6000), "mi355x": (8 * 36, 8000),
}  # fmt: skip
BUSES = {  # bits and Gb/s a bit, where both are published; AMD rounds what eight stacks give down to 6 and 8 TB/s
    "b300": (7680, 7.99, 0.01), "h100-nvl": (6016, 5.2, 0.01), "h20": (6144, 5.2, 0.01), "a10": (384, 12.5, 0.01),
    "l40": (384, 18, 0.01), "rtx-pro-6000": (512, 28, 0.01), "mi325x": (8192, 6.0, 0.03), "mi355x": (8192, 8.0, 0.03),
}  # fmt: skip
LINKS = {  # GB/s in one direction: half of what is stated for both
    "gb200": ("nvlink", 1800 / 2), "b300": ("nvlink", 1800 / 2), "gb300": ("nvlink", 1800 / 2),
    "h20": ("nvlink", 900 / 2), "h100-nvl": ("pcie", 128 / 2), "rtx-pro-6000": ("pcie", 128 / 2),
    "rtx-pro-6000-server": ("pcie", 128 / 2), "a10": ("pcie", 64 / 2), "l40": ("pcie", 64 / 2),
    "mi325x": ("infinity-fabric", 7 * 128 / 2), "mi355x": ("infinity-fabric", 7 * 153.6 / 2),
}  # fmt: skip
LIKE = {  # a device of the same die or generation -> the one whose measured share of its memory it is taken at
    "gb200": "b200", "b300": "b200", "gb300": "b200", "h100-nvl": "h100-sxm", "h20": "h100-sxm", "a10": "a40",
    "l40": "l40s", "rtx-pro-6000": "rtx5090", "rtx-pro-6000-server": "rtx5090", "mi325x": "mi300x", "mi355x": "mi300x",
}  # fmt: skip
AMD = ("mi300x", "mi325x", "mi355x")
every_name = pytest.mark.parametrize("name", sorted(PEAKS))


@every_name
def test_units_times_clock_times_rate_are_the_peaks_of_the_data_sheet(name: str) -> None:
    found = device(name)
    for dtype, tflops in PEAKS[name].items():
        rate = found.flop_per_clock_sm(dtype)  # type: ignore[arg-type]
        assert found.sms * found.clock_hz * rate == pytest.approx(tflops * 1e12, rel=0.01), dtype


@every_name
def test_the_file_states_what_its_rates_give_for_every_type(name: str) -> None:
    found = device(name)
    rates = found.sm.tensor_flop_per_clock.known
    assert found.datasheet.tensor_tflops.known.keys() <= rates.keys()
    for dtype, tflops in found.datasheet.tensor_tflops.known.items():
        assert found.sms * found.clock_hz * rates[dtype] == pytest.approx(tflops * 1e12, rel=0.01), dtype


@pytest.mark.parametrize("name", sorted(BUSES))
def test_bits_times_their_rate_are_the_bandwidth_of_the_memory(name: str) -> None:
    bits, gigabits_per_s, within = BUSES[name]
    assert bits / 8 * gigabits_per_s * 1e9 == pytest.approx(device(name).datasheet.dram_bytes_per_s, rel=within)


@every_name
def test_caches_memory_and_links_are_those_of_the_data_sheet(name: str) -> None:
    found = device(name)
    assert found.l2_bytes == CACHES[name] * 2**20
    assert (found.dram_bytes, found.datasheet.dram_bytes_per_s) == tuple(1e9 * figure for figure in MEMORIES[name])
    assert found.link is not None
    assert (found.link.kind, found.link.bytes_per_s) == (LINKS[name][0], pytest.approx(LINKS[name][1] * 1e9))


@every_name
def test_a_device_reaches_the_share_of_its_memory_that_the_measured_one_of_its_kind_reaches(name: str) -> None:
    """Of one die exactly, otherwise within 2 %: what was measured on one must not make a like device look better."""
    found, measured = device(name), device(LIKE[name])
    share = measured.dram_ceiling_bytes_per_s / measured.datasheet.dram_bytes_per_s
    within = 0.02 if name in ("h100-nvl", "h20", "mi355x") else 1e-9
    assert found.dram_ceiling_bytes_per_s / found.datasheet.dram_bytes_per_s == pytest.approx(share, rel=within)


@pytest.mark.parametrize("name", sorted(LIKE.keys() - {"mi355x"}))
def test_a_multiprocessor_has_the_sizes_and_launches_of_its_generation(name: str) -> None:
    found, other = device(name), device(LIKE[name])
    rates = {"tensor_flop_per_clock", "special_per_clock"}
    assert found.sm.model_dump(exclude=rates) == other.sm.model_dump(exclude=rates)
    assert (found.generation, found.l2_partitions) == (other.generation, other.l2_partitions)
    assert found.launch_s == other.launch_s
    assert found.compute_capability.split(".")[0] == other.compute_capability.split(".")[0]


def test_gb200_is_b200_with_four_more_sms_and_more_clock() -> None:
    """2,500 / 2,250 TFLOPS = 152 / 148 SMs x 1.0819 in clock."""
    superchip, board = device("gb200"), device("b200")
    assert superchip.sm == board.sm
    assert (superchip.sms - board.sms, superchip.l2_bytes) == (4, board.l2_bytes)
    assert superchip.clock_hz / board.clock_hz == pytest.approx(2500 / 2250 * 148 / 152, rel=1e-3)
    assert superchip.datasheet.dram_bytes_per_s == board.datasheet.dram_bytes_per_s


@pytest.mark.parametrize(("ultra", "plain"), [("b300", "b200"), ("gb300", "gb200")])
def test_blackwell_ultra_trades_int8_for_fp4_and_doubles_exponentials(ultra: str, plain: str) -> None:
    """NVFP4 at three times the rate of FP8 instead of twice, a thirtieth of INT8, all else alike."""
    new, old = device(ultra), device(plain)
    assert (new.sms, new.clock_hz, new.l2_bytes) == (old.sms, old.clock_hz, old.l2_bytes)
    same = {"fp16", "bf16", "tf32", "fp8"}
    rates, before = new.sm.tensor_flop_per_clock, old.sm.tensor_flop_per_clock
    assert rates.model_dump(include=same) == before.model_dump(include=same)
    assert (rates.fp4, before.fp4) == (3 * 16384, 2 * 16384)
    assert rates.int8 is not None
    assert before.int8 is not None
    assert 25 < before.int8 / rates.int8 < 35
    assert new.sm.special_per_clock == 2 * old.sm.special_per_clock
    assert 160 * new.sm.special_per_clock * new.max_clock_hz == pytest.approx(10.7e12, rel=0.03)  # full chip, NVIDIA


def test_h20_has_memory_and_links_of_its_die_and_a_seventh_of_its_products() -> None:
    """148 / 989.4 = 0.15; 78 of 132 SMs at a quarter of the rate an SM and 1.3 % more clock."""
    export, full = device("h20"), device("h200-sxm")
    assert export.link == full.link
    assert export.sm.model_dump(exclude={"tensor_flop_per_clock"}) == full.sm.model_dump(
        exclude={"tensor_flop_per_clock"}
    )
    of_peaks = export.peaks("bf16")["tensor"] * export.clock_hz / (full.peaks("bf16")["tensor"] * full.clock_hz)
    assert of_peaks == pytest.approx(148 / 989.4, rel=0.01)
    assert full.flop_per_clock_sm("bf16") == 4 * export.flop_per_clock_sm("bf16")
    assert export.datasheet.dram_bytes_per_s / full.datasheet.dram_bytes_per_s == pytest.approx(4.0 / 4.8)


def test_l40_is_l40s_at_half_its_rate() -> None:
    half, full = device("l40"), device("l40s")
    assert (half.sms, half.l2_bytes, half.dram_bytes) == (full.sms, full.l2_bytes, full.dram_bytes)
    assert 2 * half.flop_per_clock_sm("bf16") == full.flop_per_clock_sm("bf16")
    assert half.datasheet.dram_bytes_per_s == full.datasheet.dram_bytes_per_s


def test_h100_nvl_has_the_sms_of_h100_sxm_at_a_lower_clock() -> None:
    board, socket = device("h100-nvl"), device("h100-sxm")
    assert (board.sms, board.sm) == (socket.sms, socket.sm)
    assert board.clock_hz / socket.clock_hz == pytest.approx(835.5 / 989.4, rel=0.01)


def test_editions_of_rtx_pro_6000_differ_in_clock_and_memory_only() -> None:
    workstation, server = device("rtx-pro-6000"), device("rtx-pro-6000-server")
    differ = {"device", "clock_hz", "max_clock_hz", "datasheet"}
    assert workstation.model_dump(exclude=differ) == server.model_dump(exclude=differ)
    assert workstation.flop_per_clock_sm("bf16") == 2 * device("rtx5090").flop_per_clock_sm("bf16")


def test_mi325x_is_mi300x_with_another_memory() -> None:
    new, old = device("mi325x"), device("mi300x")
    assert (new.sms, new.clock_hz, new.sm, new.l2_bytes, new.link) == (
        old.sms, old.clock_hz, old.sm, old.l2_bytes, old.link
    )  # fmt: skip
    assert (new.dram_bytes - old.dram_bytes, new.datasheet.dram_bytes_per_s) == (64e9, 6e12)


def test_a_unit_of_mi355x_has_twice_the_matrix_rates_of_mi300x_and_multiplies_no_tf32() -> None:
    new, old = device("mi355x"), device("mi300x")
    for dtype in ("fp16", "bf16", "fp8", "int8"):
        assert new.flop_per_clock_sm(dtype) == 2 * old.flop_per_clock_sm(dtype)  # type: ignore[arg-type]
    with pytest.raises(CascadeSimError, match="MI355X multiplies no tf32"):
        new.flop_per_clock_sm("tf32")
    assert (old.sms - new.sms, new.sms) == (48, 8 * 32)
    assert (new.generation, new.compute_capability) == ("cdna4", "gfx950")
    assert (new.sm.shared_memory_bytes, new.sm.l1_bytes) == (160 * 2**10, (160 + 32) * 2**10)  # LDS, and L1 beside it
    assert new.sm.shared_memory_bytes_per_clock == 2 * old.sm.shared_memory_bytes_per_clock
    assert new.sm.special_per_clock == old.sm.special_per_clock  # assumed: no document read here says more
    assert new.l2_ceiling_bytes_per_s == 35 * 256 * 2.4e9  # where nobody measured


@pytest.mark.parametrize("name", AMD)
def test_amd_devices_run_unfused_attention_and_say_that_no_kernel_of_their_libraries_is_known(name: str) -> None:
    found = load(name)
    assert isinstance(found, Gpu)
    assert found.attention == "attention-3pass"
    operation = load_workload("llama").operations(
        sequence_length=1024, batch=1, phase="decode", scope="attention", attention=found.attention
    )[0]
    (note,) = found.plan(operation, "physical").notes
    assert f"{found.spec.device}: no fused attention kernel" in note
    with pytest.raises(CascadeSimError, match="kernel"):
        load(name, ("kernel=flash-attention-2",)).plan(operation, "physical")


@every_name
def test_every_field_of_a_new_preset_carries_its_source(name: str) -> None:
    """A comment on the line, but where the line is a name, a heading, or a process (the datasheet's)."""
    bare = re.compile(r"^\s*(?:architecture|device|generation|process): |^(?:sm|datasheet|measured):$|^#")
    lines = presets()[f"gpu/{name}"].read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "#" not in line and not bare.match(line)] == []
