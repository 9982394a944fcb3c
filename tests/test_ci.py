"""What CI runs can fail: a smoke test that notices, stages whose failures and missing tests are failures."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def smoke() -> ModuleType:
    """`tests/smoke.py`, a program of its own."""
    spec = importlib.util.spec_from_file_location("smoke", ROOT / "tests" / "smoke.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["smoke"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def in_python(smoke: ModuleType, code: str) -> str | None:
    """What the smoke test finds wrong with a program, of which it expects to print `yes`."""
    found: str | None = smoke.problem(smoke.Case("a", (sys.executable, "-c", code), lambda out: out == "yes\n"))
    return found


def test_the_smoke_test_names_what_failed(smoke: ModuleType) -> None:
    assert in_python(smoke, "print('yes')") is None
    assert in_python(smoke, "print('no')") == "another answer than expected: no\n"
    assert in_python(smoke, "print('yes'); raise SystemExit('why')") == "exit code 1: why"
    traceback = "import sys; print('yes'); print('Traceback', file=sys.stderr)"
    assert in_python(smoke, traceback) == "Traceback"


def test_an_answer_without_cycles_is_no_report(smoke: ModuleType) -> None:
    good = '{"reports": [{"cycles": 1, "latency_s": 1e-9, "bound_by": "array_2d"}]}'
    assert smoke.is_a_report(good)
    assert not smoke.is_a_report(good.replace(": 1,", ": 0,"))
    assert not smoke.is_a_report(good.replace('"array_2d"', "null"))


def stages(commands: str) -> tuple[int, str]:
    """`commands` after the functions of `.ci/run`: exit code, and the last lines of its summary."""
    functions = "\n".join(re.findall(r"^[a-z]+\(\) \{\n.*?^\}", SCRIPT, flags=re.MULTILINE | re.DOTALL))
    text = f'set -euo pipefail\nscratch=$(mktemp -d)\nsummary=()\ntotal=0\n{functions}\n{commands}\nrm -r "$scratch"'
    end = '\nprintf "%s\\n" "${summary[@]}" "$total passed"'
    done = subprocess.run(["bash", "-c", text + end], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_counts_of_stages_are_added_up_at_the_end() -> None:
    twice = "tested two printf '4 passed\\n1 failed, 5 passed\\n'"
    code, out = stages(f"tested one echo '==== 3 passed, 2 skipped in 1.2s ===='; {twice}")
    assert code == 0
    first, second, total = out.splitlines()[-3:]
    assert re.fullmatch(r"one +\d+ s   3 passed, 2 skipped", first)
    assert re.fullmatch(r"two +\d+ s   4 passed \+ 1 failed, 5 passed", second)
    assert total == "12 passed"


@pytest.mark.parametrize("commands", [
    "stage one false; echo went on", "tested one bash -c 'echo 3 passed; exit 1'; echo went on",
    "tested one echo 2 skipped; echo went on",
])  # fmt: skip
def test_a_stage_that_fails_or_runs_no_test_is_the_end(commands: str) -> None:
    code, out = stages(commands)
    assert code != 0
    assert "went on" not in out


def test_an_interpreter_is_one_only_if_it_runs_and_is_of_its_version(tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert stages(f"is {sys.executable} {version}")[0] == 0
    assert stages(f"is {sys.executable} 3.10")[0] != 0
    assert stages(f"is {broken} {version}")[0] != 0
    assert stages(f"is {tmp_path}/absent {version}")[0] != 0


def test_ci_begins_with_the_oldest_python_that_is_promised() -> None:
    (oldest,) = re.findall(r'requires-python = ">=([0-9.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"VERSIONS=({oldest} " in SCRIPT
