"""Which measured rows calibrate the GPU model and which score it: one in five, by a hash of the shape alone.

The same shape on another device, in another library or type falls on the same side, so that no calibrated constant
has seen a scored shape. The `# calibration:` line of each file makes the comparison refuse a claim that would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cascadesim.validation.columns import Value
from cascadesim.validation.gpu.layouts import SHAPE

ONE_IN = 5
CALIBRATION, SCORED = "calibration", "scored"


def shape_key(cells: Mapping[str, Value]) -> str:
    """The operation and the extents of a row, as text."""
    return " ".join([str(cells.get("operation")), *(f"{name}={cells.get(name) or 0}" for name in SHAPE)])


def split_of(cells: Mapping[str, Value]) -> str:
    """`calibration` for a fifth of all shapes."""
    digest = hashlib.blake2b(shape_key(cells).encode(), digest_size=8).digest()
    return CALIBRATION if int.from_bytes(digest, "big") % ONE_IN == 0 else SCORED
