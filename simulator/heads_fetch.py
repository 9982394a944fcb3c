"""The matrix fetcher, cycle by cycle: lines of addresses in, responses of whole buffer lines out. Compiled.

Address lines pass an arbiter (locked for a whole job), are split into transactions, one per fetch channel; each fetch
channel asks DRAM in order and gets answers in order; a beat is formed when all have one, and regrouped into responses.
SpAtten RTL, stages D and J of its description.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.simulator.compilation import compiled
from cascadesim.simulator.dram_channel import pop, push, tick
from cascadesim.simulator.heads_queue import drop, filled, first, lowest, mark, put
from cascadesim.simulator.heads_state import (
    ADDRESSES,
    ANSWERS,
    BASE,
    BEATS,
    BITS,
    CHANNEL_BITS,
    CHANNELS,
    COLLECTED_LINES,
    CONSUMED,
    DATA,
    FETCH_CHANNELS,
    FULL_LANES,
    GROUP_BITS,
    GROUPS,
    HEAD,
    JOB,
    JOB_LINE,
    KIND,
    LANES,
    LANES_WITH_DATA,
    LAST_KIND,
    MARKS,
    MULTIPLIERS,
    ORDERS,
    OWNERS,
    PADDING,
    RESPONSES,
    SHARED,
    SLOTS,
    SUB_LINE,
    TAKEN_BEATS,
    TIME,
    TOTAL_READS,
    TRANSACTIONS,
    VALID,
    VALUE,
    VALUES_WRITTEN,
    VECTORS,
    Fetch,
    Pipeline,
)

FIFO_CYCLES = 2  # a FIFO of more than one place: pushed at t, popped at t + 2
ORDER_CYCLES = 3  # a register, then a FIFO
SPLIT_CYCLES = 2  # prepare and split, a register each
RESPONSE_CYCLES = 2  # a register, then the conversion of bit widths
TRANSACTION_BYTES = 32  # of HBM, one burst of a channel
TRANSACTION_BITS = 8 * TRANSACTION_BYTES


@compiled
def returns(p: Pipeline) -> None:
    """Each fetch channel takes one answer, from the lowest DRAM channel that has one for it, or a slot of padding.

    Answers are paired with requests in the order of the requests, whatever order DRAM served them in.
    """
    fetch = p.fetch
    if p.now[ANSWERS]:
        for channel in range(p.sizes[CHANNELS]):
            if 0 <= fetch.output[channel] <= p.now[TIME]:
                lane = fetch.owner[channel, fetch.asked[channel, 1] & (OWNERS - 1)]
                if _accept(p, lane, 0):
                    fetch.output[channel] = -1
                    fetch.asked[channel, 1] += 1
                    p.now[ANSWERS] -= 1
    if p.now[PADDING]:
        for lane in range(p.sizes[FETCH_CHANNELS]):
            p.now[PADDING] -= _accept(p, lane, 1)


@compiled
def _accept(p: Pipeline, lane: int, padding: int) -> bool:
    """The next entry of a fetch channel's order becomes data, once a cycle, if it is of this kind and there is room."""
    fetch, now = p.fetch, p.now[TIME]
    place = fetch.order_ends[lane, 0]
    if fetch.order_ends[lane, 1] == 0 or fetch.order[lane, place, 0] != padding or fetch.order[lane, place, 1] > now:
        return False
    count = fetch.data_ends[lane, 1]
    if count == DATA or fetch.taken[lane] == now:
        return False
    fetch.order_ends[lane, 0] = (place + 1) & (2 * ORDERS - 1)
    fetch.order_ends[lane, 1] -= 1
    fetch.data[lane, (fetch.data_ends[lane, 0] + count) & (DATA - 1)] = fetch.taken[lane] = now
    fetch.data_ends[lane, 1] = count + 1
    p.now[LANES_WITH_DATA] += count == 0
    return True


@compiled
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
    if filled(p.beats) and first(p.beats, 0) <= p.now[TIME] and held <= _room(p, group, bits):
        p.now[BITS] += bits
        drop(p.beats)
    ended = p.now[TAKEN_BEATS] == p.jobs[job, BEATS] and filled(p.beats) == 0
    if ended and p.now[BITS] < group and p.now[GROUPS] >= p.jobs[job, RESPONSES]:
        p.now[CONSUMED] += 1
        p.now[TAKEN_BEATS] = p.now[BITS] = p.now[GROUPS] = 0


