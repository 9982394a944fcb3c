"""The commands run in this process: exit code, standard output, standard error."""

from __future__ import annotations

import click
import pytest

from cascadesim.simulator.cli.commands import cascadesim, exit_code, simulate


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


class Run:
    """Runs `simulate` or `cascadesim` in this process: exit code, standard output, standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def simulate(self, *arguments: str) -> tuple[int, str, str]:
        return self._run(simulate, "simulate", arguments)

    def cascadesim(self, *arguments: str) -> tuple[int, str, str]:
        return self._run(cascadesim, "cascadesim", arguments)

    def _run(self, command: click.Command, program: str, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        code = exit_code(command, program, arguments)
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err

    def refused(self, *arguments: str) -> str:
        """The one line that a refusal of `simulate` is."""
        code, out, error = self.simulate(*arguments)
        assert (code, out) == (2, ""), error
        assert error.count("\n") == 1, error
        assert error.startswith("simulate: ")
        return error
