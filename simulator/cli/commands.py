"""The programs `cascadesim` and `simulate`: their sub-commands, and where a command meets the shell.

A sub-command is imported when it is asked for. Layers above the simulator add theirs through the entry-point group
`cascadesim.commands`; nothing here knows them. Errors become one line on standard error and an exit code, never a
traceback: 0 good, 1 a claim does not hold, 2 bad input or a result that cannot be written, 130 interrupted, 143
terminated. Anything else is a bug: it keeps its traceback, and the program ends with 70, so that nobody takes it for
a claim.
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
from types import FrameType
from typing import TYPE_CHECKING, cast

import click

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, bounded, suggestion
from cascadesim.simulator.cli.options import one_of
from cascadesim.simulator.views.output import printable, standard_streams

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "cascadesim.commands"
SECTIONS = ("architectures", "workloads", "cascades", "spaces", "kernels", "devices", "suites")
OWN = {
    "simulate": "cascadesim.simulator.cli.simulate:simulate",
    "passes": "cascadesim.simulator.cli.cascades:passes",
    "rewrite": "cascadesim.simulator.cli.cascades:rewrite",
    "import": "cascadesim.simulator.cli.cascades:import_cascade",
    "gna": "cascadesim.simulator.cli.gna:gna",
    "explore": "cascadesim.simulator.cli.explore:explore",
    "list": "cascadesim.simulator.cli.commands:list_names",
}
BAD_INPUT = 2
A_BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130


class Commands(click.Group):
    """This group has the sub-commands of this layer and those that installed packages register."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*OWN, *sorted(set(_registered()) - set(OWN))]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in OWN:
            return _own(name)
        point = _registered().get(name)
        try:
            return None if point is None else cast("click.Command", point.load())
        except (ImportError, AttributeError) as error:
            raise CascadeSimError(f"command '{name}' ({point and point.value}) cannot be loaded: {error}") from error

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in OWN and not name.startswith("-") and name not in _registered():
            raise click.UsageError(f"no command '{name}'{suggestion(name, self.list_commands(context))}", context)
        return super().resolve_command(context, arguments)


def _own(name: str) -> click.Command:
    module, _, attribute = OWN[name].partition(":")
    return cast("click.Command", getattr(import_module(module), attribute))


@cache
def _registered() -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points  # scans all installed packages: not for `simulate`

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cascadesim(context: click.Context) -> None:
    """How long attention and whole transformers take on an accelerator, and what bounds them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@click.command("list", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("section", type=one_of(*SECTIONS), required=False, metavar="[SECTION]")
def list_names(section: str | None) -> None:
    """What can be named: architectures, workloads, cascades, spaces, kernels, devices, suites.

    One SECTION, or all of them.
    """
    from cascadesim.simulator.cli.listing import entries_of

    for position, name in enumerate(SECTIONS if section is None else (section,)):
        if section is None:
            click.echo(f"{chr(10) * (position > 0)}{name}")
        entries = entries_of(name)
        width = max((len(entry) for entry, _ in entries), default=0)
        for entry, remark in entries:
            click.echo(f"  {entry:{width}}  {remark}".rstrip())
        if not entries:
            click.echo("  none yet")


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
            command.invoke(context)
        sys.stdout.flush()
        return 0
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
        complain(_speaker(command, program, arguments), _message(error))
        return BAD_INPUT


def complain(speaker: str, message: str) -> None:
    """Print one line per problem. Lines of an excerpt (indented) follow theirs as they are, so that carets point."""
    for line in printable(message).splitlines():
        print(line if line.startswith(" ") else f"{speaker}: {line}", file=sys.stderr)


def _speaker(command: click.Command, program: str, arguments: Sequence[str]) -> str:
    """Choose the name that errors start with: the sub-command where there is one."""
    if not isinstance(command, click.Group) or not arguments:
        return program
    return arguments[0] if arguments[0] in command.list_commands(click.Context(command)) else program


def _message(error: click.ClickException | CascadeSimError | OSError | MemoryError) -> str:
    if isinstance(error, click.ClickException):
        text = " ".join(error.format_message().split()).rstrip(".")
        return bounded(text[:1].lower() + text[1:])
    if isinstance(error, OSError):  # a device that went away
        return bounded(f"{error.filename or 'input or output'}: {error.strerror or error}")
    return str(error) or "out of memory"


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
    """Run the program `cascadesim`."""
    sys.exit(program_exit(cascadesim, "cascadesim", sys.argv[1:] if arguments is None else arguments))


def simulate_main(arguments: Sequence[str] | None = None) -> None:
    """Run the program `simulate`, which is `cascadesim simulate`."""
    sys.exit(program_exit(_own("simulate"), "simulate", sys.argv[1:] if arguments is None else arguments))
