"""Where a command meets the shell: errors become one line on standard error and an exit code, never a traceback.

0 good, 1 a claim does not hold, 2 bad input, 130 interrupted. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

from cascadesim.einsum_cascades.errors import CascadeSimError, bounded

BAD_INPUT = 2
INTERRUPTED = 130


def exit_code(command: click.Command, program: str, arguments: Sequence[str]) -> int:
    """Run `command` on `arguments`; what the process should exit with."""
    _replace_what_cannot_be_encoded()
    try:
        with command.make_context(program, list(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as request:
        return request.exit_code
    except BrokenPipeError:
        _silence_standard_output()
        return 0
    except (KeyboardInterrupt, click.Abort):
        complain(_speaker(command, program, arguments), "interrupted")
        return INTERRUPTED
    except (click.ClickException, CascadeSimError, OSError) as error:
        complain(_speaker(command, program, arguments), _message(error))
        return BAD_INPUT


def complain(speaker: str, message: str) -> None:
    """One line per problem. The lines of an excerpt (indented) follow theirs as they are, so that carets point."""
    for line in message.splitlines():
        print(line if line.startswith(" ") else f"{speaker}: {line}", file=sys.stderr)


def _speaker(command: click.Command, program: str, arguments: Sequence[str]) -> str:
    """The name errors start with: the sub-command where there is one."""
    if not isinstance(command, click.Group) or not arguments:
        return program
    return arguments[0] if arguments[0] in command.list_commands(click.Context(command)) else program


def _message(error: click.ClickException | CascadeSimError | OSError) -> str:
    if isinstance(error, click.ClickException):
        text = " ".join(error.format_message().split()).rstrip(".")
        return bounded(text[:1].lower() + text[1:])
    if isinstance(error, OSError):  # a full disk, a device that went away
        return bounded(f"{error.filename or 'output'}: {error.strerror or error}")
    return str(error)


def _replace_what_cannot_be_encoded() -> None:
    """A terminal that knows no µ shows a question mark instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _silence_standard_output() -> None:
    """The reader has gone (`| head`): let the interpreter's own last flush go nowhere instead of complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
