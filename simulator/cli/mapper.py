"""The command `map`: the best mapping of a cascade on an array, as a text that `simulate --mapping` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from cascadesim.simulator import views
from cascadesim.simulator.cli.options import (
    LARGEST_BATCH,
    choice,
    extent_or_setting,
    lengths,
    new_file,
    output_format,
    whole,
)
from cascadesim.simulator.result import Result, say_panels, write_lines
from cascadesim.simulator.views.output import (
    aligned,
    bytes_of,
    json_text,
    pending_files,
    printable,
    written_to,
)

if TYPE_CHECKING:
    from cascadesim.simulator.mapper import FoundMapping, MappingObjective
    from cascadesim.simulator.request import Fidelity



@click.command("map", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("cascade", metavar="CASCADE|FILE.cascade")
@click.option("--arch", "architecture", required=True, metavar="NAME", help="The array: a preset or a YAML file.")
@click.option("--workload", default="bert", show_default=True, metavar="NAME", help="Whose sizes attention has.")
@click.option("--seq-len", "sequence_length", type=lengths, metavar="N", help="Tokens.  [the workload's]")
@click.option("--batch", type=whole(1, LARGEST_BATCH, " sequences"), metavar="B",
              help="Sequences at once.  [the workload's]")
@click.option("--set", "settings", type=extent_or_setting, multiple=True, metavar="RANK=N|FIELD=VALUE",
              help="The size of a rank, in place of the workload's, or another value for a field of the architecture;\n"
                   "repeatable.")
@choice("--objective", of=("latency", "energy", "edp", "dram", "pareto"), default="latency",
        help_text="What is to be least; edp is energy times delay. pareto: every mapping that no other one beats\nin "
                  "cycles, energy and DRAM traffic; the fastest is the one that is written.")
@choice("--fidelity", of=("analytical", "cycle"), default="analytical",
        help_text="Where latency is to be least: in closed form, or when it runs, for which mappings near to\nthe best "
                  "closed form are run.")
@click.option("--output", type=new_file(".mapping"), metavar="FILE.mapping", help="Also write the mapping to a file.")
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg",
              help="Also draw the mapping and the schedule of its first tiles; with pareto, the front.")
@output_format("table", "json")
def map_cascade(
    cascade: str, architecture: str, workload: str, sequence_length: tuple[int, ...] | None, batch: int | None,
    settings: tuple[tuple[str, int] | str, ...], objective: str, fidelity: str, output: Path | None,
    plot: Path | None, format_: str,
) -> Result[FoundMapping]:  # fmt: skip
    """The best mapping of CASCADE on ARCH that is found: what to fuse, tile sizes, what is kept where.

    \b
    cascadesim map attention-2pass --arch fusemax --objective latency --output mine.mapping
    simulate --arch fusemax --workload bert --scope attention --attention attention-2pass --mapping mine.mapping
    """
    if sequence_length is not None and len(sequence_length) > 1:
        raise click.UsageError("map takes one --seq-len")
    from cascadesim.simulator.mapper import find_mapping_of, load, operation_of

    with pending_files((output, plot)) as (file, picture):
        length = sequence_length[0] if sequence_length else None
        sizes = dict(each for each in settings if not isinstance(each, str))
        array = load(architecture, [each for each in settings if isinstance(each, str)])
        operation = operation_of(cascade, workload, length, batch, sizes)
        found = find_mapping_of(operation, array, cast("MappingObjective", objective), cast("Fidelity", fidelity))
        if file is not None:
            with written_to(file) as stream:
                stream.write(found.text)
        panels = 0 if picture is None else _draw(found, picture)
        lines = _front if objective == "pareto" else _table
        click.echo(json_text(found.to_dict()).rstrip() if format_ == "json" else printable("\n".join(lines(found))))
    say_panels(plot, panels)
    return Result(found, found.to_dict, lambda: cast("list[dict[str, object]]", found.to_dict()["front"]),
                  lambda stream: write_lines(lines(found), stream), partial(_draw, found))  # fmt: skip


def _draw(found: FoundMapping, target: Path) -> int:
    """The front where that was asked for, otherwise the mapping; returns the number of panels."""
    if found.objective == "pareto":
        return views.front_plot.draw(found, target)
    run = views.mapping_plot.MappedRun(found.accelerator.name, found.plan, found.accelerator.clock_hz)
    return views.mapping_plot.draw((run,), target)


def _table(found: FoundMapping) -> Iterator[str]:
    cascade, mapped = found.operation.cascade.name, found.mapped
    yield (f"{cascade} on {found.accelerator.name}, {found.objective}: best of {found.evaluated:,} ways of fusing and "
           f"tiling")
    yield ""
    yield f"closed form   {mapped.cycles:>16,.0f} cycles"
    yield f"cycle level   {found.cycle_level:>16,} cycles"
    if found.analytical is not None:
        figures, level = found.analytical
        yield f"analytical    {figures.cycles:>16,.0f} cycles, {level:,} at cycle level: what closed forms alone find"
    if found.published is not None:
        figures, level = found.published
        whose = "the machine's own plan" if found.own is None else "the dataflow for these sizes"
        yield f"published     {figures.cycles:>16,} cycles, {level:,} at cycle level: {whose}"
    if found.own is not None:
        figures, level = found.own
        yield f"own plan      {figures.cycles:>16,} cycles, {level:,} at cycle level: the dataflow that its model finds"
    yield f"DRAM traffic  {bytes_of(mapped.dram_bytes):>16}"
    yield f"energy        {_joules(mapped.energy_j):>16}"
    yield from _against_unfused(found)
    if found.lower_bound is not None and found.value is not None:
        ratio = found.value / found.lower_bound
        reached = "reached" if found.optimal else f"{ratio:.3g} times as much was found"
        unit = "cycles" if found.objective == "latency" else "bytes"
        yield f"lower bound   {found.lower_bound:>16,.0f} {unit}: {reached}"
    yield ""
    yield found.text.rstrip()
    if len(found.front) > 1:
        yield ""
        yield "not beaten in cycles, energy and traffic together:"
        for each, _ in found.front:
            yield f"  {each.cycles:>16,.0f} cycles  {_joules(each.energy_j):>10}  {bytes_of(each.dram_bytes):>10}"


def _front(found: FoundMapping) -> Iterator[str]:
    """The front, fastest first, with the machine's own plan and the text of the fastest mapping."""
    axes = "cycles, energy and DRAM traffic" if found.priced else "cycles and DRAM traffic"
    yield (f"{found.operation.cascade.name} on {found.accelerator.name}: {found.mappings} that no other one beats in "
           f"{axes}, of {found.evaluated:,} ways of fusing and tiling")
    if not found.priced:
        yield "energy is left out: an operation has no sourced price"
    yield ""
    rows = [("", "closed form", "cycle level", "energy", "DRAM", "groups")]
    for number, (each, level) in enumerate(found.front, 1):
        figures = f"{each.cycles:,.0f}", f"{level:,}", _joules(each.energy_j), bytes_of(each.dram_bytes)
        rows.append((f"{number}", *figures, f"{len(each.groups)}"))
    for name, plan in (("published", found.published), ("own plan", found.own)):
        if plan is not None:
            own, level = plan
            energy = "unknown" if own.energy_j is None else f"{own.energy_j:.4g} J"
            rows.append((name, f"{own.cycles:,}", f"{level:,}", energy, bytes_of(own.dram_bytes), ""))
    yield from aligned(rows, names=1)
    yield ""
    if len(found.front) > 1:
        yield f"the fastest at cycle level, {found.cycle_level:,} cycles:"
    yield found.text.rstrip()


