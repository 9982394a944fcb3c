"""Heads through the pipeline, cycle by cycle, compiled: from arrival to scores, from scores to the result.

A head passes the RTL branch point behind which its keys are fetched and read; it holds that point until its last key
line is multiplied, so that key phases never overlap. A head that needs the low bits comes back after its report.
Scores wait for heads before them, pass the top-k engine (as many cycles as the row says), and ask for values a line of
indexes at a time; each beat of probabilities then meets its line of values. SpAtten RTL, stages A to K but for the
fetcher (`fetch`). Knows nothing of how lines come into the buffers.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.dram.commands import Integers
from cascadesim.accelerators.spatten.rtl import state as at
from cascadesim.accelerators.spatten.rtl.state import HeadPipeline, drop, filled, first, put, put_in_order

# SpAtten RTL (mit-han-lab/spatten, a0f1388), cycles, from its registers and FIFOs as described for stages A to K.
READABLE_CYCLES = 8  # response to first dot product that can see its lines: two ports, bank arbiter, memory, tag check
RETRY_CYCLES = 5  # a speculative read that found old data is issued again
FIRST_READ_CYCLES = 9  # branch point to the first dot product of a line that is there
INDEX_CYCLES = 2  # branch point to the first address line at the fetcher's arbiter: two registers
REPORT_CYCLES = 10  # last dot product to report, besides the tree over the lanes: broadcast, product, adder tree
AGAIN_CYCLES = 1  # report to the second pass at the branch point, whose own register comes on top
ORDER_CYCLES = 2  # the FIFO in which heads wait for those that come back; these pass it by
FREE_CYCLES = 3  # report to the release of key lines
# report to the first beat at the values' branch point where nothing is selected: order buffer, rebatch, reload
PASS_CYCLES = 7
SELECT_CYCLES = 9  # report to the first beat in front of the top-k engine: as above, and its FIFO
LINE_CYCLES = 2  # last beat of an address line to the fetcher's arbiter: two registers
QUEUE_CYCLES = 2  # FIFO of the probabilities
RESULT_CYCLES = 3  # last product to result, besides the tree over the lanes: broadcast, multiply, accumulate to output
LOW_PLANE_BITS = 4
NOBODY, NEW, RETURNED = range(3)  # whom the arbiter in front of the branch point has chosen


@inlined
def lines(p: HeadPipeline, count: int) -> int:
    """Buffer lines that hold `count` vectors; two are written at a time, so an even number."""
    whole = (count + p.sizes[at.VECTORS_PER_LINE] - 1) // p.sizes[at.VECTORS_PER_LINE]
    return int(2 * ((whole + 1) // 2))


@inlined
def ready(written: Integers, slot: int, line: int, part: int) -> int:
    """When a line can be read: two lines of one head, or one of each of a pair, come with one response.

    `written` has, for each port, slot and response, when its line is in the buffer.
    """
    if part == at.WHOLE:
        return written[line % 2, slot, line // 2] + READABLE_CYCLES
    return written[part, slot, line] + READABLE_CYCLES


@inlined
def read(p: HeadPipeline) -> None:
    """Speculative reads: a line a cycle while data is there, otherwise the same line again every RETRY_CYCLES."""
    head, now = p.now[at.BRANCHING], p.now[at.TIME]
    if head < 0 or now < p.now[at.READ_TRY]:
        return
    part, low = p.heads[head, at.KEY_PART], p.now[at.BRANCHING_LOW] == 1
    owner = head if part <= 0 else head - 1
    line = p.now[at.READ_LINE]
    slot, shared = (head, at.WHOLE) if low else (owner, part)
    if ready(p.written[at.LOW if low else at.KEY], slot % at.SLOTS, line, shared) > now:
        p.now[at.READ_TRY] = now + RETRY_CYCLES
        return
    p.now[at.READ_LINE] += 1
    p.now[at.READ_TRY] = now + 1
    p.now[at.LINES_DONE] += 1
    if p.now[at.READ_LINE] == p.now[at.READ_LINES]:
        put(p.reports, head, low, now + REPORT_CYCLES + p.sizes[at.LANE_BITS] + p.sizes[at.SOFTMAX])
        if low:
            p.written[at.LOW, :, head % at.SLOTS] = at.NEVER
        elif part != 0:
            p.written[at.KEY, :, owner % at.SLOTS] = at.NEVER
        p.now[at.BRANCHING] = -1


@inlined
def report(p: HeadPipeline) -> None:
    """A head's largest score is known: it comes back for its low bits, or its scores go on, a beat a cycle."""
    now = p.now[at.TIME]
    if filled(p.reports) == 0 or now < first(p.reports, 2) or now <= p.now[at.SCORES_GONE]:
        return
    head, low = first(p.reports, 0), first(p.reports, 1)
    drop(p.reports)
    p.times[head, at.SECOND_REPORT if low else at.REPORT] = now
    p.now[at.SCORES_GONE] = now + (p.heads[head, at.KEYS] + p.sizes[at.LANES] - 1) // p.sizes[at.LANES]
    if p.heads[head, at.LOW_BITS] and not low:
        put(p.again, head, now + AGAIN_CYCLES)
        p.now[at.LOW_ASKED] += 1
        return
    p.times[head, at.LINES] = p.now[at.LINES_DONE]
    if low:
        p.now[at.LOW_DONE] += 1
        put_in_order(p.scored, head, now - ORDER_CYCLES, 0)
    else:
        put(p.scored, head, now, p.now[at.LOW_ASKED])
    if p.heads[head, at.KEY_PART] != 0:
        put(p.frees, _size(p, head), now + FREE_CYCLES)


