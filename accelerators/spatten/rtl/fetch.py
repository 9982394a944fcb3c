"""The matrix fetcher, cycle by cycle, compiled: address lines to requests, answers to whole buffer lines.

Address lines pass an arbiter (locked for a whole job) and are split into rows of transactions, one per fetch channel;
each fetch channel asks DRAM in order, through a crossbar, and takes answers in that order. A beat is formed when all
channels have one, and regrouped into responses, which two ports write to a buffer. SpAtten RTL, stages D and J.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined, lowest_bit
from cascadesim.accelerators.dram.channel import pop, push, tick
from cascadesim.accelerators.spatten.rtl import state as at
from cascadesim.accelerators.spatten.rtl.state import HeadPipeline, drop, exclude, filled, first, include, lowest, put

FIFO_CYCLES = 2  # a FIFO of more than one place: pushed at t, popped at t + 2
ORDER_CYCLES = 3  # a register, then a FIFO
SPLIT_CYCLES = 2  # prepare and split, a register each
TRANSACTION_SHIFT = 5  # 32 bytes of HBM, one burst of a channel
RESPONSE_CYCLES = 2  # a register, then the conversion of bit widths
TRANSACTION_BITS = 8 << TRANSACTION_SHIFT


@inlined
def memory(p: HeadPipeline) -> None:
    """Crossbar and DRAM: per channel one request in, one tick.

    An arbiter prefers the lowest fetch channel, and keeps to a choice once made while the controller refuses.
    """
    now = p.now[at.TIME]
    for channel in range(p.sizes[at.CHANNELS]):
        port, dram = p.fetch.crossbar[channel], p.dram[channel]
        if port[at.CHOSEN_LANE] < 0:
            port[at.CHOSEN_LANE] = lowest(p.fetch.wanting[channel])
        if port[at.BLOCKED] < 0 and port[at.CHOSEN_LANE] >= 0:
            lane = port[at.CHOSEN_LANE]
            one = p.fetch.lanes[lane]
            port[at.BLOCKED], port[at.CHOSEN_LANE] = one[at.REQUEST], -1
            port[at.OWNERS_AT + (port[at.ASKED] & (at.OWNERS - 1))] = lane
            port[at.ASKED] += 1
            one[at.REQUEST] = -1
            exclude(p.fetch.wanting[channel], lane)
            if one[at.LOADED] < p.now[at.ENTERED]:
                include(p.fetch.loading, lane)
            p.now[at.TOTAL_READS] += 1
        if port[at.BLOCKED] >= 0 and push(dram, port[at.BLOCKED], now):
            port[at.BLOCKED] = -1
        tick(dram, now)


@inlined
def load(p: HeadPipeline) -> None:
    """Each fetch channel turns its next address into a request and an entry of its order; padding asks for nothing."""
    for word in range(len(p.fetch.loading)):
        lanes = p.fetch.loading[word]
        while lanes:
            _load(p, word * at.SET_BITS + lowest_bit(lanes))
            lanes &= lanes - 1


@inlined
def _load(p: HeadPipeline, lane: int) -> None:
    fetch, now, one = p.fetch, p.now[at.TIME], p.fetch.lanes[lane]
    place = one[at.LOADED] & (at.ROWS - 1)
    row = fetch.rows[place]
    if row[at.ENTRY] + FIFO_CYCLES > now or one[at.LOADED] - one[at.ACCEPTED] > at.ORDERS:
        return
    address = fetch.address[place, lane]
    if address >= 0:
        number = address >> TRANSACTION_SHIFT
        one[at.REQUEST] = number >> p.sizes[at.CHANNEL_BITS] << TRANSACTION_SHIFT
        include(fetch.wanting[number & (p.sizes[at.CHANNELS] - 1)], lane)
    else:
        p.now[at.PADDING] += 1
        fetch.order[place, lane] = now + ORDER_CYCLES
    one[at.LOADED] += 1
    row[at.LOADS] += 1
    if row[at.LOADS] == p.sizes[at.FETCH_CHANNELS]:
        p.now[at.LOADED_ROWS] += 1
    if not _may_load(p, lane):
        exclude(fetch.loading, lane)


@inlined
def _may_load(p: HeadPipeline, lane: int) -> bool:
    """Whether a fetch channel has an address, and a place for its request; padding needs none."""
    one = p.fetch.lanes[lane]
    if one[at.LOADED] == p.now[at.ENTERED]:
        return False
    return one[at.REQUEST] < 0 or p.fetch.address[one[at.LOADED] & (at.ROWS - 1), lane] < 0


@inlined
def split(p: HeadPipeline) -> None:
    """A line of vectors becomes one row of transactions a cycle, when every fetch channel has room for its own.

    Of a line of values, the first beat of indexes comes last: places move on by a beat, around the line's beats.
    """
    if filled(p.splitting) == 0 or p.now[at.ENTERED] - p.now[at.LOADED_ROWS] == at.ADDRESSES:
        return
    if first(p.splitting, 2) + SPLIT_CYCLES > p.now[at.TIME]:
        return
    job, line = first(p.splitting, 0), first(p.splitting, 1)
    lanes, each, base = p.sizes[at.FETCH_CHANNELS], p.jobs[job, at.TRANSACTIONS], p.jobs[job, at.BASE]
    valid, start = min(lanes, p.jobs[job, at.VECTORS] - line * lanes), line * lanes
    ahead, around = 0, valid
    if p.jobs[job, at.KIND] == at.VALUE:
        ahead = p.sizes[at.LANES]
        around = (valid + ahead - 1) // ahead * ahead
    vector, part = p.now[at.SPLIT_VECTOR], p.now[at.SPLIT_PART]
    addresses = p.fetch.address[p.now[at.ENTERED] & (at.ROWS - 1)]
    for lane in range(lanes):
        addresses[lane] = -1
        if vector < valid:
            place = vector + ahead
            key = p.gathered[start + (place if place < around else place - around)]
            addresses[lane] = base + ((key * each + part) << TRANSACTION_SHIFT)
        part += 1
        if part == each:
            vector, part = vector + 1, 0
    p.now[at.SPLIT_VECTOR], p.now[at.SPLIT_PART] = vector, part
    number = p.now[at.ENTERED]  # one more row in front of all fetch channels; those that waited for it may load
    row = p.fetch.rows[number & (at.ROWS - 1)]
    row[at.ENTRY], row[at.LOADS] = p.now[at.TIME], 0
    p.now[at.ENTERED] += 1
    for lane in range(lanes):
        if p.fetch.lanes[lane, at.LOADED] == number and _may_load(p, lane):
            include(p.fetch.loading, lane)
    p.now[at.SPLIT_ROW] += 1
    if p.now[at.SPLIT_ROW] == each:
        p.now[at.SPLIT_ROW] = p.now[at.SPLIT_VECTOR] = p.now[at.SPLIT_PART] = 0
        drop(p.splitting)


@inlined
def arbitrate(p: HeadPipeline) -> None:
    """Keys and values take turns at the fetcher, a whole job at a time; a line passes when it is complete."""
    if p.now[at.JOB] < 0:
        _grant(p)
    job, line = p.now[at.JOB], p.now[at.JOB_LINE]
    if job < 0 or filled(p.splitting) == 2 or not _complete(p, job, line):
        return
    put(p.splitting, job, line, p.now[at.TIME])
    if p.jobs[job, at.KIND] == at.VALUE:
        p.now[at.COLLECTED_LINES] -= 1
    p.now[at.JOB_LINE] += 1
    if p.now[at.JOB_LINE] * p.sizes[at.FETCH_CHANNELS] >= p.jobs[job, at.VECTORS]:
        p.now[at.JOB] = -1


@compiled
def _grant(p: HeadPipeline) -> None:
    keys = filled(p.key_jobs) > 0 and _complete(p, first(p.key_jobs, 0), 0)
    values = filled(p.value_jobs) > 0 and _complete(p, first(p.value_jobs, 0), 0)
    queue = p.key_jobs if keys and (not values or p.now[at.LAST_KIND] == at.VALUE) else p.value_jobs
    if keys or values:
        p.now[at.JOB], p.now[at.JOB_LINE] = first(queue, 0), 0
        p.now[at.LAST_KIND] = p.jobs[p.now[at.JOB], at.KIND]
        put(p.granted, p.now[at.JOB])
        drop(queue)


@inlined
def _complete(p: HeadPipeline, job: int, line: int) -> bool:
    """Keys are read from the score buffer, a line a cycle; lines of values are collected from probabilities."""
    if p.jobs[job, at.KIND] != at.VALUE:
        return bool(p.jobs[job, at.VALID] + line <= p.now[at.TIME])
    slot = p.jobs[job, at.HEAD] % at.SLOTS
    return bool(line < p.value_line_count[slot] and p.value_lines[slot, line] <= p.now[at.TIME])


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
