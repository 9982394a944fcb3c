"""What one DRAM channel and its controller keep between cycles: integers, with a name for each place.

One row is a channel; what happens to it is in `channel`.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.dram.standards import DramStandard
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Integers = NDArray[np.int64]
Channels: TypeAlias = Integers  # [channel, field]: state of several equal channels, one row each
Channel: TypeAlias = Integers  # [field]

PAST, NEVER = -(1 << 40), 1 << 60
READING, ACTIVE = 0, 1  # lengths of the two lists: pages that requests want, requests whose row is being opened
WAKE, READY = 2, 3  # the first cycle in which anything may happen, and in which a command may be issued
OUTSTANDING, ISSUED, ARRIVED = 4, 5, 6  # requests kept, commands issued, requests ever pushed
DEPARTING, TAKEN, DEPARTS = 7, 8, 9  # reads ever issued, ever popped; when the data of the next to be popped has come
REFRESH, STILL, MAY_ACT, MAY_PRE = 10, 11, 12, 13  # next refresh, its end; when the channel allows which command
WAITING_AT, CANDIDATE = 14, 15  # when a command for a waiting request may be issued, and for which place, -1: not known
CHANNEL_ACT_ACT, CHANNEL_ACT_PRE, PSEUDO_RD_RD, PSEUDO_ACT_ACT, FOUR_ACTIVATES = 16, 17, 18, 19, 20  # constants
GROUP_RD_RD, GROUP_ACT_ACT, ACT_RD, ACT_PRE, ACT_ACT, PRE_ACT, RD_PRE, READ_LATENCY = 21, 22, 23, 24, 25, 26, 27, 28
COLUMN_BITS, PSEUDO_BITS, GROUP_BITS, BANK_BITS, LIMIT, REFRESH_INTERVAL, REFRESH_CYCLES = 29, 30, 31, 32, 33, 34, 35
PSEUDO, GROUPS, BANKS, RINGS, ACTIVES = 40, 72, 136, 648, 904  # where the parts begin
MOST_PSEUDO, MOST_GROUPS, MOST_BANKS, MOST_REQUESTS = 4, 16, 64, 32  # their sizes
ROW, RD, PRE, ACT, WANTED = 0, 1, 2, 3, 4  # of 8 words of a bank: open page or -1, when which command may be issued
LATEST = 4  # of 8 words of a pseudo-channel: its four latest activates, oldest first
# by place, for each page that is wanted: what is kept of it, the page, its earliest request, when the next command for
# it may be issued, and, where that is a read, the pseudo-channel and the group that may delay it, otherwise 0
LIVE, PAGES, FIRSTS, SOONS, PSEUDOS_READ, GROUPS_READ = 712, 744, 776, 808, 840, 872
# of 8 words: a page (a row of a bank), where its parts begin; of requests whose row is being opened also the arrival
# and a cycle before which no command for it may be issued; of pages how many were served and are left, and a ring of
# their arrivals
PAGE, BANK_AT, GROUP_AT, PSEUDO_AT, FIRST, SOONEST = range(6)
SERVED, LEFT, ARRIVALS = 6, 7, 8
WANTS, WANT_WORDS = 1160, ARRIVALS + MOST_REQUESTS
WORDS = WANTS + WANT_WORDS * MOST_REQUESTS
RANK_ARRIVAL, RANK_DELAY, LAST_RANK = 5, 45, 1 << 62  # first bits of a rank's fields: place, arrival, delay


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
    idle[DEPARTS] = idle[READY] = idle[WAITING_AT] = NEVER
    idle[LIVE : LIVE + MOST_REQUESTS] = range(WANTS, WORDS, WANT_WORDS)  # the first READING of them are in use
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
