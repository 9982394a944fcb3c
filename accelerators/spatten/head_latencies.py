"""Cycles from stage to stage of the pipeline of single queries: the least a head can take, whatever else is under way.

Sums of what `simulator.heads*` and `simulator.dram*` let each register, FIFO and command take; a test holds them
against those. SpAtten RTL (mit-han-lab/spatten, a0f1388), stages A to K of its description.
"""

from __future__ import annotations

from collections.abc import Mapping

FIRST_FORK_CYCLES = 2  # reset to the first head at the fork: accepted in cycle 1, then a register
REQUEST_CYCLES = 8  # fork to the first request at DRAM: indexes 3, splitter 2, FIFO 2, request 1
READ_CYCLES: Mapping[str, int] = {"hbm2": 13, "hbm2-nominal": 11}  # of an open row: CAS 7, burst, controller 2
BURST_CYCLES: Mapping[str, int] = {"hbm2": 4, "hbm2-nominal": 2}  # between two reads of a pseudo-channel
OPEN_CYCLES = 7  # tRCD: a row that is not open has to be opened first
CLOSE_CYCLES = 7  # tRP: and the one that is open in its bank closed
RESPONSE_CYCLES = 14  # answer to the first product that can see it: FIFO 2, realigner 2, widths 2, buffer and tags 8
WRITTEN_CYCLES = 6  # of these, until the line is written
READ_AGAIN_CYCLES = 10  # fork to the first product where the lines are there: the second head of a pair
RETRY_CYCLES = 5  # a line that was read too early is read again so much later
REPORT_CYCLES = 10  # last product of keys to report, besides the tree over the lanes and the softmax
RETURN_CYCLES = 1  # report to the fork, of a head that comes back for its low bits
ADMIT_CYCLES = 4  # report to the fork of a head that waits for room in the key buffer: release 3, a register
PASS_CYCLES = 7  # report to the first probability where nothing is selected
SELECT_CYCLES = 9  # the same through the top-k engine
ORDER_CYCLES = 2  # FIFO in which heads wait for others; those that came back pass it by
VALUE_CYCLES = 6  # first probability of an address line to its requests at DRAM, besides the line's other probabilities
FIRST_VALUE_CYCLES = 9  # first probability to the first product where the lines are there
RESULT_CYCLES = 3  # last product of values to result, besides the tree over the lanes
SLOT_BITS = 256  # of a fetch channel's answer
