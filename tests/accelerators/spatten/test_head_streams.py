"""Streams of heads: one or two at a time, cut into pieces where they do not fit the key buffer or where that is faster,
in pairs of six bits. Each piece takes its share of the choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spatten_plans import attention, busy, cycles, machine

from cascadesim.accelerators.protocol import Plan
from cascadesim.accelerators.spatten.accelerator import Heads
from cascadesim.accelerators.spatten.rtl.run import run_heads
from cascadesim.accelerators.spatten.spec import HeadStream
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

PAIRED = ("formats.key_bits=6", "formats.value_bits=6", "formats.low_bit_share=0", "pruning.schedule=none")


@dataclass(frozen=True)
class Taken:
    """A schedule that only says how long it is."""

    cycles: int


def streams(plan: Plan) -> Iterator[HeadStream]:
    assert plan.phases[0].model is not None
    model = plan.phases[0].model()
    assert isinstance(model, Heads)
    return model.streams()


def in_the_whole_buffer(plan: Plan) -> list[HeadStream]:
    """The streams that have the whole key buffer: the RTL's, then each cut of it."""
    found = list(streams(plan))
    return [stream for stream in found if stream.design.buffer_lines == found[0].design.buffer_lines]


def test_keys_beyond_the_buffer_are_cut_and_said_so() -> None:
    """8192 keys, 2048 fit: 8 pieces of half a buffer; as much work as 8 heads of 1024."""
    long, short = (
        machine("spatten").plan(attention(heads, keys), "physical") for heads, keys in ((1, 8192), (8, 1024))
    )
    assert busy(long) == busy(short)
    beyond = "keys beyond half a buffer are cut into pieces; their results are rescaled and added"
    assert beyond in long.mapping
    assert beyond not in short.mapping


@pytest.mark.parametrize(("whole", "used"), [(40400, 40400), (40401, 40000)])
def test_another_order_must_gain_more_than_one_percent(
    monkeypatch: pytest.MonkeyPatch, whole: int, used: int
) -> None:
    """200 keys on 64 multipliers: the RTL's stream first, then pieces of 8, 16, 32, 64 and 128 keys; each as many at a
    time as fit, or one, or two. (2,048 lines hold more than three of each.)"""
    taken = iter((whole, *range(50000, 50010), 40000, *range(60000, 60006)))
    monkeypatch.setattr("cascadesim.accelerators.spatten.rtl.run.run_heads", lambda stream: Taken(next(taken)))
    assert cycles(machine().plan(attention(1, 200), "physical")) == used
    assert list(taken) == []


@pytest.mark.parametrize(("whole", "used"), [(1200, 1200), (1201, 1000)])
def test_another_order_must_gain_more_than_the_depth_of_a_head(
    monkeypatch: pytest.MonkeyPatch, whole: int, used: int
) -> None:
    """16 keys of 2,048 lines are cut in two; as above, and 200 cycles are what a head takes beside its keys."""
    taken = iter((whole, 1000, 1300, 1300, 1300, 1300))
    monkeypatch.setattr("cascadesim.accelerators.spatten.rtl.run.run_heads", lambda stream: Taken(next(taken)))
    assert cycles(machine().plan(attention(1, 16), "physical")) == used
    assert list(taken) == []


def test_one_or_two_heads_at_a_time_where_there_is_room_for_more() -> None:
    """64 keys are 64 lines of one vector, a pair of 6 bits twice as many."""
    own = ("formats.low_bit_share=0", "pruning.schedule=none")
    for lines, held in ((100, [100]), (128, [128, 64]), (191, [191, 64]), (192, [192, 64, 128])):
        plan = machine("spatten-1-8", f"buffer_lines={lines}", *own).plan(attention(4, 64), "physical")
        assert [one.design.buffer_lines for one in streams(plan) if one.rows[0].keys == 64] == held
    many = machine("spatten-1-8", *own).plan(attention(2049, 8), "physical")  # each order would take too long
    assert len(list(streams(many))) == 1
    paired = machine("spatten-1-8", "buffer_lines=300", *PAIRED).plan(attention(4, 64), "physical")
    assert [one.design.buffer_lines for one in streams(paired) if one.rows[0].keys == 64] == [300, 128]


