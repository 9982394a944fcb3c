"""SpAtten's ablation ladder: one generated token, layer after layer, one technique more on each rung.

HPCA'21, evaluation. Pruning by the published schedules; the top-k over tokens runs once a layer beside the heads and is
left out, as in the RTL. Also a command: python -m cascadesim.validation.spatten.ladder [--plot FILE].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

import click

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.spatten.accelerator import Spatten
from cascadesim.accelerators.spatten.harness import gathered_keys, head_rows
from cascadesim.accelerators.spatten.rtl.run import run_heads
from cascadesim.accelerators.spatten.spec import REQUEST_BYTES, HeadStream, SpattenSpec
from cascadesim.einsum_cascades.sparsity.pruning_schedules import PruningSchedule, published_schedule
from cascadesim.einsum_cascades.sparsity.pruning_trace import token_rows

LENGTH = 1024  # SpAtten, sec. V-A: 992 tokens given, 32 generated; the last one sees 1024
SERIAL = 1  # scores a cycle that a top-k engine without parallelism compares
MODELS = ("gpt-2-small", "gpt-2-medium")


@dataclass(frozen=True)
class Rung:
    """A technique added to those before it, and what one token takes then."""

    name: str
    cycles: int
    dram_bytes: int
    products: int  # multiply-accumulates of queries with keys and of probabilities with values

    def speedup(self, before: Rung) -> float:
        return before.cycles / self.cycles

    @property
    def operations_per_cycle(self) -> float:
        return 2 * self.products / self.cycles


@cache
def ladder(model: str, architecture: str = "spatten", settings: tuple[str, ...] = ()) -> tuple[Rung, ...]:
    """The rungs of a model with a published schedule. Raises UnknownNameError for another one."""
    spec = machine(architecture, settings).spec
    steps = _steps(published_schedule(model), spec.topk_parallelism)
    return tuple(_run(name, schedule, parallelism, spec) for name, schedule, parallelism in steps)


@cache
def machine(name: str = "spatten", settings: tuple[str, ...] = ()) -> Spatten:
    """Raises TypeError for a preset of another accelerator."""
    found = load(name, settings)
    if not isinstance(found, Spatten):
        raise TypeError(f"{name} is no SpAtten")
    return found


def _steps(full: PruningSchedule, parallelism: int) -> Iterator[tuple[str, PruningSchedule, int]]:
    """Name, schedule, scores that the top-k engine compares in a cycle."""
    wide = replace(full, key_bits=None, value_bits=None, low_bit_share=0.0)
    dense = wide.unpruned()
    tokens = replace(wide, heads=dense.heads, value_keep=1.0)
    yield "dense", dense, parallelism
    yield "+ cascade token pruning", tokens, parallelism
    yield "+ cascade head pruning", replace(tokens, heads=full.heads), parallelism
    yield "+ local value pruning, serial top-k", wide, SERIAL
    yield "+ parallel top-k engine", wide, parallelism
    yield "+ progressive quantization", full, parallelism


def _run(name: str, schedule: PruningSchedule, parallelism: int, spec: SpattenSpec) -> Rung:
    design, trace = spec.design(), token_rows(schedule, LENGTH)
    rows = head_rows(trace, design, parallelism, source=schedule.name)
    cycles = reads = 0
    for _, places in groupby(range(len(rows)), lambda place: trace[place].layer):
        stream = HeadStream(design, tuple(rows[place] for place in places))
        keys = gathered_keys(stream.longest, design.fetch_channels, design.largest_keys)
        found = run_heads(replace(stream, gathered=keys))
        cycles, reads = cycles + found.cycles, reads + int(found.dram_reads.max())
    products = sum(spec.head_dim * (row.keys + row.values) for row in rows)
    return Rung(name, cycles, REQUEST_BYTES * reads, products)


def lines(rungs: Sequence[Rung]) -> Iterator[str]:
    """A table: each rung against the one before and against the first."""
    yield f"{'':36}{'cycles':>10}{'step':>8}{'total':>8}{'DRAM MB':>10}"
    for before, rung in zip((rungs[0], *rungs), rungs, strict=False):
        step, total = rung.speedup(before), rung.speedup(rungs[0])
        yield f"{rung.name:36}{rung.cycles:10,}{step:7.2f}x{total:7.2f}x{rung.dram_bytes / 1e6:10.2f}"


def draw(by_model: dict[str, tuple[Rung, ...]], path: Path) -> None:
    """Speedup over dense, a bar a rung."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for place, (model, rungs) in enumerate(by_model.items()):
        heights = [rung.speedup(rungs[0]) for rung in rungs]
        bars = axes.barh([number + 0.4 * place for number in range(len(rungs))], heights, height=0.38, label=model)
        axes.bar_label(bars, fmt="%.2f")
    axes.set_yticks([number + 0.2 for number in range(len(rungs))], [rung.name for rung in rungs])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(f"speedup over dense, one generated token at {LENGTH}")
    axes.legend()
    figure.savefig(path)
    pyplot.close(figure)


@click.command()
@click.option("--arch", default="spatten", show_default=True, help="A SpAtten preset.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Another value of the preset.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Also draw the ladder.")
def main(arch: str, settings: tuple[str, ...], plot: Path | None) -> None:
    """What each technique gains, one after another."""
    by_model = {model: ladder(model, arch, settings) for model in MODELS}
    for model, rungs in by_model.items():
        click.echo("\n".join([f"{model} on {arch}", *lines(rungs), ""]))
    if plot is not None:
        draw(by_model, plot)


if __name__ == "__main__":
    main()
