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
from cascadesim.accelerators.dram import commands as at
from cascadesim.accelerators.dram.commands import Channel, activate, precharge, read, ready, refresh, settle


@inlined
def push(one: Channel, address: int, now: int) -> bool:
    """Hand a read to the controller; False where it keeps as many as it can.

    What holds for one request holds for all that want the same page.
    """
    if one[at.OUTSTANDING] >= one[at.LIMIT]:
        return False
    page, want = address >> one[at.COLUMN_BITS], -1
    for place in range(one[at.READING]):
        if one[at.PAGES + place] == page:
            want = one[at.LIVE + place]
    if want < 0:
        want = _begin(one, page, now)
    one[want + at.ARRIVALS + ((one[want + at.SERVED] + one[want + at.LEFT]) & (at.MOST_REQUESTS - 1))] = one[at.ARRIVED]
    one[want + at.LEFT] += 1
    one[at.ARRIVED] += 1
    one[at.OUTSTANDING] += 1
    return True


@compiled
def _begin(one: Channel, page: int, now: int) -> int:
    """Begin a page that nobody wanted. Its number has the fields of its bank and its row."""
    place = one[at.READING]
    want = one[at.LIVE + place]
    group, field = page & ((1 << one[at.PSEUDO_BITS]) - 1), page >> one[at.PSEUDO_BITS]
    one[want + at.PSEUDO_AT] = at.PSEUDO + 8 * group
    group = (group << one[at.GROUP_BITS]) + (field & ((1 << one[at.GROUP_BITS]) - 1))
    bank = (group << one[at.BANK_BITS]) + ((field >> one[at.GROUP_BITS]) & ((1 << one[at.BANK_BITS]) - 1))
    one[want + at.GROUP_AT], one[want + at.BANK_AT] = at.GROUPS + 4 * group, at.BANKS + 8 * bank
    one[want + at.PAGE], one[want + at.SERVED], one[want + at.LEFT] = page, 0, 0
    one[at.PAGES + place], one[at.FIRSTS + place] = page, one[at.ARRIVED]
    one[at.READING] += 1
    settle(one, place)
    ready = max(one[at.SOONS + place], now)
    if ready < one[at.WAITING_AT]:
        one[at.WAITING_AT] = ready
        one[at.CANDIDATE] = place if one[at.CANDIDATE] >= 0 else -1
        one[at.READY] = min(one[at.READY], ready)
        one[at.WAKE] = min(one[at.WAKE], ready)
    return want


@inlined
def pop(one: Channel, now: int) -> int:
    """Take the longest finished read, counted in the order of pushes; -1 where none is.

    Data of cycle t is there in t + 1.

    Popped reads leave one a cycle, in the order in which they were issued.
    """
    if now <= one[at.DEPARTS]:
        return -1
    place = at.RINGS + 2 * (one[at.TAKEN] & (at.MOST_REQUESTS - 1))
    one[at.TAKEN] += 1
    one[at.OUTSTANDING] -= 1
    after = at.RINGS + 2 * (one[at.TAKEN] & (at.MOST_REQUESTS - 1))
    one[at.DEPARTS] = one[after] if one[at.TAKEN] < one[at.DEPARTING] else at.NEVER
    return one[place + 1]


@inlined
def tick(one: Channel, now: int) -> None:
    """Run one cycle, in which at most one command is issued; note in which cycle the next one may be."""
    if now < one[at.WAKE]:
        return
    if now >= one[at.REFRESH]:
        refresh(one, now)
        _rank(one, one[at.STILL])
    if now >= one[at.READY]:
        one[at.READY] = max(_serve(one, now), now + 1)
    one[at.WAKE] = min(one[at.READY], one[at.REFRESH])


@inlined
def _serve(one: Channel, now: int) -> int:
    """Issue one command if any may be; return a cycle before which no other may be."""
    active, arrival = -1, at.NEVER  # the earliest of the active requests that are ready
    for want in range(at.ACTIVES, at.ACTIVES + 8 * one[at.ACTIVE], 8):
        if one[want + at.SOONEST] <= now:
            one[want + at.SOONEST] = ready(one, want)
            if one[want + at.SOONEST] <= now and one[want + at.FIRST] < arrival:
                active, arrival = want, one[want + at.FIRST]
    if active >= 0:
        _issue_active(one, active, now)
    elif one[at.WAITING_AT] <= now:
        _serve_waiting(one, now)
    soonest = one[at.WAITING_AT]
    for want in range(at.ACTIVES, at.ACTIVES + 8 * one[at.ACTIVE], 8):
        soonest = min(soonest, one[want + at.SOONEST])
    return soonest


