"""What all tests share. Nothing of ours is imported at the top: the kernels' tests run where torch alone is."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

# where nothing may be kept, every process that a test starts compiles every module that it imports
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    """Random cases are the same ones in each run, so that what passes here passes everywhere; `make nightly` looks
    for others, as does `--hypothesis-profile=default`. No case has a time that it must keep: machines are busy."""
    if importlib.util.find_spec("hypothesis") is None:
        return
    from hypothesis import settings

    settings.register_profile("repeatable", derandomize=True, deadline=None)
    settings.register_profile("others", deadline=None)
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("others" if config.option.markexpr == "nightly" else "repeatable")


@pytest.fixture(autouse=True)
def nothing_is_said_of_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever test comes first in a checkout compiles and says so: not on the standard error that a test compares."""
    if importlib.util.find_spec("numba") is None:
        return
    from cascadesim.accelerators import compiled
    from cascadesim.simulator.cli import run  # noqa: F401  # the first in a checkout says that it is

    begin = compiled._Waiting.begin
    monkeypatch.setattr(
        compiled._Waiting, "begin", lambda waiting, why: begin(waiting, why) if waiting.what == "the toy" else None)