def test_loads_of_many_queries_take_turns_in_the_buffer() -> None:
    """2,048 keys fit: two loads of 1,024, but not two of 1,100; a single query's 1,100 stay whole."""
    beyond = "keys beyond half a buffer are cut into pieces; their results are rescaled and added"
    found = {(keys, queries): beyond in machine("spatten").plan(attention(1, keys, queries), "physical").mapping
             for keys, queries in ((1024, 2), (1100, 2), (1100, 1))}  # fmt: skip
    assert found == {(1024, 2): False, (1100, 2): True, (1100, 1): False}
    pair = machine("spatten", "formats.key_bits=6").plan(attention(2, 1100), "physical")
    assert beyond in pair.mapping  # two heads of 6 bits share a fetch, and the buffer


def test_idle_lanes_change_nothing_in_a_stream() -> None:
    """Nor where keys lie: the harness lays them out by the fetch channels in use."""
    plain, more = (next(streams(machine("spatten-1-8", *sizes).plan(attention(2, 200), "physical")))
                   for sizes in ((), ("fetch_channels=64", "softmax_lanes=8")))  # fmt: skip
    assert plain == more


def test_a_head_is_cut_where_that_is_faster_so_that_a_larger_buffer_is_not_slower() -> None:
    """3,000 keys, 64 multipliers, all channels: whole, no value meets its probability before the last score is there,
    2 x 3,000 lines; half as many keys at a time, the second product of one half runs beside the first of the other."""
    small, large = (
        machine("spatten-1-8", "dram.channels=16", f"buffer_lines={lines}").plan(attention(1, 3000), "physical")
        for lines in (2048, 4096)
    )
    assert cycles(large) <= cycles(small) * 1.01
    published, *_ = (run_heads(stream).cycles for stream in streams(large))
    assert published > 3 * 3000 > cycles(large) > 2 * 3000  # low bits: two passes over all keys, and the values
    assert any("cut into 8 to 2048 keys" in line for line in large.mapping)


def test_a_cut_that_gains_hardly_anything_is_left_to_the_rtl() -> None:
    """384 equal heads, of which only the last one's values have nothing beside them."""
    plan = machine("spatten-1-8").plan(attention(48, 256), "physical")
    published, *others = (run_heads(stream).cycles for stream in streams(plan))
    assert cycles(plan) == published <= 1.01 * min(others)


FORMATS = [(4, 4, 0), (6, 6, 0), (6, 8, 0), (8, 8, 0), (8, 8, 1)]  # 10 and 12 bits run as 8 and always 4 more


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(8, 200), st.sampled_from([0.5, 0.8, 0.98, 1]), st.integers(1, 4),
       st.sampled_from(FORMATS), st.sampled_from([64, 128, 512]))  # fmt: skip
@example(1, 67, 0.5, 1, (6, 6, 0), 512)  # both that follow
@example(1, 192, 0.5, 1, (6, 6, 0), 512)  # pieces of one head as a pair, of which the second chose in no time
@example(4, 120, 0.98, 1, (4, 4, 0), 64)  # pieces that keep all they fetch, and chose nothing
def test_no_cut_is_shorter_than_the_closed_form_where_the_choice_takes_longest(
    heads: int, keys: int, share: float, comparators: int, formats: tuple[int, int, float], multipliers: int
) -> None:
    """Few comparators, the fastest memory: the busiest unit is the top-k engine, and cuts run their stages at once."""
    key_bits, value_bits, low = formats
    changes = (f"multipliers={multipliers}", f"count_multiple={max(8, multipliers // 16)}", "dram.mode=nominal",
               f"topk_parallelism={comparators}", f"formats.key_bits={key_bits}", f"formats.value_bits={value_bits}",
               f"formats.low_bit_share={low}", "pruning.schedule=none")  # fmt: skip
    plan = machine("spatten", *changes).plan(attention(heads, keys, kept=int(share * keys)), "physical")
    assert cycles(plan) >= plan.phases[0].analytical_cycles


