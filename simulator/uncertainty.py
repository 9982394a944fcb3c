"""How far each model has been from what it was held against: figures that the validation suites wrote here.

The file is data of this layer (`uncertainty.json`: architecture -> latency error and its basis); the suites that
produce it live above.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cascadesim.simulator.report import Uncertainty

_FILE = Path(__file__).parent / "uncertainty.json"


def uncertainty_of(architecture: str) -> Uncertainty | None:
    """None where no suite has compared this architecture with anything."""
    found = _measured().get(architecture)
    return None if found is None else Uncertainty(float(found["latency"]), str(found["basis"]))


@cache
def _measured() -> Mapping[str, Mapping[str, Any]]:
    import json

    return dict(json.loads(_FILE.read_text(encoding="utf-8"))) if _FILE.exists() else {}
