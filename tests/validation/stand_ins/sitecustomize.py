"""Python reads this at its start: cases launch stand-ins of the kernels, and some go wrong as STAND_IN says.

Cases, their names, the processes, the timer and the files are the real ones. `raises`, `poisons`, `hangs` and `ends`
are lists of [case, variant].
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from cascadesim.validation.measure import cases as measure_cases
from cascadesim.validation.measure import process as measure_process
from cascadesim.validation.measure import timing as measure_timing

SHORT_US, LONG_US = 40.0, 20e3
measure_timing.WARM_UP_S = 0.0  # nothing here gets warm
measure_process.CASE_S = torch.SETTINGS.get("case_s", measure_process.CASE_S)
real_cases = measure_cases.cases


def _launch(case: measure_cases.Case, variant: str) -> Any:
    takes_us = SHORT_US if case.suite == "decode" else LONG_US
    kernel = JITFunction(type("kernel", (), {"__name__": variant}))

    def goes(wrong: str) -> bool:
        return [case.name, variant] in torch.SETTINGS.get(wrong, [])

    def launch() -> None:
        if goes("raises"):
            raise ValueError("no such tile")
        if goes("poisons"):
            torch.DEVICE.lost = True
        if goes("hangs"):
            time.sleep(3600)
        if goes("ends"):
            os._exit(9)
        kernel[(1,)](takes_us=takes_us)

    return launch


def _prepared(case: measure_cases.Case) -> measure_cases.Prepared:
    print("a compiler that prints", flush=True)  # among the answers it would be none
    launches = {name: _launch(case, name) for name in case.variants}
    unchecked = ("sdpa", "copy", "torch")
    return measure_cases.Prepared({name: launch if name.startswith(unchecked) else (launch, lambda: 1e-4)
                                   for name, launch in launches.items()})  # fmt: skip


@cache
def cases() -> tuple[measure_cases.Case, ...]:
    return tuple(replace(case, prepare=lambda device, case=case: _prepared(case)) for case in real_cases())


measure_cases.cases = cases
