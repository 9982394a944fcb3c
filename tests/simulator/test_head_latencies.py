"""The latencies that SpAtten's closed form adds up are those that the pipeline of heads lets each stage take."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.spatten import fetches, stream_heads
from cascadesim.accelerators.spatten import head_latencies as sums
from cascadesim.accelerators.spatten.spec import REQUEST_BYTES, STANDARDS
from cascadesim.simulator import heads, heads_back, heads_fetch, heads_front, heads_return
from cascadesim.simulator.dram_standards import standard

REGISTER = 1


def test_from_the_fork_to_dram() -> None:
    """A register and those of the indexes, the splitter, the FIFO of a fetch channel, then the crossbar."""
    indexes = REGISTER + heads_front.INDEX_CYCLES
    assert indexes + heads_fetch.SPLIT_CYCLES + heads_fetch.FIFO_CYCLES + REGISTER == sums.REQUEST_CYCLES


def test_from_dram_to_the_products() -> None:
    """FIFO of answers, the register of a beat, the realigner, then the response; from there the line is readable."""
    written = heads_fetch.FIFO_CYCLES + REGISTER + REGISTER + heads_return.RESPONSE_CYCLES
    assert written == sums.WRITTEN_CYCLES
    assert written + heads_front.READABLE_CYCLES == sums.RESPONSE_CYCLES
    assert REGISTER + heads_front.FIRST_READ_CYCLES == sums.READ_AGAIN_CYCLES
    assert heads_front.RETRY_CYCLES == sums.RETRY_CYCLES
    assert heads_return.TRANSACTION_BITS == sums.SLOT_BITS


def test_from_the_products_to_the_result() -> None:
    assert heads_front.REPORT_CYCLES == sums.REPORT_CYCLES
    assert heads_front.AGAIN_CYCLES == sums.RETURN_CYCLES
    assert heads_front.FREE_CYCLES + REGISTER == sums.ADMIT_CYCLES
    assert heads_front.ORDER_CYCLES == sums.ORDER_CYCLES
    assert heads_back.PASS_CYCLES == sums.PASS_CYCLES
    assert heads_back.SELECT_CYCLES == sums.SELECT_CYCLES
    assert heads_back.FIRST_READ_CYCLES == sums.FIRST_VALUE_CYCLES
    assert heads_back.RESULT_CYCLES == sums.RESULT_CYCLES
    last = heads_back.LINE_CYCLES - 1  # after the probability that completes an address line
    assert last + heads_fetch.SPLIT_CYCLES + heads_fetch.FIFO_CYCLES + REGISTER == sums.VALUE_CYCLES


@pytest.mark.parametrize("mode", STANDARDS)
def test_of_dram(mode: str) -> None:
    """A read leaves its controller one cycle after its data, and is seen one cycle later."""
    one = standard(STANDARDS[mode])
    assert one.read_latency + 2 == sums.READ_CYCLES[one.name]
    assert one.timing("pseudo_channel", "RD", "RD") == sums.BURST_CYCLES[one.name]
    assert one.timing("bank", "ACT", "RD") == sums.OPEN_CYCLES
    assert one.timing("bank", "PRE", "ACT") == sums.CLOSE_CYCLES
    assert one.pseudo_channels == 2
    assert 1 << one.column_low_bit == one.request_bytes << fetches.PAGE_BITS == stream_heads.PAGE_BYTES


def test_where_the_harness_places_heads() -> None:
    assert heads.BETWEEN == heads.LOW_AT - heads.KEYS_AT == stream_heads.BLOCK_BYTES
    assert heads.BETWEEN == REQUEST_BYTES << fetches.SHARED_BITS
    assert (heads.VALUES_AT - heads.KEYS_AT) // heads.BETWEEN > stream_heads.APART_BLOCKS