def test_a_head_without_a_partner_is_cut_into_pieces_that_have_none_either() -> None:
    """33 of 67 keys, one comparator: 227 cycles of choice. Pieces of 32, 32 and 3 keys take their shares of it, 109,
    109 and 11, one after another, and 8 bits as the head itself, which has no other to share a fetch with. (As a pair
    of 6 bits, the second would choose in no time: 224 cycles in all.)"""
    own = ("dram.mode=nominal", "topk_parallelism=1", *PAIRED)
    plan = machine("spatten", *own).plan(attention(1, 67, kept=33), "physical")
    whole, *cuts = in_the_whole_buffer(plan)
    assert [row.selection_cycles for row in whole.rows] == [busy(plan)["top_k"]] == [227]
    choices = {tuple((row.keys, row.selection_cycles, row.key_bits) for row in cut.rows) for cut in cuts}
    assert ((32, 109, 8), (32, 109, 8), (3, 11, 8)) in choices
    assert cycles(plan) >= 109 + 109 + 11


def test_a_third_head_of_six_bits_is_cut_alone() -> None:
    """Three heads of 64 keys in halves: two pairs of pieces share a fetch and a choice, two pieces have their own."""
    plan = machine("spatten", "topk_parallelism=1", *PAIRED).plan(attention(3, 64, kept=32), "physical")
    _, halves = in_the_whole_buffer(plan)
    assert [row.key_bits for row in halves.rows] == [6, 6, 6, 6, 8, 8]
    each = halves.rows[0].selection_cycles
    assert [row.selection_cycles for row in halves.rows] == [each, 0, each, 0, each, each]
    assert busy(plan)["top_k"] <= 4 * each < busy(plan)["top_k"] + 4


def test_a_buffer_too_small_for_a_pair_is_refused_in_one_line() -> None:
    """48 lines of a vector: two heads of 32 keys, the least, do not fit; one that is alone runs at 8 bits."""
    small = machine("spatten-1-8", "buffer_lines=48", "count_multiple=32", *PAIRED)
    with pytest.raises(CascadeSimError, match=r"^two heads of 6 bits, of 32 keys each, .* the buffer holds 48 keys$"):
        small.plan(attention(2, 20), "physical")
    assert cycles(small.plan(attention(1, 20), "physical")) > 0


def test_pieces_whose_values_are_rounded_up_to_all_their_keys_still_take_their_share_of_the_choice() -> None:
    """60 of 64 keys: 60 of 64 values are fetched, but of a piece of 8 keys all 8, of 16 keys all 16, and so on."""
    plan = machine("spatten-1-8", "topk_parallelism=1", "count_multiple=4", "formats.low_bit_share=0",
                   "pruning.schedule=none").plan(attention(1, 64, kept=60), "physical")  # fmt: skip
    whole, *cuts = in_the_whole_buffer(plan)
    assert whole.rows[0].selects(whole.design)
    assert [cut.rows[0].values for cut in cuts] == [4, 8, 15, 30]
    for cut in cuts:
        assert all(row.selects(cut.design) for row in cut.rows)
        assert sum(row.selection_cycles for row in cut.rows) >= busy(plan)["top_k"] == whole.rows[0].selection_cycles
        assert run_heads(cut).cycles > busy(plan)["top_k"]


def test_a_head_whose_values_are_rounded_up_to_all_its_keys_chooses_nothing() -> None:
    """65 of 67 keys: 72 of 72."""
    plan = machine("spatten-1-8", "topk_parallelism=1", "pruning.schedule=none").plan(
        attention(1, 67, kept=65), "physical")  # fmt: skip
    assert "top_k" not in busy(plan)
    assert not any(row.selects(cut.design) for cut in streams(plan) for row in cut.rows)
