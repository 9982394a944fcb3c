"""SpAtten's plans: cycles counted by hand, kinds of layers, what many queries share, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Plan, Prepares, problems
from cascadesim.accelerators.spatten.accelerator import Heads, Spatten
from cascadesim.accelerators.spatten.rtl.run import run_heads
from cascadesim.accelerators.spatten.spec import HeadStream
from cascadesim.accelerators.spatten.topk import selection_mean
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, UnknownNameError
from cascadesim.einsum_cascades.texts import find
from cascadesim.einsum_cascades.texts.pruned_attention import LOCAL_VALUE_PRUNING_1PASS
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS
from cascadesim.simulator.engine.engine import run

MODES = ["rtl", "nominal"]
PAIRED = ("formats.key_bits=6", "formats.value_bits=6", "formats.low_bit_share=0", "pruning.schedule=none")


def machine(name: str = "spatten-1-8", *changes: str) -> Spatten:
    found = load(name, changes)
    assert isinstance(found, Spatten)
    return found


def attention(heads: int, keys: int, queries: int = 1, group: int = 1, depth: int = 64, kept: int = 0) -> Operation:
    extents = {"b": 1, "h": heads, "g": group, "m": keys, "p": queries, "e": depth, "f": depth, "k": kept or keys}
    return Operation("attention", "attention", ATTENTION_3PASS, tuple(extents.items()))


def busy(plan: Plan) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in plan.phases[0].activities:
        found[one.unit] = found.get(one.unit, 0) + one.cycles
    return found


def cycles(plan: Plan) -> int:
    (phase,) = plan.phases
    if phase.model is not None:
        return phase.model().run()
    assert phase.program is not None
    return run(phase.program()).cycles


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


def test_one_query_of_six_heads() -> None:
    """512 keys and values of 64 bytes: 2 x 512 x 2 transactions a head, 2 channels, each one in 2 cycles: 2048 cycles.
    A vector a line: 512 lines for each product; no top-k, because all values are used. DRAM bounds."""
    plan = machine("spatten-1-8", "formats.low_bit_share=0").plan(attention(6, 512), "physical")
    assert busy(plan) == {"dram": 6 * 2048, "multiply_qk": 6 * 512, "softmax": 6 * 512, "multiply_pv": 6 * 512}
    assert plan.traffic.read_bytes == 6 * 2048 * 32
    (phase,) = plan.phases
    assert phase.model is not None
    assert phase.analytical_cycles == 6 * 2048 < cycles(plan)


def test_low_bits_are_one_more_transaction_and_one_more_pass() -> None:
    plan = machine().plan(attention(6, 512), "physical")  # all heads fetch them
    assert busy(plan)["dram"] == 6 * (2048 + 512)
    assert busy(plan)["multiply_qk"] == 6 * 2 * 512


def test_nominal_bandwidth_is_twice_what_the_rtl_gets() -> None:
    slow, fast = (machine("spatten-1-8", f"dram.mode={mode}").plan(attention(2, 256), "physical")
                  for mode in ("rtl", "nominal"))  # fmt: skip
    assert busy(slow)["dram"] == 2 * busy(fast)["dram"]
    assert "at most 32 bytes a cycle" in " ".join(slow.mapping)
    assert cycles(fast) < cycles(slow)


def test_many_queries_share_one_load() -> None:
    """128 queries over 128 keys on 512 multipliers: 8 vectors a line, 16 lines a query and product; keys and values
    of 8 + 8 bits once: 128 x 4 transactions on 16 channels, each one in 2 cycles."""
    plan = machine("spatten", "formats.low_bit_share=0").plan(attention(1, 128, queries=128), "physical")
    assert busy(plan) == {"dram": 64, "multiply_qk": 2048, "softmax": 2048, "multiply_pv": 2048}
    assert plan.phases[0].model is None
    assert 2048 <= cycles(plan) <= 2048 + 64 + 64  # one load before, the pipeline's depth after


def test_a_softmax_pipeline_delays_the_first_probabilities_of_a_load() -> None:
    """87 cycles and the 16 lines of a query, before which no sum is complete; the units are as busy."""
    through, pipeline = (
        machine("spatten", f"softmax_model={model}").plan(attention(1, 128, queries=128), "physical")
        for model in ("pass-through", "pipeline")
    )
    assert busy(pipeline) == busy(through)
    assert cycles(pipeline) == cycles(through) + 87 + 16
    assert any("softmax takes 87 cycles" in line for line in pipeline.mapping)


def test_query_heads_that_share_keys_stream_over_one_load() -> None:
    alone, shared = (machine("spatten").plan(attention(8, 256, group=group), "physical") for group in (1, 4))
    assert 4 * busy(shared)["dram"] == busy(alone)["dram"]
    assert busy(shared)["multiply_qk"] == busy(alone)["multiply_qk"]


def test_a_head_of_128_is_two_lanes() -> None:
    wide, narrow = (machine("spatten").plan(attention(heads, 256, depth=depth), "physical")
                    for heads, depth in ((4, 128), (8, 64)))  # fmt: skip
    assert busy(wide) == busy(narrow)
    assert "a head is 2 lanes of 64 elements" in wide.mapping


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


def test_few_lanes_bound_the_closed_form() -> None:
    """256 keys and values of 8 bits, two lines of 8 a query in parallel: a transaction a cycle and fetch channel, a
    score a cycle and softmax lane."""
    one = ("formats.low_bit_share=0", "fetch_channels=1")
    assert busy(machine("spatten", *one).plan(attention(1, 256), "physical"))["dram"] == 256 * (2 + 2)
    assert busy(machine("spatten", *one).plan(attention(1, 256), "physical"))["softmax"] == 256
    lanes = machine("spatten", "softmax_lanes=2", "formats.low_bit_share=0").plan(attention(1, 256, 10), "physical")
    assert busy(lanes)["softmax"] == 10 * 256 // 2
    assert busy(lanes)["multiply_qk"] == 10 * 256 // 8


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


def test_values_are_chosen_at_the_mean_latency_of_the_engine() -> None:
    plan = machine().plan(attention(2, 100, kept=30), "physical")
    assert busy(plan)["top_k"] == 2 * round(selection_mean(100, 30, 16))


def test_nothing_is_selected_where_all_values_are_fetched() -> None:
    """130 keys and 129 values are both fetched as 160: the pipeline of single queries passes the engine by."""
    assert "top_k" not in busy(machine("spatten").plan(attention(1, 130, kept=129), "physical"))
    assert "top_k" in busy(machine("spatten").plan(attention(1, 130, kept=128), "physical"))


def test_the_closed_form_of_long_selections_meets_the_exact_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 6 of the RTL's description: about 2n(1 + h) / T + 3.5 I; here within 5 % where both are known."""
    exact = selection_mean(2048, 500, 16)
    monkeypatch.setattr("cascadesim.accelerators.spatten.timing.LARGEST_TABLE", 0)
    assert selection_mean(2048, 500, 16) == pytest.approx(exact, rel=0.05)


