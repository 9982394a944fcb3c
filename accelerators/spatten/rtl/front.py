"""Requests, key reading and reports, cycle by cycle, compiled: from a head's arrival to its scores.

A head passes a fork whose branches fetch and read its keys; it holds the fork until its last key line is multiplied, so
that key phases never overlap. A head that needs the low bits comes back after its report. SpAtten RTL, stages A to F.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.dram.commands import Integers
from cascadesim.accelerators.spatten.rtl.queue import drop, filled, first, put, put_in_order
from cascadesim.accelerators.spatten.rtl.state import (
    ACCEPT,
    BASE,
    BEATS,
    BUFFER_LINES,
    CHOSEN,
    DONE_HEADS,
    FETCH_CHANNELS,
    FORKED,
    FORKED_LOW,
    GAP,
    GROUP_BITS,
    HEAD,
    JOBS,
    KEY,
    KEY_BASE,
    KEY_BITS,
    KEY_PART,
    KEYS,
    KIND,
    LANE_BITS,
    LANES,
    LAST_DONE,
    LINES,
    LINES_DONE,
    LOW,
    LOW_ASKED,
    LOW_BASE,
    LOW_BITS,
    LOW_DONE,
    MULTIPLIERS,
    NEVER,
    NEXT,
    OCCUPIED,
    QUIET_UNTIL,
    READ_LINE,
    READ_LINES,
    READ_TRY,
    REPORT,
    RESPONSES,
    SCORES_GONE,
    SECOND_REPORT,
    SHARED,
    SLOTS,
    SOFTMAX,
    TIME,
    TRANSACTIONS,
    VALID,
    VECTORS,
    VECTORS_PER_LINE,
    WAITING,
    WAITING_TIME,
    WHOLE,
    Pipeline,
)

# SpAtten RTL (mit-han-lab/spatten, a0f1388), cycles, from its registers and FIFOs as described for stages A to F.
READABLE_CYCLES = 8  # response to first dot product that can see its lines: two ports, bank arbiter, memory, tag check
RETRY_CYCLES = 5  # a speculative read that found old data is issued again
FIRST_READ_CYCLES = 9  # fork to the first dot product of a line that is there
INDEX_CYCLES = 2  # fork to the first address line at the fetcher's arbiter: two registers
REPORT_CYCLES = 10  # last dot product to report, besides the tree over the lanes: broadcast, product, adder tree
AGAIN_CYCLES = 1  # report to the second pass at the fork, whose own register comes on top
ORDER_CYCLES = 2  # the FIFO in which heads wait for those that come back; these pass it by
FREE_CYCLES = 3  # report to the release of key lines
LOW_PLANE_BITS = 4
NOBODY, NEW, RETURNED = range(3)  # whom the arbiter in front of the fork has chosen


@inlined
def lines(p: Pipeline, count: int) -> int:
    """Buffer lines that hold `count` vectors; two are written at a time, so an even number."""
    whole = (count + p.sizes[VECTORS_PER_LINE] - 1) // p.sizes[VECTORS_PER_LINE]
    return int(2 * ((whole + 1) // 2))


@inlined
def ready(written: Integers, slot: int, line: int, part: int) -> int:
    """When a line can be read: two lines of one head, or one of each of a pair, come with one response.

    `written` has, for each port, slot and response, when its line is in the buffer.
    """
    if part == WHOLE:
        return written[line % 2, slot, line // 2] + READABLE_CYCLES
    return written[part, slot, line] + READABLE_CYCLES


@inlined
def read(p: Pipeline) -> None:
    """Speculative reads: a line a cycle while data is there, otherwise the same line again every RETRY_CYCLES."""
    head, now = p.now[FORKED], p.now[TIME]
    if head < 0 or now < p.now[READ_TRY]:
        return
    part, low = p.heads[head, KEY_PART], p.now[FORKED_LOW] == 1
    owner = head if part <= 0 else head - 1
    line = p.now[READ_LINE]
    slot, shared = (head, WHOLE) if low else (owner, part)
    if ready(p.written[LOW if low else KEY], slot % SLOTS, line, shared) > now:
        p.now[READ_TRY] = now + RETRY_CYCLES
        return
    p.now[READ_LINE] += 1
    p.now[READ_TRY] = now + 1
    p.now[LINES_DONE] += 1
    if p.now[READ_LINE] == p.now[READ_LINES]:
        put(p.reports, head, low, now + REPORT_CYCLES + p.sizes[LANE_BITS] + p.sizes[SOFTMAX])
        if low:
            p.written[LOW, :, head % SLOTS] = NEVER
        elif part != 0:
            p.written[KEY, :, owner % SLOTS] = NEVER
        p.now[FORKED] = -1


@inlined
def report(p: Pipeline) -> None:
    """A head's largest score is known: it comes back for its low bits, or its scores go on, a beat a cycle."""
    now = p.now[TIME]
    if filled(p.reports) == 0 or now < first(p.reports, 2) or now <= p.now[SCORES_GONE]:
        return
    head, low = first(p.reports, 0), first(p.reports, 1)
    drop(p.reports)
    p.times[head, SECOND_REPORT if low else REPORT] = now
    p.now[SCORES_GONE] = now + (p.heads[head, KEYS] + p.sizes[LANES] - 1) // p.sizes[LANES]
    if p.heads[head, LOW_BITS] and not low:
        put(p.again, head, now + AGAIN_CYCLES)
        p.now[LOW_ASKED] += 1
        return
    p.times[head, LINES] = p.now[LINES_DONE]
    if low:
        p.now[LOW_DONE] += 1
        put_in_order(p.scored, head, now - ORDER_CYCLES, 0)
    else:
        put(p.scored, head, now, p.now[LOW_ASKED])
    if p.heads[head, KEY_PART] != 0:
        put(p.frees, _size(p, head), now + FREE_CYCLES)


