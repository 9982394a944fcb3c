"""The worked example of a neighborhood is what the command prints today."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from cascadesim.simulator.cli.gna import gna

PAGE = Path(__file__).parents[2] / "docs" / "gna.md"


def test_the_worked_example_is_up_to_date(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"```text\n\$ cascadesim gna (.*?--plot) \S+\n(.*?)```", text, re.DOTALL)
    assert found is not None
    arguments, shown = found.groups()
    given = [*arguments.replace("\\\n", "").split(), str(tmp_path / "picture.png")]
    result = CliRunner(env={"COLUMNS": "80"}).invoke(gna, given)
    assert result.exit_code == 0
    printed = [line.rstrip() for line in result.stdout.splitlines()]
    missing = [line for line in shown.splitlines() if line not in printed]
    assert not missing


def test_the_picture_is_there() -> None:
    (picture,) = re.findall(r"!\[[^]]*\]\((flux-[^)]*)\)", PAGE.read_text(encoding="utf-8"))
    assert (PAGE.parent / picture).read_bytes().startswith(b"\x89PNG")
