"""The answer about a neighborhood as tables that a person reads; plain text where the stream is no terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cascadesim.einsum_cascades.sparsity.masks import times
from cascadesim.simulator.gna.comparison import PatternComparison
from cascadesim.simulator.gna.neighborhood import Mode
from cascadesim.simulator.gna.pattern_report import PatternAnswer
from cascadesim.simulator.gna.recommend import Recommendation
from cascadesim.simulator.gna.report import Answer, Scenario
from cascadesim.simulator.views import output as say
from cascadesim.simulator.views.output import console, figures_table, print_styled, table

_MODES: Mapping[Mode, str] = {
    "multidim_static": "multi-dimensional, fixed grid", "multidim_dynamic": "multi-dimensional, from first key",
    "flat_union": "flattened, tiles with a key", "flat_span": "flattened, first to last key",
}  # fmt: skip


def print_answer(answer: Answer | PatternAnswer | PatternComparison, stream: TextIO) -> None:
    """Tables of the answer, as wide as the terminal of `stream`."""
    on = console(stream)
    if isinstance(answer, PatternComparison):
        _print_comparison(answer, on)
        return
    if isinstance(answer, PatternAnswer):
        tiles = f"{answer.tokens:,} tokens, tiles of {answer.query_tile} queries and {answer.key_tile} keys"
        print_styled(Text(f"{answer.name}: {tiles}", style="bold"), on)
        print_styled(figures_table(_pattern_rows(answer)), on)
        return
    question = answer.question
    print_styled(Text(f"{str(question.pattern).capitalize()}; tiles {question.tiles}", style="bold"), on)
    tables = [figures_table(_figure_rows(answer)), _modes(answer)]
    if answer.recommendations:
        title = "Strides on these tiles: finest first, each faster than all before"
        tables.append(_options(title, answer.recommendations, answer.scenario))
    tables += [_options(f"Other {name}: nearest first", options, answer.scenario)
               for name, options in answer.alternatives.items()]
    for number, each in enumerate(tables):
        if number > 0:
            on.print()
        print_styled(each, on)
    for line in answer.advice:
        print_styled(Text(f"! {line}", style="yellow"), on)


def _print_comparison(found: PatternComparison, on: Console) -> None:
    """A line for each pattern, and which have no time, with why."""
    title = (f"{found.density:.0%} of the {'causal ' * found.causal}pairs of {found.tokens:,} tokens on "
             f"{found.device}: {found.paying} of {len(found.answers)} patterns pay")
    print_styled(Text(title, style="bold"), on)
    columns = ("pattern", "bound", "kernel ms", "choice", "moves", "speedup")
    shown = table("Fastest first, against dense attention", columns, gap=2)
    for answer in found.answers:
        if (prediction := answer.prediction) is not None:
            found_s = prediction.times
            parts = (found_s.kernel_s, found_s.choice_s, found_s.permute_s)
            shown.add_row(answer.name, f"{answer.mean_bound:.2f}x", *(f"{1e3 * seconds:.2f}" for seconds in parts),
                          f"{found_s.speedup:.2f}x")  # fmt: skip
    print_styled(shown, on)
    for name, why in found.refused.items():
        print_styled(Text(f"! {name}: {why}", style="yellow"), on)


def _pattern_rows(answer: PatternAnswer) -> Iterator[tuple[str, str, str]]:
    causal = " causal" if answer.causal else ""
    skipped = f"{answer.sparsity:.1%} of all{causal} pairs are skipped"
    yield "attended pairs", say.count(answer.attended_pairs), skipped
    yield "FLOP bound", f"{answer.flop_bound:.2f}x", f"dense{causal} work over attended work"
    yield "mean bound", f"{answer.mean_bound:.2f}x", f"{answer.efficiency:.0%} of the work in visited tiles is useful"
    yield "worst bound", f"{answer.worst_bound:.2f}x", f"one query tile visits {answer.largest:,.1f} key tiles"
    yield "masked tiles", f"{answer.partial / answer.visited:.1%}", f"of {answer.visited:,.0f} visited"
    if answer.choice_flops:
        chosen = f"choosing takes {say.count(answer.choice_flops)}FLOP a head"
        yield "with the choice", f"{answer.bound_with_choice:.2f}x", chosen
    if (found := answer.prediction) is not None:
        took = found.times
        yield f"on {took.device}", say.seconds(took.total_s).strip(), (
            f"predicted: attention {say.seconds(took.kernel_s)}, choice {say.seconds(took.choice_s)}, moved rows "
            f"{say.seconds(took.permute_s)}, dense{causal} {say.seconds(took.dense_s)}: {took.speedup:.2f}x "
            f"({took.kernel_speedup:.2f}x for the kernel alone)")
        yield "promised", say.seconds(found.promised_s).strip(), f"dense{causal} time over the FLOP bound; the gap is"
        for part, seconds in found.gap_s.items():
            yield f"  {part}", say.seconds(seconds).strip(), f"{seconds / (took.total_s - found.promised_s):.0%} of it"


def _figure_rows(answer: Answer) -> Iterator[tuple[str, str, str]]:
    question = answer.question
    extra = f", each query sees {question.extra_keys:,} further keys" if question.extra_keys else ""
    skipped = f"{question.sparsity:.1%} of all pairs are skipped{extra}"
    yield "attended pairs", say.count(question.attended_pairs), skipped
    yield "FLOP bound", f"{question.flop_bound:.2f}x", "dense work over attended work"
    yield "block-sparse", "yes" if question.block_sparse else "no", (
        "no visited tile needs a mask" if question.block_sparse else "some visited tiles are partly masked")
    prediction = answer.prediction
    if prediction is not None:
        yield f"on {prediction.device}", say.seconds(prediction.total_s).strip(), (
            f"predicted: kernel {say.seconds(prediction.kernel_s)}, token permutation "
            f"{say.seconds(prediction.permute_s)}, dense {say.seconds(prediction.dense_s)}: "
            f"{prediction.speedup:.2f}x ({prediction.kernel_speedup:.2f}x without permutation)")
    if answer.end_to_end is not None:
        figures = ", ".join(f"{value:.2f}x {name.replace('_', ' ')}" for name, value in answer.end_to_end.items())
        patterns = len(answer.scenario.also) + 1
        yield "end to end", "", figures if patterns == 1 else f"{figures}, over the layers of {patterns} patterns"


def _modes(answer: Answer) -> Table:
    shown = table("Speedup over dense attention on the same tiles",
                  ("tiling", "bound", "mean", "tiles", "most", "useful"), gap=2)  # fmt: skip
    bounds = {_MODES[mode]: bound for mode, bound in answer.modes.items()}
    for name, bound in {**bounds, "backward: query tiles per key tile": answer.backward}.items():
        shown.add_row(name, f"{bound.worst:.2f}x", f"{bound.mean:.2f}x", say.whole(bound.total),
                      say.whole(bound.largest), f"{bound.efficiency:.0%}")
    return shown


def _options(title: str, options: Sequence[Recommendation], scenario: Scenario) -> Table:
    """Strides leave window, dilation and tiles alone; other directions show what they change."""
    changed = {"stride": (), "window": ("window",), "dilation": ("dilation",), "tiles": ("query tile", "key tile")}
    times_on = () if scenario.device is None else (f"on {scenario.device}",)
    columns = ("stride", "bound", "mean", "useful", "mask-free", *times_on, *changed[options[0].change])
    shown = table(title, columns, gap=2)
    for option in options:
        pattern, bound, prediction = option.question.pattern, option.bound, scenario.predict(option.question)
        cells = {
            "stride": times(pattern.stride), "bound": f"{bound.worst:.2f}x", "mean": f"{bound.mean:.2f}x",
            "useful": f"{bound.efficiency:.0%}", "mask-free": "yes" if option.block_sparse else "no",
            f"on {scenario.device}": "" if prediction is None else f"{prediction.speedup:.2f}x",
            "window": times(pattern.window), "dilation": times(pattern.dilation),
            "query tile": times(option.question.tiles.query), "key tile": times(option.question.tiles.key),
        }  # fmt: skip
        shown.add_row(*(cells[column] for column in columns))
    return shown
