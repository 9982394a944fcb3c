"""One DRAM channel and its FR-FCFS controller, cycle by cycle, compiled.

Rules of ramulator2 v2.0's generic controller: requests whose row is being opened are served before all others; among
the requests of a list the earliest that is ready wins; a row is not closed while a request waits for it. Every command
notes when the next ones may follow, so a cycle before `WAKE` costs a comparison. One row of integers is a channel; the
compiled functions take such a row.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.simulator.compilation import compiled, inlined
from cascadesim.simulator.dram_standards import DramStandard

Integers = NDArray[np.int64]
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
    """`number` idle channels; `rows_open`: each bank has a row open that no request wants, otherwise none."""
    groups = standard.pseudo_channels * standard.bank_groups
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
    idle[CHANNEL_ACT_ACT : REFRESH_CYCLES + 1] = _constants(standard)
    idle[REFRESH] = idle[WAKE] = idle[REFRESH_INTERVAL]
    idle[DEPARTS] = idle[READY] = idle[WAITING_AT] = NEVER
    idle[LIVE : LIVE + MOST_REQUESTS] = range(WANTS, WORDS, WANT_WORDS)  # the first READING of them are in use
    return np.tile(idle, (number, 1))


def _constants(standard: DramStandard) -> list[int]:
    """From CHANNEL_ACT_ACT to REFRESH_CYCLES, in order."""
    of = standard.timing
    sizes = (standard.pseudo_channels, standard.bank_groups, standard.banks)
    return [
        of("channel", "ACT", "ACT"), of("channel", "ACT", "PRE"), of("pseudo_channel", "RD", "RD"),
        of("pseudo_channel", "ACT", "ACT"), of("pseudo_channel", "ACT", "ACT", 4), of("bank_group", "RD", "RD"),
        of("bank_group", "ACT", "ACT"), of("bank", "ACT", "RD"), of("bank", "ACT", "PRE"), of("bank", "ACT", "ACT"),
        of("bank", "PRE", "ACT"), of("bank", "RD", "PRE"), standard.read_latency, standard.column_low_bit,
        *(size.bit_length() - 1 for size in sizes), standard.largest_outstanding,
        standard.refresh_interval or NEVER, standard.refresh_cycles,
    ]  # fmt: skip


@inlined
def push(one: Channel, address: int, now: int) -> bool:
    """Hand a read to the controller; False where it keeps as many as it can.

    What holds for one request holds for all that want the same page.
    """
    if one[OUTSTANDING] >= one[LIMIT]:
        return False
    want = _find(one, address >> one[COLUMN_BITS], now)
    one[want + ARRIVALS + ((one[want + SERVED] + one[want + LEFT]) & (MOST_REQUESTS - 1))] = one[ARRIVED]
    one[want + LEFT] += 1
    one[ARRIVED] += 1
    one[OUTSTANDING] += 1
    return True


@inlined
def _find(one: Channel, page: int, now: int) -> int:
    for place in range(one[READING]):
        if one[PAGES + place] == page:
            return one[LIVE + place]
    return _begin(one, page, now)


@compiled
def _begin(one: Channel, page: int, now: int) -> int:
    """A page that nobody wanted. Its number has the fields of its bank and its row."""
    place = one[READING]
    want = one[LIVE + place]
    group, field = page & ((1 << one[PSEUDO_BITS]) - 1), page >> one[PSEUDO_BITS]
    one[want + PSEUDO_AT] = PSEUDO + 8 * group
    group = (group << one[GROUP_BITS]) + (field & ((1 << one[GROUP_BITS]) - 1))
    bank = (group << one[BANK_BITS]) + ((field >> one[GROUP_BITS]) & ((1 << one[BANK_BITS]) - 1))
    one[want + GROUP_AT], one[want + BANK_AT] = GROUPS + 4 * group, BANKS + 8 * bank
    one[want + PAGE], one[want + SERVED], one[want + LEFT] = page, 0, 0
    one[PAGES + place], one[FIRSTS + place] = page, one[ARRIVED]
    one[READING] += 1
    _settle(one, place)
    ready = max(one[SOONS + place], now)
    if ready < one[WAITING_AT]:
        one[WAITING_AT] = ready
        one[CANDIDATE] = place if one[CANDIDATE] >= 0 else -1
        one[READY] = min(one[READY], ready)
        one[WAKE] = min(one[WAKE], ready)
    return want


@compiled
def _settle(one: Channel, place: int) -> None:
    """When the next command for a page may be issued, as things stand."""
    want = one[LIVE + place]
    reads = one[one[want + BANK_AT] + ROW] == one[want + PAGE]
    one[SOONS + place] = max(_ready(one, want), one[STILL])
    one[PSEUDOS_READ + place] = one[want + PSEUDO_AT] if reads else 0
    one[GROUPS_READ + place] = one[want + GROUP_AT] if reads else 0


@inlined
def pop(one: Channel, now: int) -> int:
    """The longest finished read, counted in the order of pushes; -1 where none is. Data of cycle t is there in t + 1.

    Popped reads leave one a cycle, in the order in which they were issued.
    """
    if now <= one[DEPARTS]:
        return -1
    place = RINGS + 2 * (one[TAKEN] & (MOST_REQUESTS - 1))
    one[TAKEN] += 1
    one[OUTSTANDING] -= 1
    after = RINGS + 2 * (one[TAKEN] & (MOST_REQUESTS - 1))
    one[DEPARTS] = one[after] if one[TAKEN] < one[DEPARTING] else NEVER
    return one[place + 1]


@inlined
def tick(one: Channel, now: int) -> None:
    """One cycle, in which at most one command is issued."""
    if now >= one[WAKE]:
        _work(one, now)


@inlined
def _work(one: Channel, now: int) -> None:
    """A cycle in which something may happen; notes when the next one is."""
    if now >= one[REFRESH]:
        _refresh(one, now)
    if now >= one[READY]:
        one[READY] = max(_serve(one, now), now + 1)
    one[WAKE] = min(one[READY], one[REFRESH])


@compiled
def _refresh(one: Channel, now: int) -> None:
    """Every `refresh_interval` cycles all rows close and the channel stands still for `refresh_cycles`."""
    for bank in range(MOST_BANKS):
        one[BANKS + 8 * bank + ROW] = -1
    one[REFRESH] += one[REFRESH_INTERVAL]
    one[STILL] = one[READY] = now + one[REFRESH_CYCLES]
    for place in range(one[ACTIVE]):
        one[ACTIVES + 8 * place + SOONEST] = one[STILL]
    for place in range(one[READING]):
        _settle(one, place)
    _rank(one, one[STILL])


@inlined
def _ready(one: Channel, want: int) -> int:
    """The first cycle in which the next command of a request may be issued, as things stand."""
    bank = one[want + BANK_AT]
    if one[bank + ROW] == one[want + PAGE]:
        return max(one[bank + RD], one[one[want + GROUP_AT] + RD], one[one[want + PSEUDO_AT] + RD])
    if one[bank + ROW] >= 0:
        return max(one[MAY_PRE], one[bank + PRE])
    shared = max(one[one[want + GROUP_AT] + ACT], one[one[want + PSEUDO_AT] + ACT])
    return max(shared, one[bank + ACT], one[MAY_ACT])


@inlined
def _serve(one: Channel, now: int) -> int:
    """Issue one command if any may be; returns a cycle before which no other may be."""
    active = _first_active(one, now) if one[ACTIVE] else -1
    if active >= 0:
        _issue_active(one, active, now)
    elif one[WAITING_AT] <= now:
        _serve_waiting(one, now)
    soonest = one[WAITING_AT]
    for want in range(ACTIVES, ACTIVES + 8 * one[ACTIVE], 8):
        soonest = min(soonest, one[want + SOONEST])
    return soonest


@inlined
def _first_active(one: Channel, now: int) -> int:
    """The earliest of the active requests that are ready, or -1."""
    best, arrival = -1, NEVER
    for want in range(ACTIVES, ACTIVES + 8 * one[ACTIVE], 8):
        if one[want + SOONEST] <= now:
            one[want + SOONEST] = _ready(one, want)
            if one[want + SOONEST] <= now and one[want + FIRST] < arrival:
                best, arrival = want, one[want + FIRST]
    return best


@compiled
def _issue_active(one: Channel, want: int, now: int) -> None:
    bank = one[want + BANK_AT]
    if one[bank + ROW] != one[want + PAGE]:
        _activate(one, want, now)
        _rank(one, now + 1)
        return
    one[bank + WANTED] -= 1
    _read(one, want, one[want + FIRST], now)
    _delay(one, want, now)
    one[ACTIVE] -= 1
    last = ACTIVES + 8 * one[ACTIVE]
    for word in range(8):
        one[want + word] = one[last + word]


@inlined
def _serve_waiting(one: Channel, now: int) -> None:
    """Issue for the first of the waiting requests that is ready."""
    place = one[CANDIDATE]
    if place >= 0 and one[PSEUDOS_READ + place]:
        want = one[LIVE + place]
        _read(one, want, one[FIRSTS + place], now)
        _advance(one, place)
        _delay(one, want, now)
    else:
        _open(one, now)


@compiled
def _open(one: Channel, now: int) -> None:
    """The same where the first one may want another row than the open one.

    A ready request that may not close a row, because others wait for it, still holds up those behind it.
    """
    _rank(one, now)
    while one[WAITING_AT] <= now:
        place = one[CANDIDATE]
        want = one[LIVE + place]
        bank = one[want + BANK_AT]
        if one[bank + ROW] == one[want + PAGE]:
            _read(one, want, one[FIRSTS + place], now)
            _advance(one, place)
            _delay(one, want, now)
        elif one[bank + ROW] < 0:
            _activate(one, want, now)
            _promote(one, place)
            _rank(one, now + 1)
        elif max(one[MAY_PRE], one[bank + PRE]) > now:  # a read came in between
            _settle(one, place)
            _rank(one, now)
        elif one[bank + WANTED] > 0:
            one[WAITING_AT], one[CANDIDATE] = _next_ready(one, now), -1
        else:
            _precharge(one, bank, now)
            _rank(one, now + 1)


@inlined
def _next_ready(one: Channel, now: int) -> int:
    soonest = NEVER
    for place in range(one[READING]):
        if one[SOONS + place] > now:
            soonest = min(soonest, one[SOONS + place])
    return soonest


@inlined
def _rank(one: Channel, earliest: int) -> None:
    """From `earliest` on, which waiting request is the first that is ready, and when."""
    best = LAST_RANK
    for place in range(one[READING]):
        delay = max(one[SOONS + place] - earliest, 0)
        best = min(best, (delay << RANK_DELAY) + (one[FIRSTS + place] << RANK_ARRIVAL) + place)
    _choose(one, earliest, best)


@inlined
def _choose(one: Channel, earliest: int, rank: int) -> None:
    one[CANDIDATE] = rank & (MOST_REQUESTS - 1)
    one[WAITING_AT] = earliest + (rank >> RANK_DELAY) if one[READING] else NEVER


@inlined
def _delay(one: Channel, want: int, now: int) -> None:
    """A read delays others of its pseudo-channel and of its group; then as `_rank`."""
    pseudo, group, best = one[want + PSEUDO_AT], one[want + GROUP_AT], LAST_RANK
    on_pseudo, on_group = one[pseudo + RD], one[group + RD]
    for place in range(one[READING]):
        soon = max(one[SOONS + place], on_pseudo if one[PSEUDOS_READ + place] == pseudo else 0)
        soon = max(soon, on_group if one[GROUPS_READ + place] == group else 0)
        one[SOONS + place] = soon
        delay = max(soon - now - 1, 0)
        best = min(best, (delay << RANK_DELAY) + (one[FIRSTS + place] << RANK_ARRIVAL) + place)
    _choose(one, now + 1, best)


@inlined
def _advance(one: Channel, place: int) -> None:
    """The first request of a page has left it."""
    want = one[LIVE + place]
    one[want + SERVED] += 1
    one[want + LEFT] -= 1
    if one[want + LEFT]:
        one[FIRSTS + place] = one[want + ARRIVALS + (one[want + SERVED] & (MOST_REQUESTS - 1))]
        return
    one[READING] -= 1
    last = one[READING]
    one[LIVE + place], one[LIVE + last] = one[LIVE + last], want
    for part in (PAGES, FIRSTS, SOONS, PSEUDOS_READ, GROUPS_READ):
        one[part + place] = one[part + last]


@inlined
def _read(one: Channel, want: int, arrival: int, now: int) -> None:
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
def _precharge(one: Channel, bank: int, now: int) -> None:
    one[bank + ROW] = -1
    one[bank + ACT] = max(one[bank + ACT], now + one[PRE_ACT])
    one[ISSUED] += 1
    _changed(one, bank)


@compiled
def _activate(one: Channel, want: int, now: int) -> None:
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
    _changed(one, bank)


@compiled
def _changed(one: Channel, bank: int) -> None:
    """Another row of a bank: what was known of the requests no longer holds."""
    for place in range(one[READING]):
        _settle(one, place)
    for want in range(ACTIVES, ACTIVES + 8 * one[ACTIVE], 8):
        if one[want + BANK_AT] == bank:
            one[want + SOONEST] = _ready(one, want)


@compiled
def _promote(one: Channel, place: int) -> None:
    """A request whose row is being opened moves to the active ones."""
    last, want = ACTIVES + 8 * one[ACTIVE], one[LIVE + place]
    for word in range(FIRST):
        one[last + word] = one[want + word]
    one[last + FIRST], one[last + SOONEST] = one[FIRSTS + place], _ready(one, want)
    one[one[want + BANK_AT] + WANTED] += 1
    one[ACTIVE] += 1
    _advance(one, place)
