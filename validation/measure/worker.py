"""The process that runs cases on the GPU: `python -m cascadesim.validation.measure.worker`, started by `measure`.

Requests come as JSON lines on standard input, answers go to standard output. What fails in a way that leaves the device
unusable ends this process, and only it: `measure` starts another, for what is left. It ends, too, when its standard
input does, so that nothing goes on measuring when `measure` is gone.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from cascadesim.validation.measure.cases import BenchmarkCase, case_named
from cascadesim.validation.measure.device import SAMPLED, compiled_of, device, environment, sampled
from cascadesim.validation.measure.timing import CudaTimer

Tell: TypeAlias = Callable[[Mapping[str, Any]], None]
SEED = 7
LONGEST_TEXT = 500


class DeviceLost(Exception):
    """The device answers nothing more in this process; says after what."""


def measured(
    case: BenchmarkCase, wanted: Collection[str], timer: CudaTimer, tell: Tell, healthy: Callable[[], bool]
) -> dict[str, Any]:
    """What a record says of the case: those of its variants that are wanted. Raises DeviceLost."""
    errors: dict[str, str] = {}

    def running(name: str) -> None:
        tell({"running": name})

    def failed(name: str, error: Exception) -> None:
        errors[name] = one_line(error)
        tell({"failed": name, "error": errors[name]})
        if not healthy():
            raise DeviceLost(errors[name])

    import torch

    prepared = case.prepare("cuda")
    kernels: dict[str, list[dict[str, Any]]] = {}
    checks: dict[str, float | None] = {}
    for name in [each for each in prepared.variants if each in wanted]:
        running(name)
        try:
            kernels[name] = compiled_of(prepared.variants[name])
            if name in prepared.checks:
                found = prepared.checks[name]()
                checks[name] = found if found == found else None  # JSON has no NaN
            else:
                torch.cuda.synchronize()
        except Exception as error:  # a kernel may fail in any way
            failed(name, error)
    sound = {name: prepared.variants[name] for name in kernels if name not in errors}
    running("")
    before = _clock(timer, healthy)
    with sampled(*SAMPLED) as meanwhile:
        samples = timer.measure(sound, prepared.only, running, failed)
    running("")
    return {"check": checks, "kernels": kernels, "errors": errors, "clocks": [before, _clock(timer, healthy)],
            "sampled": meanwhile, "flush_us": timer.flush_us, "floor_us": timer.floor_us, "unit": "us",
            "timing": {name: asdict(each) for name, each in samples.items()}}  # fmt: skip


def _clock(timer: CudaTimer, healthy: Callable[[], bool]) -> dict[str, Any]:
    """Reads the clock beside the samples: that it cannot be read costs none of them."""
    try:
        return timer.clock_mhz()
    except Exception as error:
        if not healthy():
            raise DeviceLost(one_line(error)) from None
        return {"unread": one_line(error)}


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST_TEXT]


def _healthy() -> bool:
    """Whether the device still computes: some errors stay until the process ends. What memory is unused goes back."""
    import torch

    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return bool(torch.ones(1, device="cuda").item() == 1)
    except Exception:
        return False


def _requests() -> Iterator[dict[str, Any]]:
    """Yields requests as they come; the process ends with its standard input."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            waiting.put(line)
        os._exit(0)  # in the middle of a case, too

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(waiting.get())


def _refusal() -> str | None:
    """Why nothing can be measured here, in one line."""
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        return f"needs torch and triton ({error}): pip install 'cascadesim[kernels]'"
    return None if torch.cuda.is_available() else "needs an NVIDIA GPU, and torch finds none"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # what else is printed goes to standard error
    os.dup2(2, 1)

    def tell(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    if (refusal := _refusal()) is not None:
        tell({"refused": refusal})
        return
    import torch

    tell({"device": device(), "env": environment()})
    timer: CudaTimer | None = None
    for request in _requests():
        timer = timer or CudaTimer(SEED, torch)
        case = case_named(request["suite"], request["case"])
        begin = time.monotonic()
        try:
            record = measured(case, request["variants"], timer, tell, _healthy)
        except Exception as error:
            if isinstance(error, DeviceLost) or not _healthy():
                tell({"lost": one_line(error)})
                os._exit(1)  # no clean-up: the device would not answer
            record = {"error": one_line(error)}
        tell({"record": {**record, "seconds": round(time.monotonic() - begin, 3)}})
        del record
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
