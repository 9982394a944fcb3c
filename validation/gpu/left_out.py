"""Leave one device out: its rows predicted with constants that have seen none of them.

Constants come from the other devices of its architecture; what those have no rows of (attention on Ampere without the
A100, anything on Blackwell without the B200) comes from the nearest architecture. `calibrate` writes them to
`left_out.yaml`; the suite `gpu-left-out` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.einsum_cascades.notation.schema import read_yaml, validate
from cascadesim.validation.gpu.model import predicted_s
from cascadesim.validation.gpu.work import Floats, Shapes

FILE = Path(__file__).with_name("left_out.yaml")
# device -> (architecture, the nearest other one): the same kind of tensor instruction, warp-specialised kernels or not
DEVICES: Mapping[str, tuple[str, str]] = {
    "a100-sxm": ("ampere", "ada"), "a40": ("ampere", "ada"), "l40s": ("ada", "ampere"), "rtx4090": ("ada", "ampere"),
    "h100-sxm": ("hopper", "blackwell"), "h200-sxm": ("hopper", "blackwell"), "b200": ("blackwell", "hopper"),
}  # fmt: skip


@cache
def left_out_constants() -> Mapping[str, Constants]:
    """Device -> constants without it."""
    return {device: validate(Constants, found, FILE.name) for device, found in read_yaml(FILE).items()}


def predicted_unseen_s(shapes: Shapes) -> Floats:
    """Seconds of every row, with the constants that have not seen its device."""
    found = np.full(len(shapes), np.nan)
    for device, known in left_out_constants().items():
        rows = np.flatnonzero(shapes.device == device)
        if len(rows):
            found[rows] = predicted_s(shapes.at(rows), of={DEVICES[device][0]: known})
    return found


def text(found: Mapping[str, Mapping[str, float]], header: str) -> str:
    lines = [header.rstrip("\n")]
    for device, values in found.items():
        lines += [f"{device}:", *(f"  {name}: {value:.4e}" for name, value in values.items())]
    return "\n".join(lines) + "\n"