@compiled
def _size(p: HeadPipeline, head: int) -> int:
    """Key-buffer lines of a head, or of both heads of a pair."""
    return lines(p, p.heads[head, at.KEYS]) * (1 if p.heads[head, at.KEY_PART] == at.WHOLE else 2)


@inlined
def branch(p: HeadPipeline) -> None:
    """The next head, or one that comes back, starts to fetch and to read."""
    if filled(p.frees) and first(p.frees, 1) <= p.now[at.TIME]:
        p.now[at.OCCUPIED] -= first(p.frees, 0)
        drop(p.frees)
    if p.now[at.CHOSEN] == NOBODY:  # the arbiter prefers heads that come back, and keeps to a choice once made
        if filled(p.again) and first(p.again, 1) <= p.now[at.TIME]:
            p.now[at.CHOSEN] = RETURNED
        elif p.now[at.WAITING] >= 0 and p.now[at.WAITING_TIME] <= p.now[at.TIME]:
            p.now[at.CHOSEN] = NEW
    if p.now[at.BRANCHING] >= 0 or p.now[at.CHOSEN] == NOBODY:
        return
    p.now[at.BRANCHING_LOW] = p.now[at.CHOSEN] == RETURNED
    if p.now[at.CHOSEN] == RETURNED:
        p.now[at.BRANCHING] = first(p.again, 0)
        drop(p.again)
    else:
        p.now[at.BRANCHING], p.now[at.WAITING] = p.now[at.WAITING], -1
    p.now[at.CHOSEN] = NOBODY
    p.now[at.READ_LINE] = 0
    p.now[at.READ_TRY] = p.now[at.TIME] + 1 + FIRST_READ_CYCLES
    head = p.now[at.BRANCHING]
    p.now[at.READ_LINES] = lines(p, p.heads[head, at.KEYS])
    if p.now[at.BRANCHING_LOW]:
        job(p, at.LOW, head, p.heads[head, at.KEYS], LOW_PLANE_BITS, 1, p.heads[head, at.LOW_BASE])
    elif p.heads[head, at.KEY_PART] <= 0:
        shared = 1 if p.heads[head, at.KEY_PART] == at.WHOLE else 2
        job(p, at.KEY, head, p.heads[head, at.KEYS], p.heads[head, at.KEY_BITS], shared, p.heads[head, at.KEY_BASE])