def test_gpt_2_medium_has_seven_kinds_of_layers() -> None:
    """Workload file of mit-han-lab/spatten: 1024, 921, 819, 614, 307 tokens by layers; 16, 13, 10 heads."""
    operations = load_workload("gpt2-medium").operations(
        sequence_length=1024, batch=None, phase="decode", scope="model", attention="attention-3pass"
    )
    found = machine("spatten")
    assert isinstance(found, Prepares)
    prepared, work = found.prepared(tuple(operations), "gpt-2-medium")
    layers = [one for one in work if one.kind == "attention"]
    assert [(one.layer, one.count, one.extent("m"), one.extent("h"), one.extent("k")) for one in layers] == [
        ("decoder:0-1", 2, 1024, 16, 307), ("decoder:2", 1, 921, 16, 276), ("decoder:3-4", 2, 819, 16, 245),
        ("decoder:5-10", 6, 614, 16, 184), ("decoder:11-15", 5, 307, 16, 92), ("decoder:16-21", 6, 307, 13, 92),
        ("decoder:22-23", 2, 307, 10, 92),
    ]  # fmt: skip
    assert "gpt-2-medium" in prepared.plan(layers[0], "physical").mapping[0]
    assert [one for one in work if one.kind != "attention"] == [one for one in operations if one.kind != "attention"]


def test_shares_replace_what_the_schedule_says() -> None:
    found = machine("spatten", "pruning.schedule=none", "pruning.token_keep=0.5", "pruning.head_keep=0.75",
                    "pruning.value_keep=0.25")  # fmt: skip
    _, (only,) = found.prepared((attention(16, 1024),), "gpt-2-medium")
    assert [only.extent(rank) for rank in "mhk"] == [512, 12, 128]


