"""The programs `cascadesim` and `simulate`: the command `simulate`, further ones, and where a command meets the shell.

The work of `simulate` is in `run`; it and further commands are imported when they are asked for. Layers above the
simulator add theirs through the entry-point group `cascadesim.commands`; nothing here knows them. Errors become one
line on standard error and an exit code, never a traceback: 0 good, 1 a claim does not hold, 2 bad input or a result
that cannot be written, 130 interrupted, 143 terminated. Anything else is a bug: it keeps its traceback, and the program
ends with 70, so that nobody takes it for a claim.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from os.path import exists, isfile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

import click

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, bounded, suggestion
from cascadesim.simulator import cli
from cascadesim.simulator.cli.options import (
    LARGEST_BATCH,
    choice,
    completing,
    completing_words,
    entries_of,
    first_run,
    lengths,
    names,
    new_file,
    one_of,
    output_format,
    setting,
    several,
    together,
    whole,
)
from cascadesim.simulator.result import Result
from cascadesim.simulator.views.output import passing, printable, standard_streams

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from cascadesim.simulator.report import Report
    from cascadesim.simulator.request import Request

ENTRY_POINTS = "cascadesim.commands"
SECTIONS = ("architectures", "workloads", "cascades", "mappings", "patterns", "spaces", "kernels", "devices", "suites")
OWN = {
    "simulate": "cascadesim.simulator.cli.commands:simulate",
    "passes": "cascadesim.simulator.cli.cascades:passes",
    "rewrite": "cascadesim.simulator.cli.cascades:rewrite",
    "import": "cascadesim.simulator.cli.cascades:import_cascade",
    "workload": "cascadesim.simulator.cli.cascades:print_workload",
    "map": "cascadesim.simulator.cli.mapper:map_cascade",
    "generate": "cascadesim.simulator.cli.generate:generate",
    "gna": "cascadesim.simulator.cli.gna:gna",
    "explore": "cascadesim.simulator.cli.explore:explore",
    "list": "cascadesim.simulator.cli.commands:list_names",
    "show": "cascadesim.simulator.cli.showing:show",
}
MEANT = {  # what people type who come from other tools
    "--model": "--workload NAME", "-w": "--workload NAME", "--gpu": "--arch NAME", "--device": "--arch NAME",
    "--hardware": "--arch NAME", "-a": "--arch NAME", "--json": "--format json", "--csv": "--format csv",
    "--dtype": "--set dtype=TYPE", "--precision": "--set dtype=TYPE", "--tp": "--set parallel.tensor=N",
    "--seqlen": "--seq-len N", "--length": "--seq-len N", "--prefill": "--phase prefill", "--decode": "--phase decode",
}  # fmt: skip
BAD_INPUT = 2
A_BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130


class Commands(click.Group):
    """This group has the sub-commands of this layer and those that installed packages register."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*OWN, *sorted(set(_registered()) - set(OWN))]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in OWN:
            module, _, attribute = OWN[name].partition(":")
            return cast("click.Command", getattr(import_module(module), attribute))
        point = _registered().get(name)
        try:
            return None if point is None else cast("click.Command", point.load())
        except (ImportError, AttributeError) as error:
            raise CascadeSimError(f"command '{name}' ({point and point.value}) cannot be loaded: {error}") from error

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in self.list_commands(context) and not name.startswith("-") and not context.resilient_parsing:
            raise click.UsageError(f"no command '{name}'{suggestion(name, self.list_commands(context))}", context)
        return super().resolve_command(context, arguments)


@cache
def _registered() -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points  # scans all installed packages: not for `simulate`

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