@compiled
def _issue_active(one: Channel, want: int, now: int) -> None:
    bank = one[want + at.BANK_AT]
    if one[bank + at.ROW] != one[want + at.PAGE]:
        activate(one, want, now)
        _rank(one, now + 1)
        return
    one[bank + at.WANTED] -= 1
    read(one, want, one[want + at.FIRST], now)
    _delay(one, want, now)
    one[at.ACTIVE] -= 1
    last = at.ACTIVES + 8 * one[at.ACTIVE]
    for word in range(8):
        one[want + word] = one[last + word]


@inlined
def _serve_waiting(one: Channel, now: int) -> None:
    """Issue for the first of the waiting requests that is ready."""
    place = one[at.CANDIDATE]
    if place >= 0 and one[at.PSEUDOS_READ + place]:
        want = one[at.LIVE + place]
        read(one, want, one[at.FIRSTS + place], now)
        _advance(one, place)
        _delay(one, want, now)
    else:
        _open(one, now)


@compiled
def _open(one: Channel, now: int) -> None:
    """Issue where the first one may want another row than the open one.

    A ready request that may not close a row, because others wait for it, still holds up those behind it.
    """
    _rank(one, now)
    while one[at.WAITING_AT] <= now:
        place = one[at.CANDIDATE]
        want = one[at.LIVE + place]
        bank = one[want + at.BANK_AT]
        if one[bank + at.ROW] == one[want + at.PAGE]:
            read(one, want, one[at.FIRSTS + place], now)
            _advance(one, place)
            _delay(one, want, now)
        elif one[bank + at.ROW] < 0:
            activate(one, want, now)
            _promote(one, place)
            _rank(one, now + 1)
        elif max(one[at.MAY_PRE], one[bank + at.PRE]) > now:  # a read came in between
            settle(one, place)
            _rank(one, now)
        elif one[bank + at.WANTED] > 0:
            one[at.WAITING_AT], one[at.CANDIDATE] = at.NEVER, -1
            for waiting in range(one[at.READING]):
                if one[at.SOONS + waiting] > now:
                    one[at.WAITING_AT] = min(one[at.WAITING_AT], one[at.SOONS + waiting])
        else:
            precharge(one, bank, now)
            _rank(one, now + 1)


@inlined
def _rank(one: Channel, earliest: int) -> None:
    """Find which waiting request is the first that is ready from `earliest` on, and when."""
    best = at.LAST_RANK
    for place in range(one[at.READING]):
        delay = max(one[at.SOONS + place] - earliest, 0)
        best = min(best, (delay << at.RANK_DELAY) + (one[at.FIRSTS + place] << at.RANK_ARRIVAL) + place)
    _choose(one, earliest, best)


@inlined
def _choose(one: Channel, earliest: int, rank: int) -> None:
    one[at.CANDIDATE] = rank & (at.MOST_REQUESTS - 1)
    one[at.WAITING_AT] = earliest + (rank >> at.RANK_DELAY) if one[at.READING] else at.NEVER


@inlined
def _delay(one: Channel, want: int, now: int) -> None:
    """A read delays others of its pseudo-channel and of its group; then as `_rank`."""
    pseudo, group, best = one[want + at.PSEUDO_AT], one[want + at.GROUP_AT], at.LAST_RANK
    on_pseudo, on_group = one[pseudo + at.RD], one[group + at.RD]
    for place in range(one[at.READING]):
        soon = max(one[at.SOONS + place], on_pseudo if one[at.PSEUDOS_READ + place] == pseudo else 0)
        soon = max(soon, on_group if one[at.GROUPS_READ + place] == group else 0)
        one[at.SOONS + place] = soon
        delay = max(soon - now - 1, 0)
        best = min(best, (delay << at.RANK_DELAY) + (one[at.FIRSTS + place] << at.RANK_ARRIVAL) + place)
    _choose(one, now + 1, best)


@inlined
def _advance(one: Channel, place: int) -> None:
    """The first request of a page has left it."""
    want = one[at.LIVE + place]
    one[want + at.SERVED] += 1
    one[want + at.LEFT] -= 1
    if one[want + at.LEFT]:
        one[at.FIRSTS + place] = one[want + at.ARRIVALS + (one[want + at.SERVED] & (at.MOST_REQUESTS - 1))]
        return
    one[at.READING] -= 1
    last = one[at.READING]
    one[at.LIVE + place], one[at.LIVE + last] = one[at.LIVE + last], want
    for part in (at.PAGES, at.FIRSTS, at.SOONS, at.PSEUDOS_READ, at.GROUPS_READ):
        one[part + place] = one[part + last]


@compiled
def _promote(one: Channel, place: int) -> None:
    """A request whose row is being opened moves to the active ones."""
    last, want = at.ACTIVES + 8 * one[at.ACTIVE], one[at.LIVE + place]
    for word in range(at.FIRST):
        one[last + word] = one[want + word]
    one[last + at.FIRST], one[last + at.SOONEST] = one[at.FIRSTS + place], ready(one, want)
    one[one[want + at.BANK_AT] + at.WANTED] += 1
    one[at.ACTIVE] += 1
    _advance(one, place)
