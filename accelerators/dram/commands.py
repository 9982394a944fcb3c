"""The state of a DRAM channel and its commands: when one may be issued, and what it changes. Compiled.

One row of integers is what a channel and its controller keep between cycles; each place has a name. Every command
notes when the next ones may follow. Which command is issued next is decided in `channel`.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.dram.standards import DramStandard
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Integers: TypeAlias = NDArray[np.int64]
Channels: TypeAlias = Integers  # [channel, field]: state of several equal channels, one row each
Channel: TypeAlias = Integers  # [field]

PAST, NEVER = -(1 << 40), 1 << 60
READING, ACTIVE = 0, 1  # lengths of the two lists: pages that requests want, requests whose row is being opened
WAKE, READY = 2, 3  # the first cycle in which anything may happen, and in which a command may be issued
OUTSTANDING, ISSUED, ARRIVED = 4, 5, 6  # requests kept, commands issued, requests ever pushed
DEPARTING, TAKEN, DEPARTS = 7, 8, 9  # reads ever issued, ever popped; when the data of the next to be popped has come
REFRESH, STILL, MAY_ACT, MAY_PRE = 10, 11, 12, 13  # next refresh, its end; when the channel allows which command
WAITING_AT, CANDIDATE = 14, 15  # when a command for a waiting request may be issued, and for which place, -1: not known
CHANNEL_ACT_ACT, CHANNEL_ACT_PRE, PSEUDO_RD_RD, PSEUDO_ACT_ACT, FOUR_ACTIVATES = 16, 17, 18, 19, 20  # constants
GROUP_RD_RD, GROUP_ACT_ACT, ACT_RD, ACT_PRE, ACT_ACT, PRE_ACT, RD_PRE, READ_LATENCY = 21, 22, 23, 24, 25, 26, 27, 28
COLUMN_BITS, PSEUDO_BITS, GROUP_BITS, BANK_BITS, LIMIT, REFRESH_INTERVAL, REFRESH_CYCLES = 29, 30, 31, 32, 33, 34, 35
PSEUDO, GROUPS, BANKS, RINGS, ACTIVES = 40, 72, 136, 648, 904  # where the parts begin
MOST_PSEUDO, MOST_GROUPS, MOST_BANKS, MOST_REQUESTS = 4, 16, 64, 32  # their sizes
ROW, RD, PRE, ACT, WANTED = 0, 1, 2, 3, 4  # of 8 words of a bank: open page or -1, when which command may be issued
LATEST = 4  # of 8 words of a pseudo-channel: its four latest activates, oldest first
# by place, for each page that is wanted: what is kept of it, the page, its earliest request, when the next command for
# it may be issued, and, where that is a read, the pseudo-channel and the group that may delay it, otherwise 0
LIVE, PAGES, FIRSTS, SOONS, PSEUDOS_READ, GROUPS_READ = 712, 744, 776, 808, 840, 872
# of 8 words: a page (a row of a bank), where its parts begin; of requests whose row is being opened also the arrival
# and a cycle before which no command for it may be issued; of pages how many were served and are left, and a ring of
# their arrivals
PAGE, BANK_AT, GROUP_AT, PSEUDO_AT, FIRST, SOONEST = range(6)
SERVED, LEFT, ARRIVALS = 6, 7, 8
WANTS, WANT_WORDS = 1160, ARRIVALS + MOST_REQUESTS
WORDS = WANTS + WANT_WORDS * MOST_REQUESTS
RANK_ARRIVAL, RANK_DELAY, LAST_RANK = 5, 45, 1 << 62  # first bits of a rank's fields: place, arrival, delay


def channels(standard: DramStandard, number: int, rows_open: bool = False) -> Channels:
    """Make `number` idle channels; with `rows_open` each bank has a row open that no request wants, otherwise none.

    Raises CascadeSimError for a standard whose channel is larger than the layout.
    """
    of, groups = standard.timing, standard.pseudo_channels * standard.bank_groups
    sizes = (standard.pseudo_channels, groups, groups * standard.banks, standard.largest_outstanding)
    if any(
        size > most for size, most in zip(sizes, (MOST_PSEUDO, MOST_GROUPS, MOST_BANKS, MOST_REQUESTS), strict=True)
    ):
        raise CascadeSimError(
            f"{standard.name}: a channel has at most {MOST_PSEUDO} pseudo-channels, {MOST_GROUPS} bank groups, "
            f"{MOST_BANKS} banks and {MOST_REQUESTS} outstanding requests, got {sizes}"
        )
    idle = np.zeros(WORDS, dtype=np.int64)
    idle[PSEUDO:RINGS] = idle[[MAY_ACT, MAY_PRE]] = PAST
    idle[BANKS + ROW : RINGS : 8], idle[BANKS + WANTED : RINGS : 8] = NEVER if rows_open else -1, 0
    idle[CHANNEL_ACT_ACT : REFRESH_CYCLES + 1] = [
        of("channel", "ACT", "ACT"), of("channel", "ACT", "PRE"), of("pseudo_channel", "RD", "RD"),
        of("pseudo_channel", "ACT", "ACT"), of("pseudo_channel", "ACT", "ACT", 4), of("bank_group", "RD", "RD"),
        of("bank_group", "ACT", "ACT"), of("bank", "ACT", "RD"), of("bank", "ACT", "PRE"), of("bank", "ACT", "ACT"),
        of("bank", "PRE", "ACT"), of("bank", "RD", "PRE"), standard.read_latency, standard.column_low_bit,
        *(size.bit_length() - 1 for size in (standard.pseudo_channels, standard.bank_groups, standard.banks)),
        standard.largest_outstanding, standard.refresh_interval or NEVER, standard.refresh_cycles,
    ]  # fmt: skip
    idle[REFRESH] = idle[WAKE] = idle[REFRESH_INTERVAL]
    idle[DEPARTS] = idle[READY] = idle[WAITING_AT] = NEVER
    idle[LIVE : LIVE + MOST_REQUESTS] = range(WANTS, WORDS, WANT_WORDS)  # the first READING of them are in use
    return np.tile(idle, (number, 1))


@inlined
def ready(one: Channel, want: int) -> int:
    """Find the first cycle in which the next command of a request may be issued, as things stand."""
    bank = one[want + BANK_AT]
    if one[bank + ROW] == one[want + PAGE]:
        return max(one[bank + RD], one[one[want + GROUP_AT] + RD], one[one[want + PSEUDO_AT] + RD])
    if one[bank + ROW] >= 0:
        return max(one[MAY_PRE], one[bank + PRE])
    shared = max(one[one[want + GROUP_AT] + ACT], one[one[want + PSEUDO_AT] + ACT])
    return max(shared, one[bank + ACT], one[MAY_ACT])


@compiled
def settle(one: Channel, place: int) -> None:
    """Note when the next command for a page may be issued, as things stand."""
    want = one[LIVE + place]
    reads = one[one[want + BANK_AT] + ROW] == one[want + PAGE]
    one[SOONS + place] = max(ready(one, want), one[STILL])
    one[PSEUDOS_READ + place] = one[want + PSEUDO_AT] if reads else 0
    one[GROUPS_READ + place] = one[want + GROUP_AT] if reads else 0


@compiled
def changed(one: Channel, bank: int) -> None:
    """Note another row of a bank: what was known of the requests no longer holds."""
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
