"""The columns of each suite's data, in our names and in those of the FuseMax artifact (MICRO 2024, results/*.csv)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from cascadesim.einsum_cascades.notation.errors import shortened, suggestion
from cascadesim.validation.table import Column, Layout, Parse, count, not_negative, positive

# FuseMax artifact: model names, and configuration names against ours
WORKLOADS = {"bert": "bert", "trxl": "trxl", "t5": "t5", "xlm": "xlm"}
ARCHITECTURES = {
    "unfused": "unfused", "flat": "flat", "cascade": "fusemax-cascade", "arch": "fusemax-architecture",
    "architecture": "fusemax-architecture", "binding": "fusemax", "proposal": "fusemax",
    "fusemax-cascade": "fusemax-cascade", "fusemax-architecture": "fusemax-architecture", "fusemax": "fusemax",
}  # fmt: skip
EINSUMS_2D = ("QK", "LM", "SLN", "SLD", "SLNV", "AV")  # FuseMax, figure 7: Einsums of the 2D array
ENERGY_COMPONENTS = {
    "dram": "DRAM", "global_buffer": "L3", "registers_2d": "reg2d", "registers_1d": "reg1d",
    "mac_2d": "mac_2d", "add_2d": "add_2d", "max_2d": "max_2d", "mac_1d": "mac_1d", "add_1d": "add_1d",
    "max_1d": "max_1d", "exp_1d": "exp_1d", "divide_1d": "divide_1d",
}  # fmt: skip
LENGTH_SUFFIXES = {"K": 1024, "M": 1024**2}  # FuseMax artifact: 1K = 1024


def length(text: str) -> int:
    """`4096`, `64K` or `1M` as a count of positions."""
    suffix = text[-1:].upper()
    digits, factor = (text[:-1], LENGTH_SUFFIXES[suffix]) if suffix in LENGTH_SUFFIXES else (text, 1)
    return count(digits, "a length such as 4096, 64K or 1M", text) * factor


def fraction(text: str) -> float:
    """Reads a share between 0 and 1; published ones exceed 1 by a last bit."""
    value = not_negative(text)
    if value > 1 + 1e-9:
        raise ValueError(f"expected a share between 0 and 1, got '{shortened(text)}'")
    return value


def one_of(what: str, known: Mapping[str, str]) -> Parse:
    """A name in its own or in a published spelling (`known`: lower-case spelling -> our name)."""

    def parse(text: str) -> str:
        name = known.get(text.lower().removeprefix("+"))
        if name is None:
            raise ValueError(f"no {what} '{shortened(text)}'{suggestion(text.lower(), known)}")
        return name

    return parse


def file_of(*subjects: str) -> Callable[[str], str | None]:
    """Reads the configuration out of a file name such as attn-binding.csv, alone or inside a cited path."""
    names = "|".join(sorted(ARCHITECTURES, key=len, reverse=True))
    pattern = re.compile(rf"(?:^|[^a-z])(?:{'|'.join(subjects)})[-_]({names})(?![a-z])", re.IGNORECASE)

    def infer(text: str) -> str | None:
        found = {ARCHITECTURES[name.lower()] for name in pattern.findall(text)}
        return found.pop() if len(found) == 1 else None

    return infer


ARCHITECTURE = Column("architecture", one_of("architecture", ARCHITECTURES), ("config", "configuration", "arch"))
WORKLOAD = Column("workload", one_of("workload", WORKLOADS), ("model", "models"))
SEQUENCE_LENGTH = Column("sequence_length", length, ("seq_len", "seq_length", "S_len"))
TRAFFIC = Column("traffic_bytes", positive, ("traffic_B", "traffic", "mem_traffic_B", "mem_traffic"))
LATENCY = Column("latency_s", positive, ("latency", "actual_latency_s", "actual_latency"))
ENERGY = Column("energy_pj", positive, ("energy", "energy_total_pJ"))
MEMORY_LATENCY = Column("memory_latency_s", positive, ("mem_lat_s", "mem_lat"))
COMPUTE_2D_LATENCY = Column("compute_2d_latency_s", positive, ("comp_2d_lat_s", "comp_2d_lat"))
COMPUTE_1D_LATENCY = Column("compute_1d_latency_s", positive, ("comp_1d_lat_s", "comp_1d_lat"))
POINT = (WORKLOAD, SEQUENCE_LENGTH)
KEY = ("architecture", "workload", "sequence_length")

ATTENTION = Layout(
    (
        ARCHITECTURE, *POINT, TRAFFIC, LATENCY, ENERGY,
        Column("utilization_array_2d", fraction, ("util_2d",)),
        Column("utilization_array_1d", fraction, ("util_1d",)),
        *(Column(f"activity_{name}", fraction, (name,), required=False) for name in EINSUMS_2D),
    ),
    key=KEY,
    from_source={"architecture": file_of("attn", "attention")},
)  # fmt: skip

LINEAR = Layout(
    (ARCHITECTURE, *POINT, TRAFFIC, LATENCY, ENERGY),
    key=KEY,
    from_source={"architecture": file_of("end2end", "linear")},
)

ENERGY_BY_COMPONENT = Layout(
    (
        ARCHITECTURE, *POINT, ENERGY,
        Column("resident_query_tiles", count, ("P1",), required=False),
        *(Column(column.name, column.parse, column.aliases, required=False)
          for column in (MEMORY_LATENCY, COMPUTE_2D_LATENCY, COMPUTE_1D_LATENCY)),
        *(Column(f"{ours}_pj", not_negative, (f"{theirs}_pJ",)) for ours, theirs in ENERGY_COMPONENTS.items()),
    ),
    key=KEY,
)  # fmt: skip

PARETO = Layout(
    (
        WORKLOAD, Column("pe_array_dim", count, ("PE_dim",)), TRAFFIC, MEMORY_LATENCY, COMPUTE_2D_LATENCY,
        COMPUTE_1D_LATENCY, LATENCY,
        Column("array_2d_area_um2", positive, ("array_2d_area",)),
        Column("area_um2", positive, ("area",)),
        Column("architecture", one_of("architecture", ARCHITECTURES), ("accel",), required=False),
    ),
    key=("workload", "pe_array_dim"),
)  # fmt: skip

AREA = Layout(
    (
        ARCHITECTURE,
        Column("array_2d_area_um2", positive, ("array_2d_um2",)),
        Column("global_buffer_area_um2", positive, ("L3_um2",)),
        Column("area_um2", positive, ("total_um2",)),
    ),
    key=("architecture",),
)

PLATFORM = Column("platform", one_of("platform", {"cloud": "cloud", "edge": "edge"}))
_LOCATION = one_of("location", {"onchip": "onchip", "offchip": "offchip"})
_STATIONARITY = one_of("stationarity", {"output": "output", "weight": "weight", "input": "input"})
CHOICES = (
    *(Column(f"{name.lower()}_location", _LOCATION, (f"{name}_loc",)) for name in ("Q", "K", "QK", "A", "V", "AV")),
    Column("qk_stationarity", _STATIONARITY),
    Column("av_stationarity", _STATIONARITY),
    Column("granularity", one_of("granularity", {"row": "row", "head": "head"}), ("fusion_granularity",)),
    Column("query_rows", count, ("P1",)),
    Column("spilled_fraction", fraction, ("proportion_spilled",)),
)
DATAFLOW_KEY = ("platform", "workload", "sequence_length")
DATAFLOW_CHOICES = Layout((PLATFORM, *POINT, *CHOICES), key=DATAFLOW_KEY)
DATAFLOW = Layout(
    (
        PLATFORM, *POINT, TRAFFIC,
        Column("ideal_latency_s", positive, ("ideal_latency",)),
        LATENCY,
        Column("energy_pj", positive, ("energy",), required=False),
        *(Column(column.name, column.parse, column.aliases, required=False) for column in CHOICES),
    ),
    key=DATAFLOW_KEY,
)  # fmt: skip

QUANTITIES = (
    "attention_speedup", "attention_energy_ratio", "end_to_end_speedup", "end_to_end_energy_ratio",
    "utilization_array_1d", "utilization_array_2d",
)  # fmt: skip
STATISTICS = ("arithmetic_mean", "geometric_mean", "minimum", "maximum")
HEADLINES = Layout(
    (
        Column("quantity", one_of("quantity", {name: name for name in QUANTITIES})),
        ARCHITECTURE,
        Column("baseline", one_of("architecture", ARCHITECTURES), required=False),
        Column("statistic", one_of("statistic", {name: name for name in STATISTICS})),
        Column("value", positive),
    ),
    key=("quantity", "architecture", "baseline", "statistic"),
)