def test_pruning_makes_dropped_tokens_ask_nothing_in_prefill() -> None:
    found = machine("spatten", "pruning.schedule=none", "pruning.token_keep=0.5")
    _, (only,) = found.prepared((attention(16, 128, queries=128),), "bert-base")
    assert only.extent("p") == only.extent("m") == 64


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 300),
    st.integers(1, 6),
    st.sampled_from([4, 8]),
    st.sampled_from([1, 2, 16]),
    st.data(),
)
def test_cycles_never_fall_when_work_grows_or_the_machine_shrinks(
    heads: int, keys: int, queries: int, bits: int, channels: int, data: st.DataObject
) -> None:  # fmt: skip
    kept = data.draw(st.integers(1, keys))

    def cycles_of(work: Operation, *changes: str) -> float:
        """Of single queries the busiest unit: addresses decide how evenly channels are used, and that a few cycles."""
        own = (f"dram.channels={channels}", f"formats.key_bits={bits}", *changes)
        plan = machine("spatten", *own).plan(work, "physical")
        return plan.phases[0].analytical_cycles if queries > 1 else max(busy(plan).values())

    work = attention(heads, keys, queries, kept=kept)
    least = cycles_of(work)
    for larger in (attention(heads + 1, keys, queries, kept=kept), attention(heads, keys, queries + 1, kept=kept)):
        assert cycles_of(larger) >= least
    unpruned = attention(heads, keys, queries)
    assert cycles_of(attention(heads, keys + 1, queries)) >= cycles_of(unpruned)
    assert cycles_of(work, "formats.key_bits=8") >= least
    for smaller in ("multipliers=256", "topk_parallelism=4", f"dram.channels={channels // 2 or 1}"):
        assert cycles_of(work, smaller) >= least


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 300), st.sampled_from([1, 2, 16]), st.data())
def test_more_heads_of_one_query_take_longer(heads: int, keys: int, channels: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, keys))
    few, more = (
        machine("spatten", f"dram.channels={channels}").plan(attention(count, keys, kept=kept), "physical")
        for count in (heads, heads + 1)
    )
    assert more.phases[0].analytical_cycles > few.phases[0].analytical_cycles


def test_an_odd_number_of_lines_is_refused() -> None:
    """2048 multipliers: a line holds 32 vectors, and 96 keys fill three."""
    with pytest.raises(CascadeSimError, match=r"96 keys or values fill 3 buffer lines .* count_multiple must be 64"):
        machine("spatten", "multipliers=2048").plan(attention(1, 96), "physical")
    assert machine("spatten", "multipliers=2048").plan(attention(1, 96, queries=2), "physical").phases


def test_beats_that_do_not_fill_lines_are_refused() -> None:
    """1024 multipliers: 32 vectors in two lines; two fetch channels bring 344 of 352, 32 channels all."""
    sizes = ("multipliers=1024", "count_multiple=8", "fetch_channels=2")
    with pytest.raises(CascadeSimError, match=r"339 keys or values fill 22 buffer lines .* count_multiple must be 32"):
        machine("spatten", *sizes).plan(attention(1, 339), "physical")
    assert machine("spatten", *sizes[:2]).plan(attention(1, 339), "physical").phases


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 200), st.sampled_from([1, 3]), st.data())
def test_the_cycle_level_is_never_shorter(heads: int, keys: int, queries: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, keys))
    key_bits, value_bits = data.draw(st.sampled_from([(4, 4), (6, 6), (6, 8), (8, 8)]))
    changes = (
        f"dram.channels={data.draw(st.sampled_from([1, 2, 16]))}", f"dram.mode={data.draw(st.sampled_from(MODES))}",
        f"topk_parallelism={data.draw(st.sampled_from([1, 16]))}", f"formats.key_bits={key_bits}",
        f"softmax_model={data.draw(st.sampled_from(['pass-through', 'pipeline']))}", f"formats.value_bits={value_bits}",
        f"topk_model={data.draw(st.sampled_from(['latency-model', 'engine']))}",
        f"formats.low_bit_share={data.draw(st.sampled_from([0, 0.3, 1]))}",
    )  # fmt: skip
    for name in ("spatten", "spatten-1-8"):
        plan = machine(name, *changes).plan(attention(heads, keys, queries, kept=kept), "physical")
        assert cycles(plan) >= plan.phases[0].analytical_cycles


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


