"""What our models say of published runs: one generation for each device, workload, types, batch and lengths."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.generate import Generation, generate, memory_of, phases
from cascadesim.simulator.request import Request
from cascadesim.simulator.serving import Arrivals, ClosedLoop, run
from cascadesim.simulator.step_times import Known
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.table import Row

CONTINUOUS = "continuous"


class PublishedRun(NamedTuple):
    """One run. `spread`: of its lengths, where requests come and go; None where they start together."""

    device: str
    settings: tuple[str, ...]
    workload: str
    batch: int
    input_tokens: int
    output_tokens: int
    spread: float | None


def figures(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The figure of one row."""
    return {"value": _figure(row.text("metric"), generated(asked_by(row, tuple(settings))))}


def problem(row: Row) -> str | None:
    """Why the row cannot be run: its batch, or where requests come and go one of them, does not fit; None if it can."""
    asked = asked_by(row, ())
    batch = asked.batch if asked.spread is None else 1
    try:
        request = _request(asked.device, asked.settings, asked.workload, batch)
        needed = memory_of(*phases(request, asked.input_tokens, asked.output_tokens))
    except CascadeSimError as error:
        return str(error)
    return None if needed is None or needed.fits else "the batch exceeds the memory: requests queue"


def asked_by(row: Row, settings: tuple[str, ...]) -> PublishedRun:
    given = (f"parallel.tensor={row.count('devices')}", f"engine={row.text('engine')}", *row.text("types").split())
    spread = float(row.number("spread") or 0) if row.text("batching") == CONTINUOUS else None
    return PublishedRun(row.text("device"), (*given, *settings), row.text("workload"), row.count("batch"),
                        row.count("input_tokens"), row.count("output_tokens"), spread)  # fmt: skip


def _figure(metric: str, found: Generation | ClosedLoop) -> float | None:
    match metric:
        case "tokens_per_s":
            return found.tokens_per_s
        case "tokens_per_s_per_device":
            return found.tokens_per_s / found.devices
        case "tokens_per_s_of_steps":
            return found.concurrency / found.tpot_s if isinstance(found, Generation) and found.tpot_s else None
    return found.ttft_s if metric == "ttft_s" else found.tpot_s


@lru_cache(maxsize=4096)
def generated(asked: PublishedRun) -> Generation | ClosedLoop:
    request = _request(asked.device, asked.settings, asked.workload, asked.batch)
    if asked.spread is None or asked.batch == 1:  # one client waits for itself alone
        return generate(request, asked.input_tokens, asked.output_tokens)
    return run(request, asked.input_tokens, asked.output_tokens, Arrivals(spread=asked.spread),
               _known(asked.device, asked.settings, asked.workload))  # fmt: skip


@lru_cache(maxsize=64)
def _known(device: str, settings: tuple[str, ...], workload: str) -> Known:
    """Parts of steps that other runs of the model on the device have timed."""
    return {}


@lru_cache(maxsize=4096)
def _request(device: str, settings: tuple[str, ...], workload: str, batch: int) -> Request:
    return Request(load_workload(workload), catalogue.load(device, settings), batch=batch)
