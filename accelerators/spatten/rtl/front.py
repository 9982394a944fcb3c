"""Requests, key reading and reports, cycle by cycle, compiled: from a head's arrival to its scores.

A head passes the RTL branch point behind which its keys are fetched and read; it holds that point until its last key
line is multiplied, so that key phases never overlap. A head that needs the low bits comes back after its report.
SpAtten RTL, stages A to F. Knows nothing of how lines of keys come into the buffer.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.dram.commands import Integers
from cascadesim.accelerators.spatten.rtl import state as at
from cascadesim.accelerators.spatten.rtl.state import HeadPipeline, drop, filled, first, put, put_in_order

# SpAtten RTL (mit-han-lab/spatten, a0f1388), cycles, from its registers and FIFOs as described for stages A to F.
READABLE_CYCLES = 8  # response to first dot product that can see its lines: two ports, bank arbiter, memory, tag check
RETRY_CYCLES = 5  # a speculative read that found old data is issued again
FIRST_READ_CYCLES = 9  # branch point to the first dot product of a line that is there
INDEX_CYCLES = 2  # branch point to the first address line at the fetcher's arbiter: two registers
REPORT_CYCLES = 10  # last dot product to report, besides the tree over the lanes: broadcast, product, adder tree
AGAIN_CYCLES = 1  # report to the second pass at the branch point, whose own register comes on top
ORDER_CYCLES = 2  # the FIFO in which heads wait for those that come back; these pass it by
FREE_CYCLES = 3  # report to the release of key lines
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