def _against_unfused(found: FoundMapping) -> Iterator[str]:
    """What fusing gains, in all and group by group."""
    unfused, mapped = found.unfused, found.mapped
    if unfused is None or len(unfused.groups) == len(mapped.groups):
        return
    speed, share = unfused.cycles / mapped.cycles, mapped.dram_bytes / unfused.dram_bytes
    yield (f"unfused       {unfused.cycles:>16,.0f} cycles, {found.unfused_cycle_level:,} at cycle level; DRAM traffic "
           f"{bytes_of(unfused.dram_bytes)}; energy {_joules(unfused.energy_j)}")
    yield f"fusing gains  {speed:>16.3g} times the speed; {share:.3g} of the DRAM traffic is left:"
    if other := [name for name, size in unfused.splits.items() if mapped.splits.get(name, size) != size]:
        one, together = (", ".join(f"{name} = {splits[name]}" for name in other)
                         for splits in (unfused.splits, mapped.splits))  # fmt: skip
        yield f"  one by one in tiles of {one}, fused in tiles of {together}: Einsums of the text have other work then"
    for gain in found.gains:
        names, fused = gain.einsums, (gain.fused,)
        name = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
        yield (f"  {name:<14}{gain.cycles(fused):>14,.0f} cycles, {bytes_of(gain.dram_bytes(fused))}; one by one "
               f"{gain.cycles(gain.alone):,.0f} cycles, {bytes_of(gain.dram_bytes(gain.alone))}")


def _joules(energy_j: Mapping[str, float] | None) -> str:
    return "unknown" if energy_j is None else f"{sum(energy_j.values()):.4g} J"