@compiled
def job(p: HeadPipeline, kind: int, head: int, vectors: int, bits: int, shared: int, base: int) -> int:
    """Fetch `vectors` of `bits` bits an element, for one head or for a pair that shares them."""
    number = p.now[at.JOBS]
    p.now[at.JOBS] += 1
    entry, per_response = p.jobs[number], 2 * p.sizes[at.VECTORS_PER_LINE]
    entry[at.KIND], entry[at.HEAD], entry[at.VECTORS], entry[at.BASE] = kind, head, vectors, base
    entry[at.TRANSACTIONS] = bits * shared // 4  # of 32 bytes for each vector of 64 elements
    entry[at.RESPONSES] = (vectors * shared + per_response - 1) // per_response
    entry[at.GROUP_BITS] = 2 * bits * p.sizes[at.MULTIPLIERS]
    entry[at.BEATS] = (vectors + p.sizes[at.FETCH_CHANNELS] - 1) // p.sizes[at.FETCH_CHANNELS] * entry[at.TRANSACTIONS]
    entry[at.VALID], entry[at.SHARED] = p.now[at.TIME] + 1 + INDEX_CYCLES, shared
    if kind <= at.LOW:
        put(p.key_jobs, number)
    else:
        put(p.value_jobs, number)
    return int(number)


@inlined
def accept(p: HeadPipeline) -> None:
    """The next head of the stream, if nobody waits at the branch point and its keys have room in the buffer.

    Heads come back to back, or alone, when the gap after the last result is over.
    """
    head = p.now[at.NEXT]
    if p.now[at.WAITING] >= 0 or head >= len(p.heads):
        return
    if p.sizes[at.GAP] >= 0 and p.heads[head, at.KEY_PART] <= 0 and head > 0:  # alone, or both heads of a pair together
        if p.now[at.DONE_HEADS] < head:
            return
        p.now[at.QUIET_UNTIL] = p.now[at.LAST_DONE] + p.sizes[at.GAP]
        if p.now[at.TIME] < p.now[at.QUIET_UNTIL]:
            return
    size = _size(p, head) if p.heads[head, at.KEY_PART] <= 0 else 0
    if p.now[at.OCCUPIED] + size > p.sizes[at.BUFFER_LINES]:
        return
    p.now[at.OCCUPIED] += size
    p.now[at.WAITING], p.now[at.WAITING_TIME] = head, p.now[at.TIME] + 1
    p.times[head, at.ACCEPT] = p.now[at.TIME] - 1
    p.now[at.NEXT] += 1


@inlined
def multiply(p: HeadPipeline) -> None:
    """A line of values and its beat of probabilities, one a cycle; a head's last line gives its result.

    Where a beat has fewer probabilities than a line has vectors, which the RTL does not elaborate, a line waits for
    all its beats, one a cycle.
    """
    p.now[at.QUEUED] = filled(p.products)
    if p.now[at.MULTIPLYING] < 0 and filled(p.reads):
        p.now[at.MULTIPLYING], p.now[at.VALUE_LINE], p.now[at.BEATS_MET] = first(p.reads, 0), 0, 0
        values = p.heads[first(p.reads, 0), at.VALUES]
        p.now[at.VALUE_BEATS], p.now[at.VALUE_LINES] = _beats(p, values), lines(p, values)
        p.now[at.VALUE_TRY] = max(first(p.reads, 1) + FIRST_READ_CYCLES, p.now[at.TIME])
        drop(p.reads)
    head, now = p.now[at.MULTIPLYING], p.now[at.TIME]
    if head < 0 or now < p.now[at.VALUE_TRY]:
        return
    part, line = p.heads[head, at.VALUE_PART], p.now[at.VALUE_LINE]
    owner = head if part <= 0 else head - 1
    if ready(p.written[at.VALUE], owner % at.SLOTS, line, part) > now:
        p.now[at.VALUE_TRY] = now + RETRY_CYCLES
        return
    needed = min(_beats(p, (line + 1) * p.sizes[at.VECTORS_PER_LINE]), p.now[at.VALUE_BEATS])
    if p.now[at.BEATS_MET] < needed:
        if filled(p.products) == 0 or first(p.products, 0) + QUEUE_CYCLES > now:
            return
        drop(p.products)
        p.now[at.BEATS_MET] += 1
    p.now[at.VALUE_TRY] = now + 1
    if p.now[at.BEATS_MET] < needed:
        return
    p.now[at.VALUE_LINE] += 1
    if p.now[at.VALUE_LINE] == p.now[at.VALUE_LINES]:
        _finish(p, head, owner)


