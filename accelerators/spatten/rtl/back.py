"""Selection, value fetch and the second product, cycle by cycle, compiled: from a head's scores to its result.

Scores wait for heads before them, pass the top-k engine (as many cycles as the row says), and ask for values a line of
indexes at a time; each beat of probabilities then meets its line of values. SpAtten RTL, stages G to K.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.spatten.rtl.front import FIRST_READ_CYCLES, RETRY_CYCLES, job, lines, ready
from cascadesim.accelerators.spatten.rtl.queue import drop, filled, first, put
from cascadesim.accelerators.spatten.rtl.state import (
    BEATS_PER_LINE,
    COLLECTED,
    COLLECTED_LINES,
    DONE,
    DONE_HEADS,
    KEYS,
    LANE_BITS,
    LANES,
    LAST_DONE,
    LOW_DONE,
    MULTIPLYING,
    NEVER,
    QUEUE_BEATS,
    QUEUED,
    READS,
    SCORES_GONE,
    SELECTION,
    SELECTOR_FREE,
    SLOTS,
    STREAM_BEAT,
    STREAM_BEATS,
    STREAM_TIME,
    STREAMING,
    TIME,
    TOTAL_READS,
    VALUE,
    VALUE_BASE,
    VALUE_BEATS,
    VALUE_BITS,
    VALUE_LINE,
    VALUE_LINES,
    VALUE_PART,
    VALUE_TRY,
    VALUES,
    VALUES_WRITTEN,
    WHOLE,
    Pipeline,
)

# SpAtten RTL (mit-han-lab/spatten, a0f1388), cycles, from its registers and FIFOs as described for stages G to K.
PASS_CYCLES = 7  # report to the first beat at the value fork where nothing is selected: order buffer, rebatch, reload
SELECT_CYCLES = 9  # report to the first beat in front of the top-k engine: as above, and its FIFO
LINE_CYCLES = 2  # last beat of an address line to the fetcher's arbiter: two registers
QUEUE_CYCLES = 2  # FIFO of the probabilities
RESULT_CYCLES = 3  # last product to result, besides the tree over the lanes: broadcast, multiply, accumulate to output


@inlined
def multiply(p: Pipeline) -> None:
    """A line of values and its beat of probabilities, one a cycle; a head's last line gives its result."""
    p.now[QUEUED] = filled(p.products)
    if p.now[MULTIPLYING] < 0 and filled(p.reads):
        p.now[MULTIPLYING], p.now[VALUE_LINE] = first(p.reads, 0), 0
        values = p.heads[first(p.reads, 0), VALUES]
        p.now[VALUE_BEATS], p.now[VALUE_LINES] = _beats(p, values), lines(p, values)
        p.now[VALUE_TRY] = max(first(p.reads, 1) + FIRST_READ_CYCLES, p.now[TIME])
        drop(p.reads)
    head, now = p.now[MULTIPLYING], p.now[TIME]
    if head < 0 or now < p.now[VALUE_TRY]:
        return
    part, line = p.heads[head, VALUE_PART], p.now[VALUE_LINE]
    owner = head if part <= 0 else head - 1
    if ready(p.written[VALUE], owner % SLOTS, line, part) > now:
        p.now[VALUE_TRY] = now + RETRY_CYCLES
        return
    if line < p.now[VALUE_BEATS]:
        if filled(p.products) == 0 or first(p.products, 0) + QUEUE_CYCLES > now:
            return
        drop(p.products)
    p.now[VALUE_LINE] += 1
    p.now[VALUE_TRY] = now + 1
    if p.now[VALUE_LINE] == p.now[VALUE_LINES]:
        _finish(p, head, owner)