@compiled
def _size(p: Pipeline, head: int) -> int:
    """Key-buffer lines of a head, or of both heads of a pair."""
    return lines(p, p.heads[head, KEYS]) * (1 if p.heads[head, KEY_PART] == WHOLE else 2)


@inlined
def fork(p: Pipeline) -> None:
    """The next head, or one that comes back, starts to fetch and to read."""
    if filled(p.frees) and first(p.frees, 1) <= p.now[TIME]:
        p.now[OCCUPIED] -= first(p.frees, 0)
        drop(p.frees)
    if p.now[CHOSEN] == NOBODY:
        p.now[CHOSEN] = _choice(p)
    if p.now[FORKED] >= 0 or p.now[CHOSEN] == NOBODY:
        return
    p.now[FORKED_LOW] = p.now[CHOSEN] == RETURNED
    if p.now[CHOSEN] == RETURNED:
        p.now[FORKED] = first(p.again, 0)
        drop(p.again)
    else:
        p.now[FORKED], p.now[WAITING] = p.now[WAITING], -1
    p.now[CHOSEN] = NOBODY
    p.now[READ_LINE] = 0
    p.now[READ_TRY] = p.now[TIME] + 1 + FIRST_READ_CYCLES
    head = p.now[FORKED]
    p.now[READ_LINES] = lines(p, p.heads[head, KEYS])
    if p.now[FORKED_LOW]:
        job(p, LOW, head, p.heads[head, KEYS], LOW_PLANE_BITS, 1, p.heads[head, LOW_BASE])
    elif p.heads[head, KEY_PART] <= 0:
        shared = 1 if p.heads[head, KEY_PART] == WHOLE else 2
        job(p, KEY, head, p.heads[head, KEYS], p.heads[head, KEY_BITS], shared, p.heads[head, KEY_BASE])


@inlined
def _choice(p: Pipeline) -> int:
    """The arbiter in front of the fork prefers heads that come back, and keeps to a choice once made."""
    if filled(p.again) and first(p.again, 1) <= p.now[TIME]:
        return RETURNED
    return NEW if p.now[WAITING] >= 0 and p.now[WAITING_TIME] <= p.now[TIME] else NOBODY


@compiled
def job(p: Pipeline, kind: int, head: int, vectors: int, bits: int, shared: int, base: int) -> int:
    """Fetch `vectors` of `bits` bits an element, for one head or for a pair that shares them."""
    number = p.now[JOBS]
    p.now[JOBS] += 1
    entry, per_response = p.jobs[number], 2 * p.sizes[VECTORS_PER_LINE]
    entry[KIND], entry[HEAD], entry[VECTORS], entry[BASE] = kind, head, vectors, base
    entry[TRANSACTIONS] = bits * shared // 4  # of 32 bytes for each vector of 64 elements
    entry[RESPONSES] = (vectors * shared + per_response - 1) // per_response
    entry[GROUP_BITS] = 2 * bits * p.sizes[MULTIPLIERS]
    entry[BEATS] = (vectors + p.sizes[FETCH_CHANNELS] - 1) // p.sizes[FETCH_CHANNELS] * entry[TRANSACTIONS]
    entry[VALID], entry[SHARED] = p.now[TIME] + 1 + INDEX_CYCLES, shared
    if kind <= LOW:
        put(p.key_jobs, number)
    else:
        put(p.value_jobs, number)
    return int(number)


@inlined
def accept(p: Pipeline) -> None:
    """The next head of the stream, if nobody waits in front of the fork and its keys have room in the buffer."""
    head = p.now[NEXT]
    if p.now[WAITING] >= 0 or head >= len(p.heads) or not _may_come(p, head):
        return
    size = _size(p, head) if p.heads[head, KEY_PART] <= 0 else 0
    if p.now[OCCUPIED] + size > p.sizes[BUFFER_LINES]:
        return
    p.now[OCCUPIED] += size
    p.now[WAITING], p.now[WAITING_TIME] = head, p.now[TIME] + 1
    p.times[head, ACCEPT] = p.now[TIME] - 1
    p.now[NEXT] += 1


@inlined
def _may_come(p: Pipeline, head: int) -> bool:
    """Back to back, or alone: the gap after the last result over, both heads of a pair together."""
    if p.sizes[GAP] < 0 or p.heads[head, KEY_PART] > 0 or head == 0:
        return True
    if p.now[DONE_HEADS] < head:
        return False
    p.now[QUIET_UNTIL] = p.now[LAST_DONE] + p.sizes[GAP]
    return bool(p.now[TIME] >= p.now[QUIET_UNTIL])