version = click.version_option(package_name="cascadesim", message="cascadesim %(version)s")


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@version
@click.pass_context
def cascadesim(context: click.Context) -> None:
    """How long attention and whole transformers take on an accelerator, and what bounds them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@click.command("list", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("section", type=one_of(*SECTIONS), required=False, metavar="[SECTION]",
                shell_complete=completing_words(SECTIONS))
def list_names(section: str | None) -> None:
    """What can be named: architectures, workloads, cascades, mappings, patterns, spaces, kernels, devices, suites.

    One SECTION, or all of them. `cascadesim show NAME` says more.
    """
    for position, name in enumerate(SECTIONS if section is None else (section,)):
        if section is None:
            click.echo(f"{chr(10) * (position > 0)}{name}")
        entries = entries_of(name)
        width = max((len(entry) for entry, _ in entries), default=0)
        for entry, remark in entries:
            click.echo(f"  {entry:{width}}  {remark}".rstrip())
        if not entries:
            click.echo("  none yet")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--arch", "architectures", type=names, required=True, metavar="NAME[,NAME…]",
              help="Architectures: names as `cascadesim list architectures` prints them, or YAML files; repeatable.",
              multiple=True, callback=together, shell_complete=completing("architectures"))
@click.option("--workload", "workloads", type=names, required=True, metavar="NAME[,NAME…]",
              help="Workloads: names as `cascadesim list workloads` prints them, YAML files, or a model's "
                   "config.json; repeatable.",
              multiple=True, callback=together, shell_complete=completing("workloads"))
@click.option("--attention", metavar="CASCADE", shell_complete=completing("cascades"),
              help="Attention cascade, or a .cascade file.  [the architecture's]")
@click.option("--mapping", metavar="NAME|FILE|search", shell_complete=completing("mappings"),
              help="A mapping by name or as a .mapping file, or the best that is found.  [the published one]")
@click.option("--seq-len", "sequence_length", type=lengths, metavar="N[,N…]", multiple=True, callback=together,
              help="Tokens per sequence, such as 4096, 64K or 1M (powers of 1024); repeatable.  [the workload's]")
@click.option("--batch", type=several(whole(1, LARGEST_BATCH, " sequences")), metavar="B[,B…]", multiple=True,
              callback=together, help="Sequences at once; repeatable.  [the workload's]")
@click.option("--phase", type=several(one_of("prefill", "decode")), default=("prefill",), multiple=True,
              callback=together, metavar="[prefill|decode][,…]",
              shell_complete=completing_words(("prefill", "decode")),
              help="All tokens of a prompt at once, or the last of --seq-len tokens alone.  [default: prefill]")
@choice("--scope", of=("attention", "linear", "model"), default="model",
        help_text="The whole model, or the attention or the linear layers of one layer of each kind.")
@choice("--fidelity", of=("analytical", "cycle"),
        help_text="Closed form, or every cycle of every unit.  [cycle where the architecture has it]")
@choice("--accounting", of=("physical", "artifact"), default="physical",
        help_text="What hardware would do, or what the publication charged, quirks included.")
@click.option("--set", "settings", type=setting, multiple=True, metavar="FIELD=VALUE",
              help="Another value for a field of the architecture or of the workload; repeatable.")
@output_format("table", "json", "csv", help_text="How results are printed.")
@click.option("--output", type=new_file(), metavar="FILE", help="Print to a file instead.")
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg",
              help="Also draw the figures; with --show mapping, the mapping.")
@click.option("--trace", type=new_file(".json"), metavar="FILE.json",
              help="Also write the schedule of the first tiles, for Perfetto or chrome://tracing.")
@click.option("--report", type=new_file(".html"), metavar="FILE.html",
              help="Also write one page: the answer, where time goes, roofline, schedule, mapping, error.")
@choice("--show", of=("operations", "einsums", "units", "error", "notes", "cascade", "mapping", "schedule", "bound",
                      "dram"),
        help_text="Print operations, Einsums, units, error or notes in full, what is computed, what goes where,\n"
                  "when it runs, what bounds it, or what DRAM standards would deliver, instead of results.")
@version
def simulate(
    architectures: tuple[str, ...], workloads: tuple[str, ...], attention: str | None, mapping: str | None,
    sequence_length: tuple[int, ...], batch: tuple[int, ...], phase: tuple[str, ...], scope: str, fidelity: str | None,
    accounting: str, settings: tuple[str, ...], format_: str, output: Path | None, plot: Path | None,
    trace: Path | None, report: Path | None, show: str | None,
) -> Result[tuple[Report, ...]]:  # fmt: skip
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
    with passing("loading architectures and models; the first run on a machine also compiles its engine", first_run()):
        requests_of, run = cli.run.requests_of, cli.run.run
    def ask(settings: tuple[str, ...]) -> Iterator[Request]:
        return requests_of(settings, architectures, workloads, attention, sequence_length, batch, phase, scope,
                           fidelity, accounting, mapping)  # fmt: skip

    streams = (name for name in (*architectures, *workloads) if isinstance(name, str) and exists(name))
    again = all(map(isfile, streams))
    return run(ask, settings, format_, output, plot, trace, report, show, again)


class TerminatedError(KeyboardInterrupt):
    """The process was asked to end: everything unwinds as on Ctrl-C, so that no half-written file stays."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def program_exit(command: click.Command, program: str, arguments: Sequence[str]) -> int:
    """Return `exit_code` for a whole process, where a bug is a traceback and an exit code of its own."""
    try:
        return exit_code(command, program, arguments)
    except Exception:
        with standard_streams():
            traceback.print_exc()
        return A_BUG


