"""One DRAM channel and its FR-FCFS controller, cycle by cycle, compiled.

Rules of ramulator2 v2.0's generic controller: requests whose row is being opened are served before all others; among
the requests of a list the earliest that is ready wins; a row is not closed while a request waits for it. Every command
notes when the next ones may follow, so a cycle before `WAKE` costs a comparison. One row of integers is a channel; the
compiled functions take such a row.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.dram.commands import (
    ACTIVE,
    ACTIVES,
    ARRIVALS,
    ARRIVED,
    BANK_AT,
    BANK_BITS,
    BANKS,
    CANDIDATE,
    COLUMN_BITS,
    DEPARTING,
    DEPARTS,
    FIRST,
    FIRSTS,
    GROUP_AT,
    GROUP_BITS,
    GROUPS,
    GROUPS_READ,
    LAST_RANK,
    LEFT,
    LIMIT,
    LIVE,
    MAY_PRE,
    MOST_REQUESTS,
    NEVER,
    OUTSTANDING,
    PAGE,
    PAGES,
    PRE,
    PSEUDO,
    PSEUDO_AT,
    PSEUDO_BITS,
    PSEUDOS_READ,
    RANK_ARRIVAL,
    RANK_DELAY,
    RD,
    READING,
    READY,
    REFRESH,
    RINGS,
    ROW,
    SERVED,
    SOONEST,
    SOONS,
    STILL,
    TAKEN,
    WAITING_AT,
    WAKE,
    WANTED,
    Channel,
    activate,
    precharge,
    read,
    ready,
    refresh,
    settle,
)


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
    settle(one, place)
    ready = max(one[SOONS + place], now)
    if ready < one[WAITING_AT]:
        one[WAITING_AT] = ready
        one[CANDIDATE] = place if one[CANDIDATE] >= 0 else -1
        one[READY] = min(one[READY], ready)
        one[WAKE] = min(one[WAKE], ready)
    return want


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
    """One cycle, in which at most one command is issued; notes in which cycle the next one may be."""
    if now < one[WAKE]:
        return
    if now >= one[REFRESH]:
        refresh(one, now)
        _rank(one, one[STILL])
    if now >= one[READY]:
        one[READY] = max(_serve(one, now), now + 1)
    one[WAKE] = min(one[READY], one[REFRESH])


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
            one[want + SOONEST] = ready(one, want)
            if one[want + SOONEST] <= now and one[want + FIRST] < arrival:
                best, arrival = want, one[want + FIRST]
    return best


@compiled
def _issue_active(one: Channel, want: int, now: int) -> None:
    bank = one[want + BANK_AT]
    if one[bank + ROW] != one[want + PAGE]:
        activate(one, want, now)
        _rank(one, now + 1)
        return
    one[bank + WANTED] -= 1
    read(one, want, one[want + FIRST], now)
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
        read(one, want, one[FIRSTS + place], now)
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
            read(one, want, one[FIRSTS + place], now)
            _advance(one, place)
            _delay(one, want, now)
        elif one[bank + ROW] < 0:
            activate(one, want, now)
            _promote(one, place)
            _rank(one, now + 1)
        elif max(one[MAY_PRE], one[bank + PRE]) > now:  # a read came in between
            settle(one, place)
            _rank(one, now)
        elif one[bank + WANTED] > 0:
            one[WAITING_AT], one[CANDIDATE] = _next_ready(one, now), -1
        else:
            precharge(one, bank, now)
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


@compiled
def _promote(one: Channel, place: int) -> None:
    """A request whose row is being opened moves to the active ones."""
    last, want = ACTIVES + 8 * one[ACTIVE], one[LIVE + place]
    for word in range(FIRST):
        one[last + word] = one[want + word]
    one[last + FIRST], one[last + SOONEST] = one[FIRSTS + place], ready(one, want)
    one[one[want + BANK_AT] + WANTED] += 1
    one[ACTIVE] += 1
    _advance(one, place)
