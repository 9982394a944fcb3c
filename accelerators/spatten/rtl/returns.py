"""The matrix fetcher from DRAM on, cycle by cycle: answers in, responses of whole buffer lines out. Compiled.

Each fetch channel takes answers in its order; a beat is formed when all have one, and regrouped into responses, which
two ports write to a buffer. SpAtten RTL, stages D and J of its description.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.dram.channel import pop
from cascadesim.accelerators.spatten.rtl.fetch import FIFO_CYCLES, TRANSACTION_SHIFT
from cascadesim.accelerators.spatten.rtl.queue import filled
from cascadesim.accelerators.spatten.rtl.state import (
    ACCEPTED,
    ACCEPTS,
    BEAT_AT,
    BEATS,
    BITS,
    CHANNELS,
    COMPLETE,
    CONSUMED,
    DATA,
    FETCH_CHANNELS,
    FORMED,
    GROUP_BITS,
    GROUPS,
    HEAD,
    HOLDING,
    KIND,
    LOADED,
    MULTIPLIERS,
    NEVER,
    OWNERS,
    OWNERS_AT,
    PADDING,
    RESPONSES,
    RETURNED,
    ROWS,
    SHARED,
    SLOTS,
    TAKEN_BEATS,
    TIME,
    TOOK,
    VALUE,
    VALUES_WRITTEN,
    Pipeline,
)

RESPONSE_CYCLES = 2  # a register, then the conversion of bit widths
TRANSACTION_BITS = 8 << TRANSACTION_SHIFT


@inlined
def returns(p: Pipeline) -> None:
    """Each fetch channel takes one answer, from the lowest DRAM channel that has one for it, or a slot of padding.

    A finished read leaves its controller a cycle before. Answers are paired with requests in the order of the requests,
    whatever order DRAM served them in.
    """
    for channel in range(p.sizes[CHANNELS]):
        port = p.fetch.crossbar[channel]
        if port[HOLDING] or pop(p.dram[channel], p.now[TIME] - 1) >= 0:
            taken = _accept(p, port[OWNERS_AT + (port[RETURNED] & (OWNERS - 1))], False)
            port[RETURNED] += taken
            port[HOLDING] = not taken
    if p.now[PADDING]:
        _take_padding(p)


@compiled
def _take_padding(p: Pipeline) -> None:
    for lane in range(p.sizes[FETCH_CHANNELS]):
        p.now[PADDING] -= _accept(p, lane, True)


@inlined
def _accept(p: Pipeline, lane: int, padding: bool) -> bool:
    """The next entry of a fetch channel's order becomes data, once a cycle, if it is of this kind and there is room."""
    fetch, now, one = p.fetch, p.now[TIME], p.fetch.lanes[lane]
    number = one[ACCEPTED]
    place = number & (ROWS - 1)
    if number == one[LOADED] or (fetch.address[place, lane] < 0) != padding:
        return False
    if padding and fetch.order[place, lane] > now:  # no answer comes before its entry
        return False
    if number - p.now[FORMED] == DATA or one[TOOK] == now:
        return False
    one[ACCEPTED], one[TOOK] = number + 1, now
    row = fetch.rows[place]
    row[ACCEPTS] += 1
    if row[ACCEPTS] == p.sizes[FETCH_CHANNELS]:
        row[COMPLETE] = now
    return True


@inlined
def beat(p: Pipeline) -> None:
    """All fetch channels have data: a beat moves to the register in front of the realigner."""
    now, row = p.now[TIME], p.fetch.rows[p.now[FORMED] & (ROWS - 1)]
    if row[COMPLETE] + FIFO_CYCLES > now or p.now[BEAT_AT] < NEVER or filled(p.granted) == p.now[CONSUMED]:
        return
    if p.now[TAKEN_BEATS] == p.jobs[p.granted.entries[p.now[CONSUMED], 0], BEATS]:
        return
    row[COMPLETE], row[ACCEPTS] = NEVER, 0
    p.now[FORMED] += 1
    p.now[BEAT_AT] = now + 1
    p.now[TAKEN_BEATS] += 1


@inlined
def regroup(p: Pipeline) -> None:
    """The realigner gives one group of bits a cycle, and takes the beat before it where that has room."""
    if filled(p.granted) == p.now[CONSUMED]:
        return
    job, held = p.granted.entries[p.now[CONSUMED], 0], p.now[BITS]
    group, bits = p.jobs[job, GROUP_BITS], TRANSACTION_BITS * p.sizes[FETCH_CHANNELS]
    if held >= group:
        p.now[BITS] -= group
        if p.now[GROUPS] < p.jobs[job, RESPONSES]:  # those beyond are padding
            _respond(p, job, p.now[GROUPS])
        p.now[GROUPS] += 1
    if p.now[BEAT_AT] <= p.now[TIME] and held <= _room(p, group, bits):
        p.now[BITS] += bits
        p.now[BEAT_AT] = NEVER
    ended = p.now[TAKEN_BEATS] == p.jobs[job, BEATS] and p.now[BEAT_AT] == NEVER
    if ended and p.now[BITS] < group and p.now[GROUPS] >= p.jobs[job, RESPONSES]:
        p.now[CONSUMED] += 1
        p.now[TAKEN_BEATS] = p.now[BITS] = p.now[GROUPS] = 0


@inlined
def _room(p: Pipeline, group: int, beat: int) -> int:
    """What the realigner may hold when a beat enters: it keeps two beats or two of the widest groups.

    A beat wider than any group waits for the last group of the one before; the RTL's times say so, not its description.
    """
    widest = 16 * p.sizes[MULTIPLIERS]
    return int(group if beat > widest else 2 * max(beat, widest) - beat)


@inlined
def _respond(p: Pipeline, job: int, number: int) -> None:
    """A response is two lines for two ports. Lines of one head are in two banks, those of a pair in the same one."""
    slot, kind, moment = p.jobs[job, HEAD] % SLOTS, p.jobs[job, KIND], p.now[TIME] + RESPONSE_CYCLES
    buffer, bank = int(kind == VALUE), number % 2
    one, other = max(moment, p.ports[buffer, 0]), max(moment, p.ports[buffer, 1])
    if p.jobs[job, SHARED] == 2:
        before = p.banks[buffer, bank]
        if one == other:  # the arbiter of the bank takes turns
            one, other = one + (before == 0), other + (before == 1)
        p.banks[buffer, bank] = one < other
    else:
        p.banks[buffer, 0], p.banks[buffer, 1] = 0, 1
    p.written[kind, 0, slot, number], p.written[kind, 1, slot, number] = one, other
    p.ports[buffer, 0], p.ports[buffer, 1] = one + 1, other + 1
    if kind == VALUE and number + 1 == p.jobs[job, RESPONSES]:
        p.now[VALUES_WRITTEN] = max(one, other)
