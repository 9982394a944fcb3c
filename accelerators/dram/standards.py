"""DRAM standards as data: geometry of a channel and its timing constraints, each with its reason.

A constraint says: after `before` was issued somewhere, `after` may not be issued in the same `scope` for `cycles`
cycles. Adding a standard is adding a row to `STANDARDS`. Cycles are command-clock cycles. Knows no controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from cascadesim.einsum_cascades.notation.errors import UnknownNameError

Command: TypeAlias = Literal["ACT", "PRE", "RD"]
ConstraintScope: TypeAlias = Literal["channel", "pseudo_channel", "bank_group", "bank"]


@dataclass(frozen=True, slots=True)
class Constraint:
    scope: ConstraintScope
    before: Command
    after: Command
    cycles: int
    reason: str
    window: int = 1  # the constraint holds against the window-th latest `before`


@dataclass(frozen=True)
class DramStandard:
    """A channel has pseudo-channels x bank groups x banks, in address fields from the least significant bit up."""

    name: str
    source: str
    clock_hz: float
    pseudo_channels: int
    bank_groups: int
    banks: int
    request_bytes: int  # data of one read
    read_latency: int  # from RD to the last beat: CAS latency and burst
    column_low_bit: int  # first bit of the pseudo-channel field in a channel-local byte address
    constraints: tuple[Constraint, ...]
    refresh_interval: int | None = None  # cycles between refreshes of all banks; None: never
    refresh_cycles: int = 0
    largest_outstanding: int = 16  # requests a controller keeps, finished ones that nobody took yet included

    @property
    def peak_bytes_per_s(self) -> float:
        """The peak of one channel: every pseudo-channel reads as often as its data bus allows."""
        gap = self.timing("pseudo_channel", "RD", "RD")
        return min(self.pseudo_channels / gap, 1.0) * self.request_bytes * self.clock_hz

    def timing(self, scope: ConstraintScope, before: Command, after: Command, window: int = 1) -> int:
        """Look up the cycles of a constraint, 0 where there is none."""
        found = [one.cycles for one in self.constraints
                 if (one.scope, one.before, one.after, one.window) == (scope, before, after, window)]
        return max(found, default=0)


def _constraints(
    burst: int, faw: int, rrd_short: int, rrd_long: int, ccd_long: int, rcd: int, ras: int, rc: int, rp: int, rtp: int,
    command_gap: int = 2,
) -> tuple[Constraint, ...]:  # fmt: skip
    return (
        Constraint("channel", "ACT", "ACT", command_gap, "an activate takes two slots of the row command bus"),
        Constraint("channel", "ACT", "PRE", command_gap, "an activate takes two slots of the row command bus"),
        Constraint("pseudo_channel", "RD", "RD", burst, "the data bus carries one burst at a time"),
        Constraint("pseudo_channel", "ACT", "ACT", rrd_short, "tRRD_S: current drawn by neighbouring activates"),
        Constraint("pseudo_channel", "ACT", "ACT", faw, "tFAW: at most four activates in the window", window=4),
        Constraint("bank_group", "RD", "RD", ccd_long, "tCCD_L: banks of a group share their column path"),
        Constraint("bank_group", "ACT", "ACT", rrd_long, "tRRD_L: banks of a group share charge pumps"),
        Constraint("bank", "ACT", "RD", rcd, "tRCD: the row must be in the sense amplifiers"),
        Constraint("bank", "ACT", "PRE", ras, "tRAS: the row must be restored before it is closed"),
        Constraint("bank", "ACT", "ACT", rc, "tRC: one row cycle"),
        Constraint("bank", "PRE", "ACT", rp, "tRP: bit lines must be precharged"),
        Constraint("bank", "RD", "PRE", rtp, "tRTP: the column must have been read out"),
    )


HBM2 = DramStandard(
    "hbm2", "ramulator2 v2.0 preset HBM2_8Gb, HBM2_2Gbps, as SpAtten's RTL harness drives it (checked cycle by cycle)",
    1_000_000_000, pseudo_channels=2, bank_groups=4, banks=4, request_bytes=32, read_latency=7 + 4, column_low_bit=9,
    constraints=_constraints(burst=4, faw=15, rrd_short=2, rrd_long=3, ccd_long=2, rcd=7, ras=17, rc=19, rp=7, rtp=3),
)  # fmt: skip

_CORE_AT_1_6_GHZ = replace(  # 32 bytes of a pseudo-channel in 2 cycles, rows as slow in ns as those of hbm2
    HBM2, clock_hz=1_600_000_000, read_latency=12 + 2,
    constraints=_constraints(burst=2, faw=24, rrd_short=4, rrd_long=5, ccd_long=4, rcd=12, ras=28, rc=31, rp=12, rtp=5),
)  # fmt: skip

STANDARDS: Mapping[str, DramStandard] = {
    standard.name: standard
    for standard in (
        HBM2,
        replace(
            HBM2, name="hbm2-nominal",
            source="as hbm2 with a burst of 2 cycles per 32 bytes: the nominal 512 GB/s of 16 channels (JESD235B: "
                   "64-bit pseudo-channel, 2 Gb/s a pin: 32 bytes in 2 ns)",
            read_latency=7 + 2,
            constraints=_constraints(burst=2, faw=15, rrd_short=2, rrd_long=3, ccd_long=2, rcd=7, ras=17, rc=19, rp=7,
                                     rtp=3),
        ),
        replace(
            _CORE_AT_1_6_GHZ, name="hbm2e",
            source="JESD235D: 3.2 Gb/s a pin; core timings of hbm2 in ns (assumed: the core did not change)",
        ),
        replace(
            _CORE_AT_1_6_GHZ, name="hbm3",
            source="JESD238: 6.4 Gb/s a pin, 32-bit pseudo-channels, burst 8 of 32 bytes; core timings of hbm2 in ns "
                   "(assumed: the core did not change)",
        ),
        DramStandard(
            "gddr6",
            "JESD250: 16 Gb/s a pin, 16-bit channel, burst 16 of 32 bytes; timings of ramulator2's GDDR6_2000 preset "
            "(recalled, not re-read): CL 24, RCD 26, RP 26, RAS 53, RC 79, RTP 4, CCD 4/6, RRD 11/11, FAW 42",
            2_000_000_000, pseudo_channels=1, bank_groups=4, banks=4, request_bytes=32, read_latency=24 + 4,
            column_low_bit=10,
            constraints=_constraints(burst=4, faw=42, rrd_short=11, rrd_long=11, ccd_long=6, rcd=26, ras=53, rc=79,
                                     rp=26, rtp=4, command_gap=1),
        ),
        DramStandard(
            "lpddr5",
            "JESD209-5: 6.4 Gb/s a pin, 16-bit channel, burst 16 of 32 bytes, 800 MHz command clock; timings of "
            "ramulator2's LPDDR5_6400 preset (recalled, not re-read): CL 20, RCD 15, RPpb 15, RAS 34, RTP 4, RRD 4, "
            "FAW 16",
            800_000_000, pseudo_channels=1, bank_groups=4, banks=4, request_bytes=32, read_latency=20 + 2,
            column_low_bit=10,
            constraints=_constraints(burst=2, faw=16, rrd_short=4, rrd_long=4, ccd_long=4, rcd=15, ras=34, rc=49, rp=15,
                                     rtp=4, command_gap=1),
        ),
    )
}  # fmt: skip


def standard(name: str) -> DramStandard:
    if name not in STANDARDS:
        raise UnknownNameError("DRAM standard", name, STANDARDS)
    return STANDARDS[name]


