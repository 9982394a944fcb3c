"""The command `simulate`: what its options mean. The work is in `run`, imported once the options are read."""

from __future__ import annotations

from pathlib import Path

import click

from cascadesim.simulator.cli.options import (
    alternatives,
    batch_size,
    lengths,
    names,
    new_file,
    one_of,
    setting,
    together,
)

PHASES = ("prefill", "decode")
SCOPES = ("attention", "linear", "model")
FIDELITIES = ("analytical", "cycle")
ACCOUNTINGS = ("physical", "artifact")
FORMATS = ("table", "json", "csv")
SHOWN = ("cascade", "mapping", "schedule", "bound", "dram")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--arch", "architectures", type=names, required=True, metavar="NAME[,NAME…]",
              help="Architectures: names as `cascadesim list architectures` prints them, or YAML files; repeatable.",
              multiple=True, callback=together)
@click.option("--workload", "workloads", type=names, required=True, metavar="NAME[,NAME…]",
              help="Workloads: names as `cascadesim list workloads` prints them, or YAML files; repeatable.",
              multiple=True, callback=together)
@click.option("--attention", metavar="CASCADE", help="Attention cascade, or a .cascade file.  [the architecture's]")
@click.option("--mapping", metavar="NAME|FILE|search",
              help="A mapping by name or as a .mapping file, or the best that is found.  [the published one]")
@click.option("--seq-len", "sequence_lengths", type=lengths, metavar="N[,N…]", multiple=True, callback=together,
              help="Tokens per sequence, such as 4096, 64K or 1M (powers of 1024); repeatable.  [the workload's]")
@click.option("--batch", type=batch_size, metavar="B", help="Sequences at once.  [the workload's]")
@click.option("--phase", type=one_of(*PHASES), default="prefill", metavar=alternatives(*PHASES), show_default=True,
              help="All tokens of a prompt at once, or one more token after --seq-len of them.")
@click.option("--scope", type=one_of(*SCOPES), default="model", metavar=alternatives(*SCOPES), show_default=True,
              help="The whole model, or the attention or the linear layers of one layer of each kind.")
@click.option("--fidelity", type=one_of(*FIDELITIES), metavar=alternatives(*FIDELITIES),
              help="Closed form, or every cycle of every unit.  [cycle where the architecture has it]")
@click.option("--accounting", type=one_of(*ACCOUNTINGS), default="physical", metavar=alternatives(*ACCOUNTINGS),
              show_default=True, help="What hardware would do, or what the publication charged, quirks included.")
@click.option("--set", "settings", type=setting, multiple=True, metavar="FIELD=VALUE",
              help="Another value for a field of the architecture or of the workload; repeatable.")
@click.option("--format", "format_", type=one_of(*FORMATS), default="table", metavar=alternatives(*FORMATS),
              show_default=True, help="How results are printed.")
@click.option("--output", type=new_file(), metavar="FILE", help="Print to a file instead.")
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg", help="Also draw the figures.")
@click.option("--trace", type=new_file(".json"), metavar="FILE.json",
              help="Also write the schedule of the first tiles, for Perfetto or chrome://tracing.")
@click.option("--show", type=one_of(*SHOWN), metavar=alternatives(*SHOWN),
              help="Print what is computed, what goes where, when it runs, what bounds it, or what DRAM\n"
              "standards would deliver of its traffic, instead of results.")
def simulate(
    architectures: tuple[str, ...], workloads: tuple[str, ...], attention: str | None, mapping: str | None,
    sequence_lengths: tuple[int, ...], batch: int | None, phase: str, scope: str, fidelity: str | None,
    accounting: str, settings: tuple[str, ...], format_: str, output: Path | None, plot: Path | None,
    trace: Path | None, show: str | None,
) -> None:  # fmt: skip
    """How long WORKLOAD takes on ARCH, what it moves and burns, and which unit bounds it.

    \b
    simulate --arch fusemax --workload llama
    simulate --arch flat,fusemax --workload bert,xlm --seq-len 1K,64K --scope attention --plot figure.png
    """
    if fidelity is None and accounting == "artifact":
        fidelity = "analytical"
    if fidelity == "analytical" and trace is not None:
        raise click.UsageError("--trace shows the cycle-level schedule; it needs --fidelity cycle")
    if fidelity == "analytical" and show == "schedule":
        raise click.UsageError("--show schedule needs --fidelity cycle")
    if show is not None and format_ != "table":
        raise click.UsageError(f"--show {show} prints text; leave out --format {format_}")
    from cascadesim.simulator.cli.run import requests_of, run

    asked = requests_of(architectures, workloads, attention, sequence_lengths, batch, phase, scope, fidelity,
                        accounting, settings, mapping)  # fmt: skip
    run(asked, format_, output, plot, trace, show)