def test_published_figures_hold_for_the_published_size_only() -> None:
    areas = machine("spatten").area_um2()
    assert areas is not None
    assert sum(areas.values()) == pytest.approx(18.71e6)  # HPCA 2021: 18.71 mm^2
    assert machine("spatten", "multipliers=256").area_um2() is None
    plan = machine("spatten").plan(attention(1, 64), "physical")
    assert plan.dynamic_energy_j is not None
    assert plan.dynamic_energy_j["dram"] == pytest.approx(plan.traffic.read_bytes * 8 * 3.9e-12)
    assert machine("spatten-1-8").plan(attention(1, 64), "physical").dynamic_energy_j is None


def test_what_it_cannot_run_is_refused() -> None:
    tiled = attention(1, 64).with_cascade(LOCAL_VALUE_PRUNING_1PASS)
    with pytest.raises(CascadeSimError, match="walks keys in tiles; spatten does so in attention-1pass"):
        machine().plan(tiled, "physical")
    with pytest.raises(CascadeSimError, match="no artifact accounting"):
        machine().plan(attention(1, 64), "artifact")
    with pytest.raises(UnknownNameError, match="did you mean 'bert-base'"):
        machine("spatten", "pruning.schedule=bert-bass").prepared((attention(1, 64),), "x")
    with pytest.raises(SpecError, match=r"multipliers \(100\) must be a multiple of head_dim"):
        machine("spatten", "multipliers=100")
    with pytest.raises(SpecError, match="two heads share a fetch"):
        machine("spatten", "formats.value_bits=6")


def test_reports_say_the_bandwidth_mode_and_the_schedule() -> None:
    """16 channels of 32 bytes every second cycle at 1 GHz: 256 GB/s; nominal 512 (HPCA 2021)."""
    found = machine("spatten", "dram.mode=nominal")
    assert machine("spatten").notes(1024) == ("DRAM mode rtl: at most 256 GB/s; heads run as lanes of 64 elements",)
    prepared, _ = found.prepared((), "gpt-2-small")
    assert prepared.notes(1024)[0].startswith("DRAM mode nominal: at most 512 GB/s")
    assert prepared.notes(1024)[1].startswith("pruning schedule gpt-2-small")


def test_beyond_its_context_a_schedule_keeps_shares_and_says_so() -> None:
    """gpt-2-small keeps 20 % of 1,024 tokens in layer 2; of 4,096 tokens that is 819, not 204."""
    prepared, work = machine("spatten").prepared((replace(attention(12, 4096), count=12),), "gpt-2-small")
    assert dict(work[2].extents)["m"] == 819
    assert "for contexts of 1,024 tokens: of 4,096 each layer keeps the same shares" in prepared.notes(4096)[-1]
    assert len(prepared.notes(1024)) == len(prepared.notes(4096)) - 1


def test_what_replaces_a_schedule_is_named_beside_it() -> None:
    prepared, _ = machine("spatten", "pruning.token_keep=0.5").prepared((), "gpt-2-small")
    assert prepared.notes(4096)[1].endswith("with token_keep 0.5 in place of its own")
    assert len(prepared.notes(4096)) == 2


@pytest.mark.parametrize("schedule", ["published", "none"])
@pytest.mark.parametrize("cascade", ["attention-3pass", "attention-1pass", "pruned-1pass"])
def test_operations_are_those_of_the_cascade_with_what_each_layer_keeps(schedule: str, cascade: str) -> None:
    found = machine("spatten", f"pruning.schedule={schedule}")
    given = replace(attention(12, 200), cascade=find(cascade), count=12)
    prepared, work = found.prepared((given,), "bert-base")
    for operation in work:
        plan = prepared.plan(operation, "physical")
        assert list(problems(plan, prepared)) == []
        size = dict(operation.extents)
        assert f"kept: {size['h']} heads, {size['m']} tokens" in plan.mapping[1]
    assert schedule == "published" or dict(work[0].extents)["m"] == 200


def test_too_many_single_queries_run_as_loads() -> None:
    """Beyond 16,384 heads the engine takes the loads at peak bandwidth: closer to the closed form than the pipeline."""
    few, many = (machine("spatten").plan(attention(heads, 64), "physical") for heads in (64, 16_448))
    assert few.phases[0].model is not None
    assert many.phases[0].model is None
    assert any("loads through the engine" in line for line in many.mapping)
    assert many.phases[0].analytical_cycles <= cycles(many)
    assert cycles(many) / 16_448 <= cycles(few) / 64
