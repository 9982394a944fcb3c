"""Devices of the presets, each loaded once, as they are or with settings."""

from __future__ import annotations

from functools import cache

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.spec import Device


@cache
def device(name: str = "h100-sxm", *settings: str) -> Device:
    found = load(name, settings)
    assert isinstance(found, Gpu)
    return found.spec
