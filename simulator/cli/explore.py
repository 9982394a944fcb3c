"""The command `explore`: what its options mean. The work is in `explore`, imported once the options are read."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import click

from cascadesim.simulator import explore as designs
from cascadesim.simulator.cli.options import choice, new_file, whole
from cascadesim.simulator.result import Result, say_panels, write_lines
from cascadesim.simulator.views.output import pending_files, progress

if TYPE_CHECKING:
    from cascadesim.simulator.explore.results import Frame
    from cascadesim.simulator.explore.workers import EngineName



@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("space", metavar="SPACE.yaml")
@click.option("--workers", type=whole(1, 1024, " processes"), metavar="N", help="Processes.  [one per core]")
@choice("--engine", of=("local", "ray"), default="local",
        help_text="This machine, or a Ray cluster (RAY_ADDRESS; otherwise a local one).")
@click.option("--output", type=new_file(".parquet", ".csv"), metavar="FILE.parquet|.csv",
              help="Write the front; a run that was killed goes on from what it had.")
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg",
              help="Also draw the front, its designs, and which field moves which objective.")
@click.option("--report", type=new_file(".html"), metavar="FILE.html",
              help="Also write one page with the same pictures to explore, and the table to sort.")
@click.option("--cycle-level/--no-cycle-level", default=True, show_default=True,
              help="Simulate every design of the front at cycle level and show the difference.")
def explore(
    space: str, workers: int | None, engine: str, output: Path | None, plot: Path | None, report: Path | None,
    cycle_level: bool,
) -> Result[Frame]:  # fmt: skip
    """Which design: all designs of a space file judged, those that none beats printed.

    SPACE.yaml may be the name of a space that comes along: `cascadesim list spaces`.

    \b
    cascadesim explore fusemax-front-256k --plot front.png
    cascadesim explore my-space.yaml --output front.parquet --report front.html
    """
    search, results = designs.explore, designs.results
    for target in (plot, report):
        if target is not None:
            search.refuse_unwritable(target)
    try:
        with progress(("searching", "refining", "simulating")) as watches:
            frame = search.explore(space, workers=workers, engine=cast("EngineName", engine), output=output,
                                   cycle_level=cycle_level, watches=watches)  # fmt: skip
    except search.UnwrittenFrontError as unwritten:
        _print(unwritten.frame, sys.stdout)  # it may have taken hours
        raise
    result = Result(frame, lambda: _document(frame), frame.rows, partial(_print, frame), partial(_draw, frame),
                    page=partial(results.page, frame))  # fmt: skip
    result.write(sys.stdout)  # before a file that cannot be written any more
    with pending_files((plot, report)) as (picture, written):
        if written is not None:
            written.write_text(results.page(frame), encoding="utf-8")
        panels = result.drawn(picture)
    say_panels(plot, panels)
    return result


def _draw(frame: Frame, target: Path) -> int:
    return designs.plot.draw(frame, target)


def _document(frame: Frame) -> dict[str, object]:
    return {"source": frame.source, "designs": frame.counts._asdict(), "objectives": list(frame.objectives),
            "front": [{name: None if value != value else value for name, value in row.items()} for row in frame.rows()]}


def _print(frame: Frame, stream: TextIO) -> None:
    counts = frame.counts
    lines = [f"{frame.source}: {counts.designs:,} designs; {counts.allowed:,} hold the conditions, "
             f"{counts.possible:,} can run the work, {counts.good:,} hold the constraints; "
             f"{len(frame):,} on the front of {', '.join(frame.objectives)}"]
    lines += designs.results.table_lines(frame)
    write_lines([*lines, *([] if frame.verdict is None else [frame.verdict])], stream)
