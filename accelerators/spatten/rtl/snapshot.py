"""The state of a stream of heads relative to the cycle, the head and the addresses it is at. Compiled.

Everything that decides what happens next is written; what is over and counters that only count are not. Times that are
long past are all alike. Two equal snapshots with equal heads to come, addresses apart, have equal futures.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable

from cascadesim.accelerators.compiled import compiled, compiled_entry, version_of
from cascadesim.accelerators.dram import commands as at
from cascadesim.accelerators.dram.commands import Channel, Integers
from cascadesim.accelerators.spatten.rtl import state
from cascadesim.accelerators.spatten.rtl.state import NEVER, OWNERS, ROWS, SLOTS, TIME, HeadPipeline, Ring, filled

LONG_PAST = 1 << 12  # cycles; far above every constant that is added to a time and compared with the present
NOT_A_TIME = 1 << 59  # at least this: NEVER, or a row that no request wants
A_COUNT, A_JOB, A_HEAD, A_TIME, LOW_PASSES = range(5)  # kinds of fields in the rings


@compiled
def _note(out: Integers, value: int) -> None:
    """`out[0]`: how many words are written."""
    out[0] += 1
    out[out[0]] = value


@compiled
def _time(p: HeadPipeline, out: Integers, time: int) -> None:
    _note(out, time if time >= NOT_A_TIME else max(time - p.now[TIME], -LONG_PAST))


@compiled
def _head(p: HeadPipeline, out: Integers, head: int) -> None:
    _note(out, head - p.now[state.DONE_HEADS] if head >= 0 else -NEVER)


@compiled
def _address(out: Integers, address: int, origin: int) -> None:
    _note(out, address - origin if 0 <= address < NOT_A_TIME else -NEVER + (address >= 0))


@compiled
def _job(p: HeadPipeline, out: Integers, job: int, origin: int) -> None:
    if job < 0:
        _note(out, -1)
        return
    for field in range(p.jobs.shape[1]):
        if field not in (state.HEAD, state.BASE, state.VALID):
            _note(out, p.jobs[job, field])
    _head(p, out, p.jobs[job, state.HEAD])
    _address(out, p.jobs[job, state.BASE], origin)
    _note(out, p.jobs[job, state.VALID] - p.now[TIME])


@compiled
def _scalars(p: HeadPipeline, out: Integers, origin: int) -> None:
    for place in (
        state.OCCUPIED, state.BRANCHING_LOW, state.READ_LINE, state.JOB_LINE, state.LAST_KIND, state.SPLIT_ROW,
        state.SPLIT_VECTOR, state.SPLIT_PART, state.TAKEN_BEATS, state.BITS, state.GROUPS, state.STREAM_BEAT,
        state.COLLECTED, state.COLLECTED_LINES, state.VALUE_LINE, state.CHOSEN, state.PADDING, state.BEATS_MET,
    ):  # fmt: skip
        _note(out, p.now[place])
    for place in (
        state.WAITING_TIME, state.READ_TRY, state.SCORES_GONE, state.STREAM_TIME, state.SELECTOR_FREE, state.VALUE_TRY,
        state.VALUES_WRITTEN, state.BEAT_AT,
    ):  # fmt: skip
        _time(p, out, p.now[place])
    for place in (state.WAITING, state.BRANCHING, state.STREAMING, state.MULTIPLYING, state.NEXT):
        _head(p, out, p.now[place])
    _note(out, p.now[state.LOW_ASKED] - p.now[state.LOW_DONE])
    _job(p, out, p.now[state.JOB], origin)


@compiled
def _entries(p: HeadPipeline, out: Integers, ring: Ring, fields: tuple[int, ...], origin: int) -> None:
    """How many entries a ring has, and what their fields say, each noted as its kind in `fields` asks for."""
    _note(out, filled(ring))
    for number in range(filled(ring)):
        entry = ring.entries[(ring.ends[0] + number) & (ring.entries.shape[0] - 1)]
        for place in range(len(fields)):
            if fields[place] == A_JOB:
                _job(p, out, entry[place], origin)
            elif fields[place] == A_HEAD:
                _head(p, out, entry[place])
            elif fields[place] == A_TIME:
                _time(p, out, entry[place])
            elif fields[place] == LOW_PASSES:
                _note(out, max(entry[place] - p.now[state.LOW_DONE], 0))
            else:
                _note(out, entry[place])


@compiled
def _rings(p: HeadPipeline, out: Integers, origin: int) -> None:
    for jobs in (p.key_jobs, p.value_jobs):
        _entries(p, out, jobs, (A_JOB,), origin)
    _note(out, filled(p.granted) - p.now[state.CONSUMED])
    for place in range(p.now[state.CONSUMED], filled(p.granted)):
        _job(p, out, p.granted.entries[place, 0], origin)
    _entries(p, out, p.splitting, (A_JOB, A_COUNT, A_TIME), origin)
    for heads in (p.again, p.reads):
        _entries(p, out, heads, (A_HEAD, A_TIME), origin)
    _entries(p, out, p.reports, (A_HEAD, A_COUNT, A_TIME), origin)
    _entries(p, out, p.scored, (A_HEAD, A_TIME, LOW_PASSES), origin)
    _entries(p, out, p.frees, (A_COUNT, A_TIME), origin)
    _entries(p, out, p.products, (A_TIME,), origin)


@compiled
def _buffers(p: HeadPipeline, out: Integers) -> None:
    """Lines of heads under way, and of the one before, with which the first may share its fetch.

    The lines of a slot come in order: those long past are the first ones, those to come the last ones.
    """
    for head in range(max(p.now[state.DONE_HEADS] - 1, 0), p.now[state.NEXT]):
        slot = head % SLOTS
        for kind in range(p.written.shape[0]):
            for port in range(p.written.shape[1]):
                _times_in_order(p, out, p.written[kind, port, slot])
        _note(out, p.value_line_count[slot])
        for line in range(p.value_line_count[slot]):
            _time(p, out, p.value_lines[slot, line])
    for buffer in range(2):
        for port in range(2):
            _time(p, out, p.ports[buffer, port])
            _note(out, p.banks[buffer, port])


@compiled
def _times_in_order(p: HeadPipeline, out: Integers, times: Integers) -> None:
    past = 0
    for time in times:
        past += time <= p.now[TIME] - LONG_PAST
        if p.now[TIME] - LONG_PAST < time < NOT_A_TIME:
            _note(out, time - p.now[TIME])
    _note(out, past - NEVER)


@compiled
def _fetcher(p: HeadPipeline, out: Integers, origin: int) -> None:
    fetch, formed = p.fetch, p.now[state.FORMED]
    _note(out, p.now[state.ENTERED] - formed)
    _note(out, p.now[state.LOADED_ROWS] - formed)
    for number in range(formed, p.now[state.ENTERED]):
        place = number & (ROWS - 1)
        entered, loads, accepts, complete = fetch.rows[place]
        _time(p, out, entered)
        _note(out, loads)
        _note(out, accepts)
        _time(p, out, complete)
        for lane in range(p.sizes[state.FETCH_CHANNELS]):
            _address(out, fetch.address[place, lane], origin)
            loaded = fetch.lanes[lane, state.ACCEPTED] <= number < fetch.lanes[lane, state.LOADED]
            if loaded and fetch.address[place, lane] < 0:
                _time(p, out, fetch.order[place, lane])
    for lane in range(p.sizes[state.FETCH_CHANNELS]):
        _note(out, fetch.lanes[lane, state.LOADED] - formed)
        _note(out, fetch.lanes[lane, state.ACCEPTED] - formed)
        _time(p, out, fetch.lanes[lane, state.TOOK])
        _address(out, fetch.lanes[lane, state.REQUEST], origin >> p.sizes[state.CHANNEL_BITS])
    for word in fetch.loading:
        _note(out, word)
    for channel in range(p.sizes[state.CHANNELS]):
        port = p.fetch.crossbar[channel]
        for word in p.fetch.wanting[channel]:
            _note(out, word)
        _note(out, port[state.CHOSEN_LANE])
        _note(out, port[state.HOLDING])
        _address(out, port[state.BLOCKED], origin >> p.sizes[state.CHANNEL_BITS])
        _note(out, port[state.ASKED] - port[state.RETURNED])
        for number in range(port[state.RETURNED], port[state.ASKED]):
            _note(out, port[state.OWNERS_AT + (number & (OWNERS - 1))])


@compiled
def _dram(p: HeadPipeline, out: Integers, one: Channel, origin: int) -> None:
    page = origin >> p.sizes[state.CHANNEL_BITS] >> one[at.COLUMN_BITS]
    for place in (at.READING, at.ACTIVE, at.OUTSTANDING, at.CANDIDATE):
        _note(out, one[place])
    for place in (at.WAKE, at.READY, at.WAITING_AT, at.DEPARTS, at.REFRESH, at.STILL, at.MAY_ACT, at.MAY_PRE):
        _time(p, out, one[place])
    for place in range(at.PSEUDO, at.BANKS):
        _time(p, out, one[place])
    for bank in range(at.BANKS, at.RINGS, 8):
        _address(out, one[bank + at.ROW], page)
        _note(out, one[bank + at.WANTED])
        for command in (at.RD, at.PRE, at.ACT):
            _time(p, out, one[bank + command])
    _note(out, one[at.DEPARTING] - one[at.TAKEN])
    for number in range(one[at.TAKEN], one[at.DEPARTING]):
        _time(p, out, one[at.RINGS + 2 * (number & (at.MOST_REQUESTS - 1))])
    for place in range(one[at.READING]):
        want = one[at.LIVE + place]
        _want(out, one, want, page)
        _note(out, one[at.FIRSTS + place] - one[at.ARRIVED])
        _time(p, out, one[at.SOONS + place])
        _note(out, one[want + at.LEFT])
        for number in range(one[want + at.SERVED], one[want + at.SERVED] + one[want + at.LEFT]):
            _note(out, one[want + at.ARRIVALS + (number & (at.MOST_REQUESTS - 1))] - one[at.ARRIVED])
    for active in range(at.ACTIVES, at.ACTIVES + 8 * one[at.ACTIVE], 8):
        _want(out, one, active, page)
        _note(out, one[active + at.FIRST] - one[at.ARRIVED])
        _time(p, out, one[active + at.SOONEST])


@compiled
def _want(out: Integers, one: Channel, want: int, page: int) -> None:
    _address(out, one[want + at.PAGE], page)
    for field in (at.BANK_AT, at.GROUP_AT, at.PSEUDO_AT):
        _note(out, one[want + field])


def _entry_point(version: int) -> Callable[[HeadPipeline, Integers, int], int]:
    """Writes a snapshot to `out`, from its second word on, and returns its length. `origin`: what addresses are
    relative to."""

    def snapshot(p: HeadPipeline, out: Integers, origin: int) -> int:
        out[0] = 0 * version
        _scalars(p, out, origin)
        _rings(p, out, origin)
        _buffers(p, out)
        _fetcher(p, out, origin)
        for channel in range(p.sizes[state.CHANNELS]):
            _dram(p, out, p.dram[channel], origin)
        return out[0]

    return compiled_entry("the states of streams of heads", about_s=7)(snapshot)


snapshot = _entry_point(version_of(__file__, at, state))
