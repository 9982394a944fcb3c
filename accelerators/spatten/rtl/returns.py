"""The matrix fetcher from DRAM on, cycle by cycle: answers in, responses of whole buffer lines out. Compiled.

Each fetch channel takes answers in its order; a beat is formed when all have one, and regrouped into responses, which
two ports write to a buffer. SpAtten RTL, stages D and J of its description.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import inlined
from cascadesim.accelerators.dram.channel import pop
from cascadesim.accelerators.spatten.rtl import state as at
from cascadesim.accelerators.spatten.rtl.fetch import FIFO_CYCLES, TRANSACTION_SHIFT
from cascadesim.accelerators.spatten.rtl.state import HeadPipeline, filled

RESPONSE_CYCLES = 2  # a register, then the conversion of bit widths
TRANSACTION_BITS = 8 << TRANSACTION_SHIFT


@inlined
def receive(p: HeadPipeline) -> None:
    """Each fetch channel takes one answer, from the lowest DRAM channel that has one for it, or a slot of padding.

    A finished read leaves its controller a cycle before. Answers are paired with requests in the order of the requests,
    whatever order DRAM served them in.
    """
    for channel in range(p.sizes[at.CHANNELS]):
        port = p.fetch.crossbar[channel]
        if port[at.HOLDING] or pop(p.dram[channel], p.now[at.TIME] - 1) >= 0:
            taken = _accept(p, port[at.OWNERS_AT + (port[at.RETURNED] & (at.OWNERS - 1))], False)
            port[at.RETURNED] += taken
            port[at.HOLDING] = not taken
    if p.now[at.PADDING]:
        for lane in range(p.sizes[at.FETCH_CHANNELS]):
            p.now[at.PADDING] -= _accept(p, lane, True)


@inlined
def _accept(p: HeadPipeline, lane: int, padding: bool) -> bool:
    """The next entry of a fetch channel's order becomes data, once a cycle, if it is of this kind and there is room."""
    fetch, now, one = p.fetch, p.now[at.TIME], p.fetch.lanes[lane]
    number = one[at.ACCEPTED]
    place = number & (at.ROWS - 1)
    if number == one[at.LOADED] or (fetch.address[place, lane] < 0) != padding:
        return False
    if padding and fetch.order[place, lane] > now:  # no answer comes before its entry
        return False
    if number - p.now[at.FORMED] == at.DATA or one[at.TOOK] == now:
        return False
    one[at.ACCEPTED], one[at.TOOK] = number + 1, now
    row = fetch.rows[place]
    row[at.ACCEPTS] += 1
    if row[at.ACCEPTS] == p.sizes[at.FETCH_CHANNELS]:
        row[at.COMPLETE] = now
    return True


@inlined
def beat(p: HeadPipeline) -> None:
    """All fetch channels have data: a beat moves to the register in front of the realigner."""
    now, row = p.now[at.TIME], p.fetch.rows[p.now[at.FORMED] & (at.ROWS - 1)]
    if row[at.COMPLETE] + FIFO_CYCLES > now or p.now[at.BEAT_AT] < at.NEVER or filled(p.granted) == p.now[at.CONSUMED]:
        return
    if p.now[at.TAKEN_BEATS] == p.jobs[p.granted.entries[p.now[at.CONSUMED], 0], at.BEATS]:
        return
    row[at.COMPLETE], row[at.ACCEPTS] = at.NEVER, 0
    p.now[at.FORMED] += 1
    p.now[at.BEAT_AT] = now + 1
    p.now[at.TAKEN_BEATS] += 1


@inlined
def regroup(p: HeadPipeline) -> None:
    """The realigner gives one group of bits a cycle, and takes the beat before it where that has room.

    It keeps two beats or two of the widest groups. A beat wider than any group waits for the last group of the one
    before; the RTL's times say so, not its description.
    """
    if filled(p.granted) == p.now[at.CONSUMED]:
        return
    job, held = p.granted.entries[p.now[at.CONSUMED], 0], p.now[at.BITS]
    group, bits = p.jobs[job, at.GROUP_BITS], TRANSACTION_BITS * p.sizes[at.FETCH_CHANNELS]
    if held >= group:
        p.now[at.BITS] -= group
        if p.now[at.GROUPS] < p.jobs[job, at.RESPONSES]:  # those beyond are padding
            _respond(p, job, p.now[at.GROUPS])
        p.now[at.GROUPS] += 1
    widest = 16 * p.sizes[at.MULTIPLIERS]
    room = group if bits > widest else 2 * max(bits, widest) - bits  # what it may hold when a beat enters
    if p.now[at.BEAT_AT] <= p.now[at.TIME] and held <= room:
        p.now[at.BITS] += bits
        p.now[at.BEAT_AT] = at.NEVER
    ended = p.now[at.TAKEN_BEATS] == p.jobs[job, at.BEATS] and p.now[at.BEAT_AT] == at.NEVER
    if ended and p.now[at.BITS] < group and p.now[at.GROUPS] >= p.jobs[job, at.RESPONSES]:
        p.now[at.CONSUMED] += 1
        p.now[at.TAKEN_BEATS] = p.now[at.BITS] = p.now[at.GROUPS] = 0


@inlined
def _respond(p: HeadPipeline, job: int, number: int) -> None:
    """A response is two lines for two ports. Lines of one head are in two banks, those of a pair in the same one."""
    slot, kind, moment = p.jobs[job, at.HEAD] % at.SLOTS, p.jobs[job, at.KIND], p.now[at.TIME] + RESPONSE_CYCLES
    buffer, bank = int(kind == at.VALUE), number % 2
    one, other = max(moment, p.ports[buffer, 0]), max(moment, p.ports[buffer, 1])
    if p.jobs[job, at.SHARED] == 2:
        before = p.banks[buffer, bank]
        if one == other:  # the arbiter of the bank takes turns
            one, other = one + (before == 0), other + (before == 1)
        p.banks[buffer, bank] = one < other
    else:
        p.banks[buffer, 0], p.banks[buffer, 1] = 0, 1
    p.written[kind, 0, slot, number], p.written[kind, 1, slot, number] = one, other
    p.ports[buffer, 0], p.ports[buffer, 1] = one + 1, other + 1
    if kind == at.VALUE and number + 1 == p.jobs[job, at.RESPONSES]:
        p.now[at.VALUES_WRITTEN] = max(one, other)