@compiled
def _room(p: Pipeline, group: int, beat: int) -> int:
    """What the realigner may hold when a beat enters: it keeps two beats or two of the widest groups.

    A beat wider than any group waits for the last group of the one before; the RTL's times say so, not its description.
    """
    widest = 16 * p.sizes[MULTIPLIERS]
    return int(group if beat > widest else 2 * max(beat, widest) - beat)


@compiled
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


@compiled
def beat(p: Pipeline) -> None:
    """All fetch channels have data: a beat moves to the register in front of the realigner."""
    lanes = p.sizes[FETCH_CHANNELS]
    if p.now[LANES_WITH_DATA] < lanes or filled(p.beats) or filled(p.granted) == p.now[CONSUMED]:
        return
    fetch = p.fetch
    if p.now[TAKEN_BEATS] == p.jobs[p.granted.entries[p.now[CONSUMED], 0], BEATS]:
        return
    for lane in range(lanes):
        if fetch.data[lane, fetch.data_ends[lane, 0]] + FIFO_CYCLES > p.now[TIME]:
            return
    for lane in range(lanes):
        fetch.data_ends[lane, 0] = (fetch.data_ends[lane, 0] + 1) & (DATA - 1)
        fetch.data_ends[lane, 1] -= 1
        p.now[LANES_WITH_DATA] -= fetch.data_ends[lane, 1] == 0
    put(p.beats, p.now[TIME] + 1)
    p.now[TAKEN_BEATS] += 1


@compiled
def memory(p: Pipeline) -> None:
    """Crossbar and DRAM: per channel one request in, one finished read out, one tick.

    An arbiter prefers the lowest fetch channel, and keeps to a choice once made while the controller refuses.
    """
    fetch = p.fetch
    for channel in range(p.sizes[CHANNELS]):
        if fetch.chosen[channel] < 0:
            fetch.chosen[channel] = lowest(fetch.wanting[channel])
        if fetch.blocked[channel] < 0 and fetch.chosen[channel] >= 0:
            _ask(p, channel, fetch.chosen[channel])
        if fetch.blocked[channel] >= 0 and push(p.dram, channel, fetch.blocked[channel]):
            fetch.blocked[channel] = -1
        if fetch.output[channel] < 0 and pop(p.dram, channel) >= 0:
            fetch.output[channel] = p.now[TIME] + 1
            p.now[ANSWERS] += 1
        tick(p.dram, channel)


@compiled
def _ask(p: Pipeline, channel: int, lane: int) -> None:
    fetch = p.fetch
    fetch.blocked[channel] = (fetch.request[lane] >> (5 + p.sizes[CHANNEL_BITS])) << 5
    fetch.owner[channel, fetch.asked[channel, 0] & (OWNERS - 1)] = lane
    fetch.asked[channel, 0] += 1
    fetch.request[lane] = fetch.chosen[channel] = -1
    mark(fetch.wanting[channel], lane, False)
    _may_load(fetch, lane)
    p.now[TOTAL_READS] += 1


@compiled
def _may_load(fetch: Fetch, lane: int) -> None:
    """Whether a fetch channel has an address, and a place for its request; padding needs none."""
    front = fetch.address[lane, fetch.address_ends[lane, 0], 0]
    mark(fetch.loading, lane, fetch.address_ends[lane, 1] > 0 and (front < 0 or fetch.request[lane] < 0))


@compiled
def load(p: Pipeline) -> None:
    """Each fetch channel turns its next address into a request and an entry of its order; padding asks for nothing."""
    for word in range(len(p.fetch.loading)):
        lanes, lane = p.fetch.loading[word], word * MARKS
        while lanes:
            if lanes & 1:
                _load(p, lane)
            lanes >>= 1
            lane += 1


@compiled
def _load(p: Pipeline, lane: int) -> None:
    now, fetch, place = p.now[TIME], p.fetch, p.fetch.address_ends[lane, 0]
    if fetch.address[lane, place, 1] + FIFO_CYCLES > now or fetch.order_ends[lane, 1] > ORDERS:
        return
    address = fetch.address[lane, place, 0]
    if address >= 0:
        fetch.request[lane] = address
        mark(fetch.wanting[(address >> 5) & (p.sizes[CHANNELS] - 1)], lane, True)
    else:
        p.now[PADDING] += 1
    last = (fetch.order_ends[lane, 0] + fetch.order_ends[lane, 1]) & (2 * ORDERS - 1)
    fetch.order[lane, last, 0], fetch.order[lane, last, 1] = address < 0, now + ORDER_CYCLES
    fetch.order_ends[lane, 1] += 1
    p.now[FULL_LANES] -= fetch.address_ends[lane, 1] == ADDRESSES
    fetch.address_ends[lane, 0] = (place + 1) & (ADDRESSES - 1)
    fetch.address_ends[lane, 1] -= 1
    _may_load(fetch, lane)


