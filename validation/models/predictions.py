"""What our models say of published runs: one generation for each device, workload, types, batch and lengths."""

from __future__ import annotations

from functools import lru_cache

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.generate import Generation, generate, memory_of, phases
from cascadesim.simulator.request import Request
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.table import Row


def figures(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The figure of one row."""
    return {"value": _figure(row.text("metric"), _generated(*_asked(row, tuple(settings))))}


def problem(row: Row) -> str | None:
    """Why the row cannot be run as one batch; None where it can."""
    device, settings, workload, batch, *tokens = _asked(row, ())
    try:
        needed = memory_of(*phases(_request(device, settings, workload, batch), *tokens))
    except CascadeSimError as error:
        return str(error)
    return None if needed is None or needed.fits else "the batch exceeds the memory: requests queue"


def _asked(row: Row, settings: tuple[str, ...]) -> tuple[str, tuple[str, ...], str, int, int, int]:
    given = (f"parallel.tensor={row.count('devices')}", f"engine={row.text('engine')}", *row.text("types").split())
    return (row.text("device"), (*given, *settings), row.text("workload"), row.count("batch"),
            row.count("input_tokens"), row.count("output_tokens"))  # fmt: skip


def _figure(metric: str, found: Generation) -> float | None:
    match metric:
        case "tokens_per_s":
            return found.tokens_per_s
        case "tokens_per_s_per_device":
            return found.tokens_per_s / found.devices
        case "tokens_per_s_of_steps":
            return found.concurrency / found.tpot_s if found.tpot_s else None
    return found.ttft_s if metric == "ttft_s" else found.tpot_s


@lru_cache(maxsize=4096)
def _generated(
    device: str, settings: tuple[str, ...], workload: str, batch: int, input_tokens: int, output_tokens: int
) -> Generation:  # fmt: skip
    return generate(_request(device, settings, workload, batch), input_tokens, output_tokens)


@lru_cache(maxsize=4096)
def _request(device: str, settings: tuple[str, ...], workload: str, batch: int) -> Request:
    return Request(load_workload(workload), catalogue.load(device, settings), batch=batch)
