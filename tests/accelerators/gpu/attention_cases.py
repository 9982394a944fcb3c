"""Attention of given sizes on a preset, for tests of what it takes."""

from __future__ import annotations

from preset_devices import device

from cascadesim.accelerators.gpu.attention.tile import AttentionCase, case_of
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import shape
from cascadesim.accelerators.gpu.kernel import load_kernel
from cascadesim.accelerators.gpu.timing import AttentionTiming, attention_timing

PAPER = {"batch": 1, "heads": 16, "heads_kv": 16, "queries": 16384, "keys": 16384}  # 16 K tokens, hidden size 2048


def case_of_sizes(name: str, kernel: str, head_dim: int, **sizes: int) -> AttentionCase:
    on = device(name)
    used = {**PAPER, "causal": 0, "window": 0, **sizes}
    asked = shape(used["batch"], used["heads"], used["heads_kv"], used["queries"], used["keys"], head_dim, None,
                  used["causal"] > 0, used["window"])  # fmt: skip
    return case_of(on, load_kernel(kernel), constants(on.generation), asked, "bf16", "bf16")


def timing(name: str, kernel: str, head_dim: int, **sizes: int) -> AttentionTiming:
    return attention_timing(case_of_sizes(name, kernel, head_dim, **sizes))
