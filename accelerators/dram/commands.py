"""The commands of a DRAM channel: when one may be issued, and what it changes. Compiled.

Every command notes when the next ones may follow. Whose turn it is decides `channel`.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.dram.state import (
    ACT,
    ACT_ACT,
    ACT_PRE,
    ACT_RD,
    ACTIVE,
    ACTIVES,
    BANK_AT,
    BANKS,
    CHANNEL_ACT_ACT,
    CHANNEL_ACT_PRE,
    DEPARTING,
    DEPARTS,
    FOUR_ACTIVATES,
    GROUP_ACT_ACT,
    GROUP_AT,
    GROUP_RD_RD,
    GROUPS_READ,
    ISSUED,
    LATEST,
    LIVE,
    MAY_ACT,
    MAY_PRE,
    MOST_BANKS,
    MOST_REQUESTS,
    PAGE,
    PRE,
    PRE_ACT,
    PSEUDO_ACT_ACT,
    PSEUDO_AT,
    PSEUDO_RD_RD,
    PSEUDOS_READ,
    RD,
    RD_PRE,
    READ_LATENCY,
    READING,
    READY,
    REFRESH,
    REFRESH_CYCLES,
    REFRESH_INTERVAL,
    RINGS,
    ROW,
    SOONEST,
    SOONS,
    STILL,
    TAKEN,
    Channel,
)


@inlined
def ready(one: Channel, want: int) -> int:
    """The first cycle in which the next command of a request may be issued, as things stand."""
    bank = one[want + BANK_AT]
    if one[bank + ROW] == one[want + PAGE]:
        return max(one[bank + RD], one[one[want + GROUP_AT] + RD], one[one[want + PSEUDO_AT] + RD])
    if one[bank + ROW] >= 0:
        return max(one[MAY_PRE], one[bank + PRE])
    shared = max(one[one[want + GROUP_AT] + ACT], one[one[want + PSEUDO_AT] + ACT])
    return max(shared, one[bank + ACT], one[MAY_ACT])


@compiled
def settle(one: Channel, place: int) -> None:
    """When the next command for a page may be issued, as things stand."""
    want = one[LIVE + place]
    reads = one[one[want + BANK_AT] + ROW] == one[want + PAGE]
    one[SOONS + place] = max(ready(one, want), one[STILL])
    one[PSEUDOS_READ + place] = one[want + PSEUDO_AT] if reads else 0
    one[GROUPS_READ + place] = one[want + GROUP_AT] if reads else 0


@compiled
def changed(one: Channel, bank: int) -> None:
    """Another row of a bank: what was known of the requests no longer holds."""
    for place in range(one[READING]):
        settle(one, place)
    for want in range(ACTIVES, ACTIVES + 8 * one[ACTIVE], 8):
        if one[want + BANK_AT] == bank:
            one[want + SOONEST] = ready(one, want)


@compiled
def refresh(one: Channel, now: int) -> None:
    """Every `refresh_interval` cycles all rows close and the channel stands still for `refresh_cycles`."""
    for bank in range(MOST_BANKS):
        one[BANKS + 8 * bank + ROW] = -1
    one[REFRESH] += one[REFRESH_INTERVAL]
    one[STILL] = one[READY] = now + one[REFRESH_CYCLES]
    for place in range(one[ACTIVE]):
        one[ACTIVES + 8 * place + SOONEST] = one[STILL]
    for place in range(one[READING]):
        settle(one, place)


@inlined
def read(one: Channel, want: int, arrival: int, now: int) -> None:
    bank, slot = one[want + BANK_AT], RINGS + 2 * (one[DEPARTING] & (MOST_REQUESTS - 1))
    one[one[want + PSEUDO_AT] + RD] = now + one[PSEUDO_RD_RD]
    one[one[want + GROUP_AT] + RD] = now + one[GROUP_RD_RD]
    one[bank + PRE] = max(one[bank + PRE], now + one[RD_PRE])
    one[slot], one[slot + 1] = now + one[READ_LATENCY], arrival
    if one[DEPARTING] == one[TAKEN]:
        one[DEPARTS] = one[slot]
    one[DEPARTING] += 1
    one[ISSUED] += 1


@compiled
def precharge(one: Channel, bank: int, now: int) -> None:
    one[bank + ROW] = -1
    one[bank + ACT] = max(one[bank + ACT], now + one[PRE_ACT])
    one[ISSUED] += 1
    changed(one, bank)


@compiled
def activate(one: Channel, want: int, now: int) -> None:
    bank, pseudo = one[want + BANK_AT], one[want + PSEUDO_AT]
    one[bank + ROW] = one[want + PAGE]
    one[bank + RD] = now + one[ACT_RD]
    one[bank + PRE] = max(one[bank + PRE], now + one[ACT_PRE])
    one[bank + ACT] = now + one[ACT_ACT]
    one[one[want + GROUP_AT] + ACT] = now + one[GROUP_ACT_ACT]
    for latest in range(pseudo + LATEST, pseudo + LATEST + 3):
        one[latest] = one[latest + 1]
    one[pseudo + LATEST + 3] = now
    one[pseudo + ACT] = max(now + one[PSEUDO_ACT_ACT], one[pseudo + LATEST] + one[FOUR_ACTIVATES])
    one[MAY_ACT], one[MAY_PRE] = now + one[CHANNEL_ACT_ACT], now + one[CHANNEL_ACT_PRE]
    one[ISSUED] += 1
    changed(one, bank)
