"""One DRAM channel and its FR-FCFS controller, cycle by cycle, compiled.

Rules of ramulator2 v2.0's generic controller: requests whose row is being opened are served before all others; among
the requests of a list the first that is ready wins, otherwise the oldest; a row is not closed while a request waits
for it. Plain functions on integer arrays, so that other compiled loops can step channels of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from cascadesim.simulator.dram_standards import DramStandard

Integers = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., object])

NEVER = -(1 << 40)
READING, ACTIVE = 0, 1  # the two lists of requests
LIST, PENDING, FINISHED = 0, 2, 4  # fields of `counts`: lengths of the lists, then (head, length) of the two rings
OUTSTANDING, NOW, LAST_ACTIVATE, REFRESHED, ISSUED = 6, 7, 8, 9, 10
ACT, PRE, RD = 0, 1, 2  # fields of a bank's times
NUMBER, PSEUDO, GROUP, BANK, ROW = 0, 1, 2, 3, 4  # fields of a request


def compiled(function: Function) -> Function:
    result: Function = numba.njit(cache=True, error_model="numpy")(function)  # type: ignore[assignment, unused-ignore]
    return result


class Channels(NamedTuple):
    """State of several equal channels; the first index is the channel."""

    timing: Integers  # constants, see `_timing`
    requests: Integers  # [channel, list, place, field]
    pending: Integers  # [channel, place, (departs, number)]: issued reads in order
    finished: Integers  # [channel, place]: numbers of reads that nobody took yet
    banks: Integers  # [channel, bank, (ACT, PRE, RD)]: times
    rows: Integers  # [channel, bank]: open row or -1
    groups: Integers  # [channel, group, (ACT, RD)]
    pseudo: Integers  # [channel, pseudo-channel, RD and the four latest ACT, oldest first]
    counts: Integers  # [channel, field]


def channels(standard: DramStandard, number: int) -> Channels:
    """`number` idle channels."""
    size = standard.largest_outstanding
    groups = standard.pseudo_channels * standard.bank_groups
    counts = np.zeros((number, 11), dtype=np.int64)
    counts[:, LAST_ACTIVATE] = NEVER
    return Channels(
        _timing(standard),
        np.zeros((number, 2, size, 5), dtype=np.int64),
        np.zeros((number, size, 2), dtype=np.int64),
        np.zeros((number, size), dtype=np.int64),
        np.full((number, groups * standard.banks, 3), NEVER, dtype=np.int64),
        np.full((number, groups * standard.banks), -1, dtype=np.int64),
        np.full((number, groups, 2), NEVER, dtype=np.int64),
        np.full((number, standard.pseudo_channels, 5), NEVER, dtype=np.int64),
        counts,
    )


def _timing(standard: DramStandard) -> Integers:
    """Cycles in the order in which `_ready` reads them, then geometry."""
    of = standard.timing
    low = standard.column_low_bit
    sizes = (standard.pseudo_channels, standard.bank_groups, standard.banks)
    pseudo, group, bank = (size.bit_length() - 1 for size in sizes)
    return np.array([
        of("channel", "ACT", "ACT"), of("channel", "ACT", "PRE"), of("pseudo_channel", "RD", "RD"),
        of("pseudo_channel", "ACT", "ACT"), of("pseudo_channel", "ACT", "ACT", 4), of("bank_group", "RD", "RD"),
        of("bank_group", "ACT", "ACT"), of("bank", "ACT", "RD"), of("bank", "ACT", "PRE"), of("bank", "ACT", "ACT"),
        of("bank", "PRE", "ACT"), of("bank", "RD", "PRE"), standard.read_latency,
        low, low + pseudo, low + pseudo + group, low + pseudo + group + bank,
        standard.bank_groups, standard.banks, standard.refresh_interval or 0, standard.refresh_cycles,
    ], dtype=np.int64)  # fmt: skip


@compiled
def push(channels: Channels, channel: int, number: int, address: int) -> bool:
    """Hand a read to the controller; False where it keeps as many as it can."""
    counts, timing = channels.counts[channel], channels.timing
    if counts[OUTSTANDING] >= channels.finished.shape[1]:
        return False
    request = channels.requests[channel, READING, counts[LIST + READING]]
    group_mask, bank_mask = timing[17] - 1, timing[18] - 1
    request[NUMBER] = number
    request[PSEUDO] = (address >> timing[13]) & ((1 << (timing[14] - timing[13])) - 1)
    request[GROUP] = request[PSEUDO] * timing[17] + ((address >> timing[14]) & group_mask)
    request[BANK] = request[GROUP] * timing[18] + ((address >> timing[15]) & bank_mask)
    request[ROW] = address >> timing[16]
    counts[LIST + READING] += 1
    counts[OUTSTANDING] += 1
    return True


@compiled
def pop(channels: Channels, channel: int) -> int:
    """The number of the longest finished read, -1 where none is."""
    counts, size = channels.counts[channel], channels.finished.shape[1]
    if counts[FINISHED + 1] == 0:
        return -1
    number = channels.finished[channel, counts[FINISHED] % size]
    counts[FINISHED] += 1
    counts[FINISHED + 1] -= 1
    counts[OUTSTANDING] -= 1
    return int(number)


@compiled
def tick(channels: Channels, channel: int) -> None:
    """One cycle: a read whose data has come is finished, then one command is issued."""
    counts, size = channels.counts[channel], channels.finished.shape[1]
    counts[NOW] += 1
    if counts[OUTSTANDING] == counts[FINISHED + 1]:
        return  # nothing left to do
    if counts[PENDING + 1] and channels.pending[channel, counts[PENDING] % size, 0] <= counts[NOW]:
        place = (counts[FINISHED] + counts[FINISHED + 1]) % size
        channels.finished[channel, place] = channels.pending[channel, counts[PENDING] % size, 1]
        counts[FINISHED + 1] += 1
        counts[PENDING] += 1
        counts[PENDING + 1] -= 1
    if _refreshing(channels, channel):
        return
    place = _best(channels, channel, ACTIVE)
    if place >= 0 and _ready(channels, channel, ACTIVE, place):
        _issue(channels, channel, ACTIVE, place)
        return
    place = _best(channels, channel, READING)
    if place >= 0 and _ready(channels, channel, READING, place):
        _issue(channels, channel, READING, place)


@compiled
def _refreshing(channels: Channels, channel: int) -> bool:
    """Every `refresh_interval` cycles all rows close and the channel stands still for `refresh_cycles`."""
    interval, duration = channels.timing[19], channels.timing[20]
    if interval == 0:
        return False
    phase = channels.counts[channel, NOW] % interval
    if phase == 0:
        channels.rows[channel, :] = -1
    return bool(channels.counts[channel, NOW] >= interval and phase < duration)


@compiled
def _best(channels: Channels, channel: int, which: int) -> int:
    """Fold over the list: a ready request beats one that is not, otherwise the earlier one stays."""
    length = channels.counts[channel, LIST + which]
    best, best_ready = -1, False
    for place in range(length):
        ready = _ready(channels, channel, which, place)
        if best < 0 or (ready and not best_ready):
            best, best_ready = place, ready
        elif ready == best_ready:
            requests = channels.requests[channel, which]
            if requests[place, NUMBER] < requests[best, NUMBER]:
                best = place
    return best


@compiled
def _ready(channels: Channels, channel: int, which: int, place: int) -> bool:
    """Whether the next command of the request may be issued now."""
    request, timing, now = channels.requests[channel, which, place], channels.timing, channels.counts[channel, NOW]
    bank = channels.banks[channel, request[BANK]]
    row = channels.rows[channel, request[BANK]]
    group, pseudo = channels.groups[channel, request[GROUP]], channels.pseudo[channel, request[PSEUDO]]
    last_activate = channels.counts[channel, LAST_ACTIVATE]
    if row == request[ROW]:
        return bool(now >= pseudo[0] + timing[2] and now >= group[1] + timing[5] and now >= bank[ACT] + timing[7])
    if row >= 0:
        return bool(
            now >= last_activate + timing[1] and now >= bank[ACT] + timing[8] and now >= bank[RD] + timing[11]
        )
    return bool(
        now >= last_activate + timing[0] and now >= pseudo[4] + timing[3] and now >= pseudo[1] + timing[4]
        and now >= group[0] + timing[6] and now >= bank[ACT] + timing[9] and now >= bank[PRE] + timing[10]
    )  # fmt: skip


@compiled
def _issue(channels: Channels, channel: int, which: int, place: int) -> None:
    request, now = channels.requests[channel, which, place].copy(), channels.counts[channel, NOW]
    row = channels.rows[channel, request[BANK]]
    channels.counts[channel, ISSUED] += 1
    if row == request[ROW]:
        _read(channels, channel, which, place)
    elif row >= 0:
        if not _wanted(channels, channel, request[BANK]):
            channels.rows[channel, request[BANK]] = -1
            channels.banks[channel, request[BANK], PRE] = now
    else:
        _activate(channels, channel, which, place)


@compiled
def _wanted(channels: Channels, channel: int, bank: int) -> bool:
    """Whether a request for which a row was opened is still waiting in the bank."""
    for place in range(channels.counts[channel, LIST + ACTIVE]):
        if channels.requests[channel, ACTIVE, place, BANK] == bank:
            return True
    return False


@compiled
def _read(channels: Channels, channel: int, which: int, place: int) -> None:
    counts, size = channels.counts[channel], channels.finished.shape[1]
    request, now = channels.requests[channel, which, place].copy(), counts[NOW]
    channels.pseudo[channel, request[PSEUDO], 0] = now
    channels.groups[channel, request[GROUP], 1] = now
    channels.banks[channel, request[BANK], RD] = now
    slot = (counts[PENDING] + counts[PENDING + 1]) % size
    channels.pending[channel, slot, 0] = now + channels.timing[12]
    channels.pending[channel, slot, 1] = request[NUMBER]
    counts[PENDING + 1] += 1
    _remove(channels, channel, which, place)


@compiled
def _activate(channels: Channels, channel: int, which: int, place: int) -> None:
    request, now = channels.requests[channel, which, place].copy(), channels.counts[channel, NOW]
    channels.rows[channel, request[BANK]] = request[ROW]
    channels.banks[channel, request[BANK], ACT] = now
    channels.groups[channel, request[GROUP], 0] = now
    channels.counts[channel, LAST_ACTIVATE] = now
    recent = channels.pseudo[channel, request[PSEUDO]]
    recent[1], recent[2], recent[3], recent[4] = recent[2], recent[3], recent[4], now
    if which == READING:
        channels.requests[channel, ACTIVE, channels.counts[channel, LIST + ACTIVE]] = request
        channels.counts[channel, LIST + ACTIVE] += 1
        _remove(channels, channel, READING, place)


@compiled
def _remove(channels: Channels, channel: int, which: int, place: int) -> None:
    requests, length = channels.requests[channel, which], channels.counts[channel, LIST + which]
    for later in range(place + 1, length):
        for entry in range(requests.shape[1]):
            requests[later - 1, entry] = requests[later, entry]
    channels.counts[channel, LIST + which] -= 1
