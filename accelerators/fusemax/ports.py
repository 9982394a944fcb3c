"""How long the ports of the buffer are busy: one row for each port and cycle. FuseMax artifact (rows, ports)."""

from __future__ import annotations

from cascadesim.accelerators.counting import Accesses
from cascadesim.accelerators.fusemax.actions import Counted
from cascadesim.accelerators.fusemax.placement import GLOBAL_BUFFER
from cascadesim.accelerators.spec import SpatialArray


def port_cycles(counted: tuple[Counted, ...], spec: SpatialArray) -> float:
    """Cycles that all accesses of an operation take at least, however they are spread."""
    buffer = sum((einsum.level(GLOBAL_BUFFER) for einsum in counted), Accesses())
    rows = (buffer.reads + buffer.writes) * spec.word_bytes / spec.global_buffer.row_bytes
    return rows / spec.global_buffer.ports