@compiled
def split(p: Pipeline) -> None:
    """A line of vectors becomes one row of transactions a cycle, when every fetch channel has room for its own."""
    if filled(p.splitting) == 0 or p.now[FULL_LANES] or first(p.splitting, 2) + SPLIT_CYCLES > p.now[TIME]:
        return
    lanes, job, line = p.sizes[FETCH_CHANNELS], first(p.splitting, 0), first(p.splitting, 1)
    each, valid = p.jobs[job, TRANSACTIONS], min(lanes, p.jobs[job, VECTORS] - line * lanes)
    vector, part = divmod(p.now[SUB_LINE] * lanes, each)
    for lane in range(lanes):
        address = -1
        if vector < valid:
            key = p.gathered[line * lanes + _place(p, job, vector, valid)]
            address = p.jobs[job, BASE] + TRANSACTION_BYTES * (key * each + part)
        _enter(p, lane, address)
        part += 1
        if part == each:
            vector, part = vector + 1, 0
    p.now[SUB_LINE] += 1
    if p.now[SUB_LINE] == each:
        p.now[SUB_LINE] = 0
        drop(p.splitting)


@compiled
def _enter(p: Pipeline, lane: int, address: int) -> None:
    fetch = p.fetch
    last = (fetch.address_ends[lane, 0] + fetch.address_ends[lane, 1]) & (ADDRESSES - 1)
    fetch.address[lane, last, 0], fetch.address[lane, last, 1] = address, p.now[TIME]
    fetch.address_ends[lane, 1] += 1
    p.now[FULL_LANES] += fetch.address_ends[lane, 1] == ADDRESSES
    if fetch.address_ends[lane, 1] == 1:
        _may_load(fetch, lane)


@compiled
def _place(p: Pipeline, job: int, vector: int, valid: int) -> int:
    """Of a line of values, the first beat of indexes comes last, behind the others in their order."""
    if p.jobs[job, KIND] != VALUE:
        return vector
    lanes = p.sizes[LANES]
    beats = (valid + lanes - 1) // lanes
    return (vector // lanes + 1) % beats * lanes + vector % lanes


@compiled
def arbitrate(p: Pipeline) -> None:
    """Keys and values take turns at the fetcher, a whole job at a time; a line passes when it is complete."""
    if p.now[JOB] < 0:
        _grant(p)
    job, line = p.now[JOB], p.now[JOB_LINE]
    if job < 0 or filled(p.splitting) == 2 or not _complete(p, job, line):
        return
    put(p.splitting, job, line, p.now[TIME])
    if p.jobs[job, KIND] == VALUE:
        p.now[COLLECTED_LINES] -= 1
    p.now[JOB_LINE] += 1
    if p.now[JOB_LINE] * p.sizes[FETCH_CHANNELS] >= p.jobs[job, VECTORS]:
        p.now[JOB] = -1


@compiled
def _grant(p: Pipeline) -> None:
    keys = filled(p.key_jobs) > 0 and _complete(p, first(p.key_jobs, 0), 0)
    values = filled(p.value_jobs) > 0 and _complete(p, first(p.value_jobs, 0), 0)
    queue = p.key_jobs if keys and (not values or p.now[LAST_KIND] == VALUE) else p.value_jobs
    if keys or values:
        p.now[JOB], p.now[JOB_LINE] = first(queue, 0), 0
        p.now[LAST_KIND] = p.jobs[p.now[JOB], KIND]
        put(p.granted, p.now[JOB])
        drop(queue)


@compiled
def _complete(p: Pipeline, job: int, line: int) -> bool:
    """Keys are read from the score buffer, a line a cycle; lines of values are collected from probabilities."""
    if p.jobs[job, KIND] != VALUE:
        return bool(p.jobs[job, VALID] + line <= p.now[TIME])
    slot = p.jobs[job, HEAD] % SLOTS
    return bool(line < p.value_line_count[slot] and p.value_lines[slot, line] <= p.now[TIME])
