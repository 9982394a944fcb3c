"""The memory of the compiled engine: a program as numbers, and what happens to it, in a few arrays of integers.

Field numbers only, no behaviour. Few arrays: each of them costs Numba time in every function that it is passed to.
A field `X_OF` holds first positions: those of i are X_OF[i] .. X_OF[i + 1].
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

ABSENT = -(2**62)  # a moment that constrains nothing: the task is not in that tile
PENDING = ABSENT + 1  # a moment not yet known: the task is in that tile and has not run


class EngineState(NamedTuple):
    """`rows` [field, number], and what has more dimensions. Tiles live in a ring of a power of two."""

    rows: Ints
    ring: Ints  # [field, tile, task or carrier]
    tiles: Ints  # [field, tile]
    columns: Ints  # [field, carrier, column]: the running values
    gifts: Ints  # [queue, ring]: when slots were given back
    classes: Ints  # [CYCLES or KEEPS, class, task or queue]; the last class is empty: what follows the stream
    code: Ints  # [instruction, 4]
    loops: Ints  # [depth, field]
    saved: Ints  # [depth, ...]: snapshots; the last one is the present
    log: Ints  # [start or finish, tile, task]


# rows, by unit
ITEMS_OF, CLOCK, FIRST_START, EPOCH, ITEM, BLOCKED, SHIFT = range(7)
# by item (what is issued together), by member
MEMBERS_OF, MEMBER = range(7, 9)
# by task
UNIT, STAGE, EDGES_OF, READERS_OF, CARRIERS_OF, TAKES_OF, GIVES_OF = range(9, 16)
# by edge (a dependence); USED and NEEDED also by queue, after the edges: the tile at which it last counted
SOURCE, LAG, BACK, STREAMS, CARRIER, USED, NEEDED = range(16, 23)
# by reader (a unit that waits for a task), by carrier (a task that hands a value on), by place in a list of queues
READER_UNIT, READER_LAG, CARRIER_TASK, BY_COLUMN, TAKE, GIVE = range(23, 29)
# by queue
CAPACITY, TAKER_UNIT, GIVER_UNIT, TAKEN, GIVEN = range(29, 34)
SIZE, PROGRESS, STEADY = range(34, 37)
ROWS = 37

# SIZE
TASKS, UNITS, EDGES, CARRIERS, QUEUES, CLASSES, IN_FLIGHT, LAST_STAGE, LONGEST_BACK, EXTRAPOLATE, COLUMNWISE = range(11)
# PROGRESS: the next tile, tiles entered (skipped ones too), skips, the oldest tile under way, when the window opens
TILE, ENTERED, SKIPS, OLDEST, GATE, FAULT = range(6)
# STEADY
FIRST_TILE, PERIOD_TILES, PERIOD_CYCLES, REPEATED_TILES = range(4)
SIZES = 11

# ring; FINISH and START also in columns, where FROM is the tile that will bring the value
FINISH, START, CARRIED, CARRIED_START, CARRIED_TILE = range(5)
FROM = 2
# tiles: OPENS is when the window reached it
CLASS, COLUMN, LEFT, END, OPENS = range(5)
CYCLES, KEEPS = range(2)
# loops; one field more per unit, from CLOCKS on
ITERATION, SAVED_TILE, SAVED_ENTERED, POWER, SINCE, LENGTH, SAVED_SKIPS, SETTLED, CLOCKS = range(9)
# code: RUN class, 2 * first column + fresh, tiles / BEGIN / END times, first instruction of the body
RUN, BEGIN, REPEAT = range(3)
SHORTEST_LOOP = 4  # loops of fewer iterations are stepped through: nothing to gain