@inlined
def _beats(p: HeadPipeline, count: int) -> int:
    return int((count + p.sizes[at.LANES] - 1) // p.sizes[at.LANES])


@compiled
def _finish(p: HeadPipeline, head: int, owner: int) -> None:
    p.times[head, at.DONE] = p.now[at.LAST_DONE] = p.now[at.TIME] + RESULT_CYCLES + p.sizes[at.LANE_BITS]
    p.times[head, at.READS] = p.now[at.TOTAL_READS]
    p.now[at.DONE_HEADS] += 1
    p.now[at.MULTIPLYING] = -1
    if p.heads[head, at.VALUE_PART] != 0:
        p.written[at.VALUE, :, owner % at.SLOTS] = at.NEVER


@inlined
def select(p: HeadPipeline) -> None:
    """The next head whose turn it is leaves the order buffer, through the top-k engine where it keeps fewer values."""
    if p.now[at.STREAMING] >= 0 or filled(p.scored) == 0 or first(p.scored, 2) > p.now[at.LOW_DONE]:
        return
    head, reported = first(p.scored, 0), first(p.scored, 1)
    drop(p.scored)
    p.now[at.STREAMING], p.now[at.STREAM_BEAT], p.now[at.STREAM_BEATS] = head, 0, _beats(p, p.heads[head, at.VALUES])
    if p.heads[head, at.SELECTION] == at.UNUSED:
        p.now[at.STREAM_TIME] = max(reported + PASS_CYCLES, p.now[at.TIME])
    else:
        p.now[at.STREAM_TIME] = max(reported + SELECT_CYCLES, p.now[at.SELECTOR_FREE] + 1) + p.heads[head, at.SELECTION]


@inlined
def stream(p: HeadPipeline) -> None:
    """A beat of probabilities: into the queue of the product, and into the address line it completes."""
    head, now = p.now[at.STREAMING], p.now[at.TIME]
    if head < 0 or now < p.now[at.STREAM_TIME] or p.now[at.QUEUED] >= p.sizes[at.QUEUE_BEATS]:
        return
    fetches, begins = p.heads[head, at.VALUE_PART] <= 0, p.now[at.STREAM_BEAT] == 0
    if begins and (filled(p.reads) or (fetches and now < p.now[at.VALUES_WRITTEN])):
        return  # one batch at a time is written to the value buffer, and one waits to be read
    last = p.now[at.STREAM_BEAT] + 1 == p.now[at.STREAM_BEATS]
    completes = last or p.now[at.COLLECTED] + 1 == p.sizes[at.BEATS_PER_LINE]
    if fetches and completes and p.now[at.COLLECTED_LINES]:
        return  # one line waits for the fetcher; another is not completed before it has left
    put(p.products, now)
    if begins:
        _begin(p, head, fetches)
    p.now[at.STREAM_BEAT] += 1
    p.now[at.STREAM_TIME] = now + 1
    if fetches:
        p.now[at.COLLECTED] += 1
    if fetches and completes:
        p.now[at.COLLECTED] = 0
        slot = head % at.SLOTS
        p.value_lines[slot, p.value_line_count[slot]] = now + LINE_CYCLES
        p.value_line_count[slot] += 1
        p.now[at.COLLECTED_LINES] += 1
    if last:
        _end(p, head)


@compiled
def _begin(p: HeadPipeline, head: int, fetches: bool) -> None:
    put(p.reads, head, p.now[at.TIME])
    if fetches:
        one = p.heads[head]
        p.now[at.VALUES_WRITTEN] = at.NEVER
        p.value_line_count[head % at.SLOTS] = 0
        shared = 1 if one[at.VALUE_PART] == at.WHOLE else 2
        job(p, at.VALUE, head, one[at.VALUES], one[at.VALUE_BITS], shared, one[at.VALUE_BASE])


@compiled
def _end(p: HeadPipeline, head: int) -> None:
    """Beats that are not kept leave the engine one a cycle; where all are kept, the scores left with this beat."""
    kept, every = _beats(p, p.heads[head, at.VALUES]), _beats(p, p.heads[head, at.KEYS])
    if p.heads[head, at.SELECTION] != at.UNUSED:
        p.now[at.SELECTOR_FREE] = p.now[at.TIME] + every - kept
    else:
        p.now[at.SCORES_GONE] = max(p.now[at.SCORES_GONE], p.now[at.TIME] - PASS_CYCLES + 1)
    p.now[at.STREAMING] = -1
