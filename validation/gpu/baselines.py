"""What a model must beat: the plain roofline, and the nearest measured neighbour.

Roofline: the larger of FLOPs over the vendor's peak and bytes over the vendor's bandwidth. Neighbour: of the
calibration rows of the same source, device, kernel and types, the nearest in the logarithms of all extents, scaled by
the ratio of the rooflines. Neither knows a scored latency.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from cascadesim.validation.gpu.layouts import SHAPE
from cascadesim.validation.gpu.model import device
from cascadesim.validation.gpu.split import CALIBRATION
from cascadesim.validation.gpu.work import Floats, Shapes


@cache
def peak_flops(name: str, dtype: str) -> float:
    """Of the vendor; FP32 on the FP32 units."""
    stated = device(name).datasheet
    tensor = None if dtype == "fp32" else getattr(stated.tensor_tflops, dtype)
    return 1e12 * float(tensor or stated.fp32_tflops)


def roofline_s(shapes: Shapes) -> Floats:
    pairs = list(zip(shapes.device.tolist(), shapes.dtype.tolist(), strict=True))
    peak = np.array([peak_flops(*pair) for pair in pairs])
    bandwidth = np.array([device(name).datasheet.dram_bytes_per_s for name, _ in pairs])
    return np.asarray(np.maximum(shapes.flops / peak, shapes.bytes / bandwidth), dtype=np.float64)


def neighbour_s(shapes: Shapes, measured: Shapes) -> Floats:
    """NaN where no calibration row of `measured` is of the same kind."""
    measured = measured.at(measured.split == CALIBRATION)
    own, theirs = _kinds(shapes), _kinds(measured)
    near, far = _position(shapes), _position(measured)
    scale, roofline = roofline_s(shapes), roofline_s(measured)
    found = np.full(len(shapes), np.nan)
    for kind in sorted(set(own)):
        here, there = np.flatnonzero(own == kind), np.flatnonzero(theirs == kind)
        if len(there):
            distance = np.abs(near[here, None, :] - far[None, there, :]).sum(axis=2)
            nearest = there[distance.argmin(axis=1)]
            found[here] = measured.latency_s[nearest] * scale[here] / roofline[nearest]
    return found


def _kinds(shapes: Shapes) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    columns = (shapes.source, shapes.device, shapes.kernel, shapes.operation, shapes.dtype, shapes.kv_dtype)
    return np.array([" ".join(each) for each in zip(*columns, strict=True)], dtype=np.str_)


def _position(shapes: Shapes) -> Floats:
    return np.stack([np.log2(1 + getattr(shapes, name)) for name in SHAPE], axis=1)