@inlined
def _beats(p: Pipeline, count: int) -> int:
    return int((count + p.sizes[LANES] - 1) // p.sizes[LANES])


@compiled
def _finish(p: Pipeline, head: int, owner: int) -> None:
    p.times[head, DONE] = p.now[LAST_DONE] = p.now[TIME] + RESULT_CYCLES + p.sizes[LANE_BITS]
    p.times[head, READS] = p.now[TOTAL_READS]
    p.now[DONE_HEADS] += 1
    p.now[MULTIPLYING] = -1
    if p.heads[head, VALUE_PART] != 0:
        p.written[VALUE, :, owner % SLOTS] = NEVER


@inlined
def select(p: Pipeline) -> None:
    """The next head whose turn it is leaves the order buffer, through the top-k engine where it keeps fewer values."""
    if p.now[STREAMING] >= 0 or filled(p.scored) == 0 or first(p.scored, 2) > p.now[LOW_DONE]:
        return
    head, reported = first(p.scored, 0), first(p.scored, 1)
    drop(p.scored)
    p.now[STREAMING], p.now[STREAM_BEAT], p.now[STREAM_BEATS] = head, 0, _beats(p, p.heads[head, VALUES])
    if p.heads[head, VALUES] >= p.heads[head, KEYS]:
        p.now[STREAM_TIME] = max(reported + PASS_CYCLES, p.now[TIME])
    else:
        p.now[STREAM_TIME] = max(reported + SELECT_CYCLES, p.now[SELECTOR_FREE] + 1) + p.heads[head, SELECTION]


@inlined
def stream(p: Pipeline) -> None:
    """A beat of probabilities: into the queue of the product, and into the address line it completes."""
    head, now = p.now[STREAMING], p.now[TIME]
    if head < 0 or now < p.now[STREAM_TIME] or p.now[QUEUED] >= p.sizes[QUEUE_BEATS]:
        return
    fetches, begins = p.heads[head, VALUE_PART] <= 0, p.now[STREAM_BEAT] == 0
    if begins and (filled(p.reads) or (fetches and now < p.now[VALUES_WRITTEN])):
        return  # one batch at a time is written to the value buffer, and one waits to be read
    last = p.now[STREAM_BEAT] + 1 == p.now[STREAM_BEATS]
    completes = last or p.now[COLLECTED] + 1 == p.sizes[BEATS_PER_LINE]
    if fetches and completes and p.now[COLLECTED_LINES]:
        return  # one line waits for the fetcher; another is not completed before it has left
    put(p.products, now)
    if begins:
        _begin(p, head, fetches)
    p.now[STREAM_BEAT] += 1
    p.now[STREAM_TIME] = now + 1
    if fetches:
        _collect(p, head, last)
    if last:
        _end(p, head)


@compiled
def _begin(p: Pipeline, head: int, fetches: bool) -> None:
    put(p.reads, head, p.now[TIME])
    if fetches:
        p.now[VALUES_WRITTEN] = NEVER
        shared = 1 if p.heads[head, VALUE_PART] == WHOLE else 2
        p.value_line_count[head % SLOTS] = 0
        job(p, VALUE, head, p.heads[head, VALUES], p.heads[head, VALUE_BITS], shared, p.heads[head, VALUE_BASE])


@inlined
def _collect(p: Pipeline, head: int, last: bool) -> None:
    p.now[COLLECTED] += 1
    if last or p.now[COLLECTED] == p.sizes[BEATS_PER_LINE]:
        p.now[COLLECTED] = 0
        slot = head % SLOTS
        p.value_lines[slot, p.value_line_count[slot]] = p.now[TIME] + LINE_CYCLES
        p.value_line_count[slot] += 1
        p.now[COLLECTED_LINES] += 1


@compiled
def _end(p: Pipeline, head: int) -> None:
    """Beats that are not kept leave the engine one a cycle; where all are kept, the scores left with this beat."""
    kept, every = _beats(p, p.heads[head, VALUES]), _beats(p, p.heads[head, KEYS])
    if p.heads[head, VALUES] < p.heads[head, KEYS]:
        p.now[SELECTOR_FREE] = p.now[TIME] + every - kept
    else:
        p.now[SCORES_GONE] = max(p.now[SCORES_GONE], p.now[TIME] - PASS_CYCLES + 1)
    p.now[STREAMING] = -1
