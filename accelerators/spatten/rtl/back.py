"""Selection, value fetch and the second product, cycle by cycle, compiled: from a head's scores to its result.

Scores wait for heads before them, pass the top-k engine (as many cycles as the row says), and ask for values a line of
indexes at a time; each beat of probabilities then meets its line of values. SpAtten RTL, stages G to K.
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from cascadesim.accelerators.compiled import compiled, inlined
from cascadesim.accelerators.spatten.rtl import state as at
from cascadesim.accelerators.spatten.rtl.front import FIRST_READ_CYCLES, RETRY_CYCLES, job, lines, ready
from cascadesim.accelerators.spatten.rtl.state import HeadPipeline, drop, filled, first, put

# SpAtten RTL (mit-han-lab/spatten, a0f1388), cycles, from its registers and FIFOs as described for stages G to K.
# report to the first beat at the values' branch point where nothing is selected: order buffer, rebatch, reload
PASS_CYCLES = 7
SELECT_CYCLES = 9  # report to the first beat in front of the top-k engine: as above, and its FIFO
LINE_CYCLES = 2  # last beat of an address line to the fetcher's arbiter: two registers
QUEUE_CYCLES = 2  # FIFO of the probabilities
RESULT_CYCLES = 3  # last product to result, besides the tree over the lanes: broadcast, multiply, accumulate to output


@inlined
def multiply(p: HeadPipeline) -> None:
    """A line of values and its beat of probabilities, one a cycle; a head's last line gives its result."""
    p.now[at.QUEUED] = filled(p.products)
    if p.now[at.MULTIPLYING] < 0 and filled(p.reads):
        p.now[at.MULTIPLYING], p.now[at.VALUE_LINE] = first(p.reads, 0), 0
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
    if line < p.now[at.VALUE_BEATS]:
        if filled(p.products) == 0 or first(p.products, 0) + QUEUE_CYCLES > now:
            return
        drop(p.products)
    p.now[at.VALUE_LINE] += 1
    p.now[at.VALUE_TRY] = now + 1
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
    if p.heads[head, at.VALUES] >= p.heads[head, at.KEYS]:
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
    if p.heads[head, at.VALUES] < p.heads[head, at.KEYS]:
        p.now[at.SELECTOR_FREE] = p.now[at.TIME] + every - kept
    else:
        p.now[at.SCORES_GONE] = max(p.now[at.SCORES_GONE], p.now[at.TIME] - PASS_CYCLES + 1)
    p.now[at.STREAMING] = -1
