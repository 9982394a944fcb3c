"""One DRAM channel and its FR-FCFS controller, cycle by cycle, compiled.

Rules of ramulator2 v2.0's generic controller: requests whose row is being opened are served before all others; among
the requests of a list the earliest that is ready wins; a row is not closed while a request waits for it. Every command
notes when the next ones may follow, so a cycle before `WAKE` costs a comparison. One row of integers is a channel.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.simulator.compilation import compiled
from cascadesim.simulator.dram_standards import DramStandard

Integers = NDArray[np.int64]
Channels: TypeAlias = Integers  # [channel, field]: state of several equal channels, one row each

PAST, NEVER = -(1 << 40), 1 << 60
READING, ACTIVE = 0, 1  # lengths of the two lists: runs of requests in order of arrival, requests in that of activation
NOW, WAKE = 2, 3  # cycles ticked, and the first one in which anything may happen
OUTSTANDING, ISSUED, ARRIVED = 4, 5, 6  # requests kept, commands issued, requests ever pushed
DEPARTING, DEPARTED, TAKEN = 7, 8, 9  # reads ever issued, ever finished, ever popped
REFRESH, STILL, MAY_ACT, MAY_PRE = 10, 11, 12, 13  # next refresh, its end; when the channel allows which command
DEPARTS, READY = 14, 15  # when the next read departs, when a command may be issued at the earliest
CHANNEL_ACT_ACT, CHANNEL_ACT_PRE, PSEUDO_RD_RD, PSEUDO_ACT_ACT, FOUR_ACTIVATES = 16, 17, 18, 19, 20  # constants
GROUP_RD_RD, GROUP_ACT_ACT, ACT_RD, ACT_PRE, ACT_ACT, PRE_ACT, RD_PRE, READ_LATENCY = 21, 22, 23, 24, 25, 26, 27, 28
COLUMN_BITS, PSEUDO_BITS, GROUP_BITS, BANK_BITS, LIMIT, REFRESH_INTERVAL, REFRESH_CYCLES = 29, 30, 31, 32, 33, 34, 35
PSEUDO, GROUPS, BANKS, RINGS, LISTS = 40, 72, 136, 648, 744  # where the parts begin, with the sizes below
MOST_PSEUDO, MOST_GROUPS, MOST_BANKS, MOST_REQUESTS = 4, 16, 64, 32
ROW, RD, PRE, ACT, WANTED = 0, 1, 2, 3, 4  # of 8 words of a bank: open row or -1, when which command may be issued
LATEST = 4  # of 8 words of a pseudo-channel: its four latest activates, oldest first
BANK, ROW_WANTED, ARRIVAL, RUN = 0, 1, 2, 3  # of 4 words: what neighbours in arrival want, the first one, how many
LIST_WORDS, WORDS = 4 * MOST_REQUESTS, LISTS + 2 * 4 * MOST_REQUESTS


def channels(standard: DramStandard, number: int, rows_open: bool = False) -> Channels:
    """`number` idle channels; `rows_open`: each bank has a row open that no request wants, otherwise none."""
    groups = standard.pseudo_channels * standard.bank_groups
    sizes = (standard.pseudo_channels, groups, groups * standard.banks, standard.largest_outstanding)
    if any(
        size > most for size, most in zip(sizes, (MOST_PSEUDO, MOST_GROUPS, MOST_BANKS, MOST_REQUESTS), strict=True)
    ):
        raise CascadeSimError(
            f"{standard.name}: a channel has at most {MOST_PSEUDO} pseudo-channels, {MOST_GROUPS} bank groups, "
            f"{MOST_BANKS} banks and {MOST_REQUESTS} outstanding requests, got {sizes}"
        )
    idle = np.zeros(WORDS, dtype=np.int64)
    idle[PSEUDO:RINGS] = idle[[MAY_ACT, MAY_PRE]] = PAST
    idle[BANKS + ROW : RINGS : 8], idle[BANKS + WANTED : RINGS : 8] = NEVER if rows_open else -1, 0
    idle[CHANNEL_ACT_ACT : REFRESH_CYCLES + 1] = _constants(standard)
    idle[REFRESH] = idle[WAKE] = idle[REFRESH_INTERVAL]
    idle[DEPARTS] = idle[READY] = NEVER
    return np.tile(idle, (number, 1))


def _constants(standard: DramStandard) -> list[int]:
    """From CHANNEL_ACT_ACT to REFRESH_CYCLES, in order."""
    of = standard.timing
    sizes = (standard.pseudo_channels, standard.bank_groups, standard.banks)
    return [
        of("channel", "ACT", "ACT"), of("channel", "ACT", "PRE"), of("pseudo_channel", "RD", "RD"),
        of("pseudo_channel", "ACT", "ACT"), of("pseudo_channel", "ACT", "ACT", 4), of("bank_group", "RD", "RD"),
        of("bank_group", "ACT", "ACT"), of("bank", "ACT", "RD"), of("bank", "ACT", "PRE"), of("bank", "ACT", "ACT"),
        of("bank", "PRE", "ACT"), of("bank", "RD", "PRE"), standard.read_latency, standard.column_low_bit,
        *(size.bit_length() - 1 for size in sizes), standard.largest_outstanding,
        standard.refresh_interval or NEVER, standard.refresh_cycles,
    ]  # fmt: skip


@compiled
def push(channels: Channels, channel: int, address: int) -> bool:
    """Hand a read to the controller; False where it keeps as many as it can.

    Requests for one row that arrive one after another are one run: what holds for the first holds for all.
    """
    if channels[channel, OUTSTANDING] >= channels[channel, LIMIT]:
        return False
    bank, row = _place(channels, channel, address)
    number, last = channels[channel, ARRIVED], LISTS + 4 * (channels[channel, READING] - 1)
    channels[channel, ARRIVED] += 1
    channels[channel, OUTSTANDING] += 1
    same = channels[channel, last + BANK] == bank and channels[channel, last + ROW_WANTED] == row
    next_to_it = channels[channel, last + ARRIVAL] + channels[channel, last + RUN] == number
    if channels[channel, READING] and same and next_to_it:
        channels[channel, last + RUN] += 1
        return True
    channels[channel, last + 4 + BANK], channels[channel, last + 4 + ROW_WANTED] = bank, row
    channels[channel, last + 4 + ARRIVAL], channels[channel, last + 4 + RUN] = number, 1
    channels[channel, READING] += 1
    ready = max(_ready(channels, channel, bank, row), channels[channel, STILL])
    if ready < channels[channel, READY]:
        channels[channel, READY] = ready
        channels[channel, WAKE] = min(channels[channel, WAKE], ready)
    return True


@compiled
def _place(channels: Channels, channel: int, address: int) -> tuple[int, int]:
    """(bank, counted over the whole channel; row)."""
    field = address >> channels[channel, COLUMN_BITS]
    group = field & ((1 << channels[channel, PSEUDO_BITS]) - 1)
    field >>= channels[channel, PSEUDO_BITS]
    group = (group << channels[channel, GROUP_BITS]) + (field & ((1 << channels[channel, GROUP_BITS]) - 1))
    field >>= channels[channel, GROUP_BITS]
    bank = (group << channels[channel, BANK_BITS]) + (field & ((1 << channels[channel, BANK_BITS]) - 1))
    return bank, field >> channels[channel, BANK_BITS]


@compiled
def pop(channels: Channels, channel: int) -> int:
    """The longest finished read, counted in the order of pushes; -1 where none is."""
    if channels[channel, DEPARTED] == channels[channel, TAKEN]:
        return -1
    place = channels[channel, TAKEN] & (MOST_REQUESTS - 1)
    channels[channel, TAKEN] += 1
    channels[channel, OUTSTANDING] -= 1
    return channels[channel, RINGS + 2 * place + 1]  # type: ignore[no-any-return]


@compiled
def tick(channels: Channels, channel: int) -> None:
    """One cycle: a read whose data has come is finished, then one command is issued."""
    now = channels[channel, NOW] + 1
    channels[channel, NOW] = now
    if now >= channels[channel, WAKE]:
        _work(channels, channel, now)


@compiled
def _work(channels: Channels, channel: int, now: int) -> None:
    """A cycle in which something may happen; notes when the next one is."""
    if now >= channels[channel, DEPARTS]:
        _finish(channels, channel, now)
    if now >= channels[channel, REFRESH]:
        _refresh(channels, channel, now)
    if now >= channels[channel, READY]:
        ready = _serve_active(channels, channel, now)
        if ready > now:
            ready = min(ready, _serve_waiting(channels, channel, now))
        channels[channel, READY] = max(ready, now + 1)
    wake = min(channels[channel, DEPARTS], channels[channel, READY])
    channels[channel, WAKE] = min(wake, channels[channel, REFRESH])


@compiled
def _finish(channels: Channels, channel: int, now: int) -> None:
    """Finish one read. Departed reads keep their place in the ring until taken."""
    channels[channel, DEPARTED] += 1
    if channels[channel, DEPARTED] == channels[channel, DEPARTING]:
        channels[channel, DEPARTS] = NEVER
    else:
        place = channels[channel, DEPARTED] & (MOST_REQUESTS - 1)
        channels[channel, DEPARTS] = max(channels[channel, RINGS + 2 * place], now + 1)


@compiled
def _refresh(channels: Channels, channel: int, now: int) -> None:
    """Every `refresh_interval` cycles all rows close and the channel stands still for `refresh_cycles`."""
    for bank in range(MOST_BANKS):
        channels[channel, BANKS + 8 * bank + ROW] = -1
    channels[channel, REFRESH] += channels[channel, REFRESH_INTERVAL]
    channels[channel, STILL] = now + channels[channel, REFRESH_CYCLES]
    channels[channel, READY] = channels[channel, STILL]


@compiled
def _ready(channels: Channels, channel: int, bank: int, row: int) -> int:
    """The first cycle in which the next command of a request may be issued, as things stand."""
    at = BANKS + 8 * bank
    open_row = channels[channel, at + ROW]
    if open_row >= 0 and open_row != row:
        return max(channels[channel, MAY_PRE], channels[channel, at + PRE])  # type: ignore[no-any-return]
    group = bank >> channels[channel, BANK_BITS]
    pseudo = group >> channels[channel, GROUP_BITS]
    command = RD if open_row == row else ACT
    shared = max(channels[channel, GROUPS + 4 * group + command], channels[channel, PSEUDO + 8 * pseudo + command])
    ready = max(shared, channels[channel, at + command])
    return ready if command == RD else max(ready, channels[channel, MAY_ACT])  # type: ignore[no-any-return]


@compiled
def _serve_active(channels: Channels, channel: int, now: int) -> int:
    """Issue for the earliest of the active requests that are ready; otherwise returns when the first one is."""
    soonest, best, arrival = NEVER, -1, NEVER
    for place in range(channels[channel, ACTIVE]):
        request = LISTS + LIST_WORDS + 4 * place
        ready = _ready(channels, channel, channels[channel, request + BANK], channels[channel, request + ROW_WANTED])
        if ready > now:
            soonest = min(soonest, ready)
        elif channels[channel, request + ARRIVAL] < arrival:
            best, arrival = place, channels[channel, request + ARRIVAL]
    if best < 0:
        return soonest
    request = LISTS + LIST_WORDS + 4 * best
    bank, row = channels[channel, request + BANK], channels[channel, request + ROW_WANTED]
    if channels[channel, BANKS + 8 * bank + ROW] == row:
        channels[channel, BANKS + 8 * bank + WANTED] -= 1
        _read(channels, channel, ACTIVE, best, now)
    else:
        _activate(channels, channel, bank, row, now)
    return now


@compiled
def _serve_waiting(channels: Channels, channel: int, now: int) -> int:
    """Issue for the first of the waiting requests that is ready; otherwise returns when a command may follow.

    A ready request that may not close a row, because others wait for it, still holds up those behind it.
    """
    soonest, bank, row = NEVER, -1, -1
    for place in range(channels[channel, READING]):
        request = LISTS + 4 * place
        if channels[channel, request + BANK] == bank and channels[channel, request + ROW_WANTED] == row:
            continue  # as the one before, which was not ready
        bank, row = channels[channel, request + BANK], channels[channel, request + ROW_WANTED]
        ready = _ready(channels, channel, bank, row)
        if ready > now:
            soonest = min(soonest, ready)
            continue
        open_row = channels[channel, BANKS + 8 * bank + ROW]
        if open_row == row:
            _read(channels, channel, READING, place, now)
        elif open_row < 0:
            _activate(channels, channel, bank, row, now)
            _promote(channels, channel, place)
        elif channels[channel, BANKS + 8 * bank + WANTED] > 0:
            return soonest
        else:
            _precharge(channels, channel, bank, now)
        return now
    return soonest


@compiled
def _read(channels: Channels, channel: int, which: int, place: int, now: int) -> None:
    bank = channels[channel, LISTS + LIST_WORDS * which + 4 * place + BANK]
    group = bank >> channels[channel, BANK_BITS]
    pseudo = group >> channels[channel, GROUP_BITS]
    at, slot = BANKS + 8 * bank, RINGS + 2 * (channels[channel, DEPARTING] & (MOST_REQUESTS - 1))
    channels[channel, PSEUDO + 8 * pseudo + RD] = now + channels[channel, PSEUDO_RD_RD]
    channels[channel, GROUPS + 4 * group + RD] = now + channels[channel, GROUP_RD_RD]
    channels[channel, at + PRE] = max(channels[channel, at + PRE], now + channels[channel, RD_PRE])
    channels[channel, slot] = now + channels[channel, READ_LATENCY]
    if channels[channel, DEPARTING] == channels[channel, DEPARTED]:
        channels[channel, DEPARTS] = channels[channel, slot]
    channels[channel, slot + 1] = channels[channel, LISTS + LIST_WORDS * which + 4 * place + ARRIVAL]
    channels[channel, DEPARTING] += 1
    channels[channel, ISSUED] += 1
    _remove(channels, channel, which, place)


@compiled
def _precharge(channels: Channels, channel: int, bank: int, now: int) -> None:
    at = BANKS + 8 * bank
    channels[channel, at + ROW] = -1
    channels[channel, at + ACT] = max(channels[channel, at + ACT], now + channels[channel, PRE_ACT])
    channels[channel, ISSUED] += 1


@compiled
def _activate(channels: Channels, channel: int, bank: int, row: int, now: int) -> None:
    group = bank >> channels[channel, BANK_BITS]
    at, pseudo = BANKS + 8 * bank, PSEUDO + 8 * (group >> channels[channel, GROUP_BITS])
    channels[channel, at + ROW] = row
    channels[channel, at + RD] = now + channels[channel, ACT_RD]
    channels[channel, at + PRE] = max(channels[channel, at + PRE], now + channels[channel, ACT_PRE])
    channels[channel, at + ACT] = now + channels[channel, ACT_ACT]
    channels[channel, GROUPS + 4 * group + ACT] = now + channels[channel, GROUP_ACT_ACT]
    for latest in range(pseudo + LATEST, pseudo + LATEST + 3):
        channels[channel, latest] = channels[channel, latest + 1]
    channels[channel, pseudo + LATEST + 3] = now
    fourth = channels[channel, pseudo + LATEST] + channels[channel, FOUR_ACTIVATES]
    channels[channel, pseudo + ACT] = max(now + channels[channel, PSEUDO_ACT_ACT], fourth)
    channels[channel, MAY_ACT] = now + channels[channel, CHANNEL_ACT_ACT]
    channels[channel, MAY_PRE] = now + channels[channel, CHANNEL_ACT_PRE]
    channels[channel, ISSUED] += 1


@compiled
def _promote(channels: Channels, channel: int, place: int) -> None:
    """A request whose row is being opened moves to the active ones."""
    last, waiting = LISTS + LIST_WORDS + 4 * channels[channel, ACTIVE], LISTS + 4 * place
    for field in (BANK, ROW_WANTED, ARRIVAL):
        channels[channel, last + field] = channels[channel, waiting + field]
    channels[channel, last + RUN] = 1
    channels[channel, BANKS + 8 * channels[channel, last + BANK] + WANTED] += 1
    channels[channel, ACTIVE] += 1
    _remove(channels, channel, READING, place)


@compiled
def _remove(channels: Channels, channel: int, which: int, place: int) -> None:
    """The first request of a run."""
    first = LISTS + LIST_WORDS * which
    if channels[channel, first + 4 * place + RUN] > 1:
        channels[channel, first + 4 * place + RUN] -= 1
        channels[channel, first + 4 * place + ARRIVAL] += 1
        return
    channels[channel, which] -= 1
    for word in range(first + 4 * place, first + 4 * channels[channel, which]):
        channels[channel, word] = channels[channel, word + 4]
