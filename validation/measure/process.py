"""Cases in a process of their own: what is lost with it is the variant that ran, and no other.

One process runs case after case. When it ends, or does not answer, the variant that ran then has failed, and a new
process runs the rest of the case. A variant that was lost, or took long to fail, in two cases is left out of the
others.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.measure.cases import BenchmarkCase

COMMAND = (sys.executable, "-m", "cascadesim.validation.measure.worker")
START_S = 180.0  # torch read from a cold disk, a context on the device
CASE_S = 100.0  # assumed: five times what the longest is estimated to take, with its compilations
LOSSES = 3  # processes that one case may cost
COSTLY_S = 5.0  # a failure that took so long is not had a third time
SETTINGS = {"TRITON_DISABLE_LINE_INFO": "1", "TRITON_DEFAULT_FP_FUSION": "1"}  # cubins without paths; as counted
TAIL = 300  # characters of what a process said last
PREPARING = "preparing"


def environment() -> dict[str, str]:
    """Variables of every process that compiles: kernels for a device, not for the interpreter."""
    return {**{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}, **SETTINGS}


class NoAnswer(Exception):
    """The process ended; says how."""


class Silent(NoAnswer):
    """It said nothing for too long."""


class TimeUsedUp(Exception):
    """The whole run's time ended before the case could: nothing is known of it."""


class Worker:
    """A running process, and what it said."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 (closed by `end`)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                                         text=True, bufsize=1, env=environment())  # fmt: skip
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line)
        self._said.put(None)

    def ask(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended: `answer` says so
            self._process.stdin.write(json.dumps(request) + "\n")

    def answer(self, within_s: float) -> dict[str, Any]:
        """The next thing it says. Raises NoAnswer, Silent."""
        try:
            line = self._said.get(timeout=max(within_s, 0.0))
        except queue.Empty:
            raise Silent(f"no answer within {within_s:.0f} s") from None
        if line is None or not line.endswith("\n"):
            raise NoAnswer(f"its process ended with exit code {self._process.wait()}{self._last_words()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f": {lines[-1].strip()[-TAIL:]}" if lines else ""

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()


class Runner:
    """Runs cases, one after the other, in as many processes as it takes."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._costly: Counter[tuple[str, str]] = Counter()
        self._worker: Worker | None = None
        self.gone: str | None = None  # why no further case can run
        self.about = self._started()

    def _started(self) -> dict[str, Any]:
        """`device` and `env` of this machine. Raises CascadeSimError, in one line, where nothing can be measured."""
        self._worker = Worker(self._command)
        try:
            said = self._worker.answer(START_S)
        except NoAnswer as error:
            raise CascadeSimError(f"the process that measures does not start: {error}") from None
        if "refused" in said:
            self.close()
            raise CascadeSimError(said["refused"])
        return said

    def close(self) -> None:
        if self._worker is not None:
            self._worker.end()
        self._worker = None

    def run(self, case: BenchmarkCase, wanted: Sequence[str], ends: float) -> dict[str, Any]:
        """What a record says of the case's wanted variants. `ends`: when the run must, by time.monotonic. Raises
        TimeUsedUp."""
        errors = {name: "left out: failed twice in other cases" for name in wanted
                  if self._costly[case.suite, name] > 1}  # fmt: skip
        for _ in range(LOSSES):
            left = [name for name in wanted if name not in errors]
            if not left:
                return {"errors": errors, "timing": {}, "check": {}}
            if self._worker is None and not self._restarted():
                break
            if (found := self._attempt(case, left, errors, ends)) is not None:
                return {**found, "errors": {**errors, **found.get("errors", {})}}
            self.close()
            if PREPARING in errors:
                return {"error": errors.pop(PREPARING), "errors": errors}
        return {"error": self.gone or f"given up after {LOSSES} lost processes", "errors": errors}

    def _restarted(self) -> bool:
        """False where the device does not come back."""
        try:
            self._started()
        except CascadeSimError as error:
            self.gone = str(error)
        return self.gone is None

    def _attempt(
        self, case: BenchmarkCase, wanted: Sequence[str], errors: dict[str, str], ends: float
    ) -> dict[str, Any] | None:
        """None where the process was lost; then `errors` has one more."""
        assert self._worker is not None
        self._worker.ask({"suite": case.suite, "case": case.name, "variants": list(wanted)})
        begin = since = time.monotonic()
        until = min(begin + CASE_S, ends)
        running = PREPARING
        try:
            while True:
                said = self._worker.answer(until - time.monotonic())
                if "record" in said:
                    found: dict[str, Any] = said["record"]
                    return found
                if "running" in said:
                    running, since = said["running"] or PREPARING, time.monotonic()
                if "failed" in said:
                    errors[said["failed"]] = said["error"]
                    self._costly[case.suite, said["failed"]] += time.monotonic() - since > COSTLY_S
                if "lost" in said:
                    raise NoAnswer(said["lost"])
        except NoAnswer as error:
            if time.monotonic() >= ends:
                raise TimeUsedUp from None
            silent = f"no answer within {CASE_S:.0f} s"
            errors.setdefault(running, silent if isinstance(error, Silent) else str(error))
            self._costly[case.suite, running] += 1
            return None
