"""`cascadesim measure`: our kernels and their baselines on the GPU of this machine, one JSON line per case.

Found by the command line through the entry-point group `cascadesim.commands`. Resumable: a case that is already in the
file for this device and code is not run again. Never touches clocks or settings. Comparing is another program.
"""

from __future__ import annotations

from pathlib import Path

import click

from cascadesim.einsum_cascades.errors import CascadeSimError, UnknownNameError

COUNTED = ("attention", "decode", "neighborhood", "pruned")  # microbenchmarks count what they do themselves
SUITES = ("microbenchmarks", "attention", "decode", "neighborhood", "pruned")  # in the order in which they run


@click.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Folder for the records: DIR/<device>.jsonl, appended to.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=540.0,
    show_default=True,
    help="Stop before the next case once so much time is used; run again to go on.",
)
@click.option("--counters", is_flag=True, help="Read hardware counters with ncu, in place of times.")
def measure(suites: tuple[str, ...], output: Path, seconds: float, counters: bool) -> None:
    """Measure the kernels on this machine's GPU; exit code 2 where there is none.

    Suites: microbenchmarks, attention, decode, neighborhood, pruned; all of them if none is named. --counters is a
    pass of its own, without the microbenchmarks, into DIR/<device>.counters.jsonl.
    """
    for name in suites:
        if name not in SUITES:
            raise UnknownNameError("measurement suite", name, SUITES)
    chosen = tuple(name for name in (COUNTED if counters else SUITES) if not suites or name in suites)
    if counters:
        _need_counters(chosen)
    _need_gpu()
    from cascadesim.validation.measure_run import count, run

    for line in (count if counters else run)(chosen, output, seconds):
        click.echo(line, err=True)


def _need_counters(chosen: tuple[str, ...]) -> None:
    from cascadesim.validation.measure_counters import need_ncu

    if not chosen:
        raise CascadeSimError(f"--counters: microbenchmarks have none; known: {', '.join(COUNTED)}")
    need_ncu()


def _need_gpu() -> None:
    """Raises CascadeSimError, in one line, where kernels cannot run."""
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        raise CascadeSimError(f"needs torch and triton ({error}): pip install 'cascadesim[kernels]'") from None
    if not torch.cuda.is_available():
        raise CascadeSimError("needs an NVIDIA GPU, and torch finds none")
