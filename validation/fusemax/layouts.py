"""The columns of each suite's data, in our names and in those of the FuseMax artifact (MICRO 2024, results/*.csv)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from cascadesim.einsum_cascades.notation.errors import shortened, suggestion
from cascadesim.validation.table import Column, Layout, Parse, columns_of, count, not_negative, positive

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
POINT = (WORKLOAD, *columns_of(length, "sequence_length=seq_len=seq_length=S_len"))
TRAFFIC = columns_of(positive, "traffic_bytes=traffic_B=traffic=mem_traffic_B=mem_traffic")
LATENCY = columns_of(positive, "latency_s=latency=actual_latency_s=actual_latency")
ENERGY = columns_of(positive, "energy_pj=energy=energy_total_pJ")
BOUNDS = ("memory_latency_s=mem_lat_s=mem_lat compute_2d_latency_s=comp_2d_lat_s=comp_2d_lat "
          "compute_1d_latency_s=comp_1d_lat_s=comp_1d_lat")  # fmt: skip
KEY = ("architecture", "workload", "sequence_length")

ATTENTION = Layout(
    (
        ARCHITECTURE, *POINT, *TRAFFIC, *LATENCY, *ENERGY,
        *columns_of(fraction, "utilization_array_2d=util_2d utilization_array_1d=util_1d"),
        *columns_of(fraction, " ".join(f"activity_{name}={name}" for name in EINSUMS_2D), required=False),
    ),
    key=KEY,
    from_source={"architecture": file_of("attn", "attention")},
)  # fmt: skip
LINEAR = Layout((ARCHITECTURE, *POINT, *TRAFFIC, *LATENCY, *ENERGY), KEY,
                from_source={"architecture": file_of("end2end", "linear")})  # fmt: skip
ENERGY_BY_COMPONENT = Layout(
    (
        ARCHITECTURE, *POINT, *ENERGY, *columns_of(count, "resident_query_tiles=P1", required=False),
        *columns_of(positive, BOUNDS, required=False),
        *columns_of(not_negative, " ".join(f"{ours}_pj={theirs}_pJ" for ours, theirs in ENERGY_COMPONENTS.items())),
    ),
    key=KEY,
)  # fmt: skip
PARETO = Layout(
    (
        WORKLOAD, *columns_of(count, "pe_array_dim=PE_dim"), *TRAFFIC, *columns_of(positive, BOUNDS), *LATENCY,
        *columns_of(positive, "array_2d_area_um2=array_2d_area area_um2=area"),
        *columns_of(one_of("architecture", ARCHITECTURES), "architecture=accel", required=False),
    ),
    key=("workload", "pe_array_dim"),
)  # fmt: skip
AREA = Layout((ARCHITECTURE, *columns_of(positive, "array_2d_area_um2=array_2d_um2 global_buffer_area_um2=L3_um2 "
                                                   "area_um2=total_um2")), key=("architecture",))  # fmt: skip

PLATFORM = columns_of(one_of("platform", {"cloud": "cloud", "edge": "edge"}), "platform")


def _choices(required: bool) -> tuple[Column, ...]:
    """What FLAT's search chose."""
    location = one_of("location", {"onchip": "onchip", "offchip": "offchip"})
    stationarity = one_of("stationarity", {"output": "output", "weight": "weight", "input": "input"})
    located = " ".join(f"{name.lower()}_location={name}_loc" for name in ("Q", "K", "QK", "A", "V", "AV"))
    return (
        *columns_of(location, located, required),
        *columns_of(stationarity, "qk_stationarity av_stationarity", required),
        *columns_of(one_of("granularity", {"row": "row", "head": "head"}), "granularity=fusion_granularity", required),
        *columns_of(count, "query_rows=P1", required),
        *columns_of(fraction, "spilled_fraction=proportion_spilled", required),
    )  # fmt: skip


CHOICES = _choices(required=True)
DATAFLOW_KEY = ("platform", "workload", "sequence_length")
DATAFLOW_CHOICES = Layout((*PLATFORM, *POINT, *CHOICES), key=DATAFLOW_KEY)
DATAFLOW = Layout(
    (*PLATFORM, *POINT, *TRAFFIC, *columns_of(positive, "ideal_latency_s=ideal_latency"), *LATENCY,
     *columns_of(positive, "energy_pj=energy", required=False), *_choices(required=False)),
    key=DATAFLOW_KEY,
)  # fmt: skip

QUANTITIES = (
    "attention_speedup", "attention_energy_ratio", "end_to_end_speedup", "end_to_end_energy_ratio",
    "utilization_array_1d", "utilization_array_2d",
)  # fmt: skip
STATISTICS = ("arithmetic_mean", "geometric_mean", "minimum", "maximum")
HEADLINES = Layout(
    (
        *columns_of(one_of("quantity", {name: name for name in QUANTITIES}), "quantity"), ARCHITECTURE,
        *columns_of(one_of("architecture", ARCHITECTURES), "baseline", required=False),
        *columns_of(one_of("statistic", {name: name for name in STATISTICS}), "statistic"),
        *columns_of(positive, "value"),
    ),
    key=("quantity", "architecture", "baseline", "statistic"),
)  # fmt: skip