def exit_code(command: click.Command, program: str, arguments: Sequence[str]) -> int:
    """Run `command` on `arguments` and return what the process should exit with.

    A reader of standard output that goes away (`| head`) is no error: it has what it wanted.
    """
    with standard_streams() as output, _unwinding_when_terminated():
        code = _outcome(command, program, arguments)
        if output.failure is None or isinstance(output.failure, BrokenPipeError):
            return code
        complain(_speaker(command, program, arguments), f"standard output: {output.failure.strerror or output.failure}")
        return max(code, BAD_INPUT)


def _outcome(command: click.Command, program: str, arguments: Sequence[str]) -> int:
    try:
        with command.make_context(program, list(arguments)) as context:
            result = command.invoke(context)
        sys.stdout.flush()
        return _reported(result, _speaker(command, program, arguments))
    except click.exceptions.Exit as request:
        sys.stdout.flush()
        return request.exit_code
    except TerminatedError as asked:
        complain(_speaker(command, program, arguments), "terminated")
        return 128 + asked.number
    except (KeyboardInterrupt, click.Abort):
        complain(_speaker(command, program, arguments), "interrupted")
        return INTERRUPTED
    except (click.ClickException, CascadeSimError, OSError, MemoryError) as error:
        sys.stdout.flush()  # what was printed comes before what went wrong
        complain(_speaker(command, program, arguments), message(error))
        return BAD_INPUT


def _reported(result: object, speaker: str) -> int:
    """Print what a command has to say beside its result; return the exit code."""
    if not isinstance(result, Result):
        return 0
    for line in (*result.remarks, *result.problems):
        complain(speaker, line)
    return result.exit_code


def complain(speaker: str, text: str) -> None:
    """Print one line per problem. Lines of an excerpt (indented) follow theirs as they are, so that carets point."""
    for line in printable(text).splitlines():
        print(line if line.startswith(" ") else f"{speaker}: {line}", file=sys.stderr)


def _speaker(command: click.Command, program: str, arguments: Sequence[str]) -> str:
    """Choose the name that errors start with: the sub-command where there is one."""
    if not isinstance(command, click.Group) or not arguments:
        return program
    return arguments[0] if arguments[0] in command.list_commands(click.Context(command)) else program


def message(error: click.ClickException | CascadeSimError | OSError | MemoryError) -> str:
    """Word an error as one line, or a line for each problem, of at most LONGEST_MESSAGE characters."""
    if isinstance(error, click.ClickException):
        text = " ".join(_words(error).split()).rstrip(".")
        return bounded(text[:1].lower() + text[1:])
    if isinstance(error, OSError):  # a device that went away
        return bounded(f"{error.filename or 'input or output'}: {error.strerror or error}")
    return str(error) or "out of memory"


def _words(error: click.ClickException) -> str:
    """What click says, with what to type instead where it does not say that itself."""
    text, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption | click.MissingParameter) and context is not None:
        options = {name for each in context.command.params for name in each.opts}
        meant = MEANT.get(getattr(error, "option_name", ""), "")
        if meant.partition(" ")[0] in options:
            return f"no such option '{error.option_name}'; give {meant}"  # type: ignore[union-attr]
        return text if "id you mean" in text else f"{text}; {context.command_path} --help has examples"
    if "unexpected extra argument" in text:
        return f"{text}; several values go with commas and no blanks, a value with blanks in quotes"
    return text


@contextmanager
def _unwinding_when_terminated() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, raise in the main thread; a second one ends at once."""
    own = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        own = []  # only the main thread may handle signals
    for number in own:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise TerminatedError(number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program `cascadesim`, or answer a shell that completes a line of it."""
    cascadesim._main_shell_completion({}, "cascadesim")
    sys.exit(program_exit(cascadesim, "cascadesim", sys.argv[1:] if arguments is None else arguments))


def simulate_main(arguments: Sequence[str] | None = None) -> None:
    """Run the program `simulate`, which is `cascadesim simulate`."""
    simulate._main_shell_completion({}, "simulate")
    sys.exit(program_exit(simulate, "simulate", sys.argv[1:] if arguments is None else arguments))
