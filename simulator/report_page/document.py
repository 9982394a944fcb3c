"""One run or a sweep as one HTML page: the answer, where time goes, the roofline, the schedule, the mapping, the error.

The page holds the reports as `--format json` prints them, and beside each what only its page shows. Sections without
anything to show are left out. The pictures are made by the page itself (`report.html`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TypeAlias

from cascadesim.simulator.execution import OperationRun, schedule_of
from cascadesim.simulator.fields import constants_of
from cascadesim.simulator.report import Report, document
from cascadesim.simulator.report_page import roofline
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import parts
from cascadesim.simulator.views import render, schedule_charts
from cascadesim.simulator.views.output import seconds
from cascadesim.simulator.views.page import embedded, filled

_SCHEDULES = 4  # of the longest operations of a single run; a sweep shows the longest of each
Json: TypeAlias = Mapping[str, object]


def page(requests: Sequence[Request], reports: Sequence[Report]) -> str:
    """The page of the reports of requests, in their order."""
    content = payload(requests, reports)
    first = reports[0]
    names = (dict.fromkeys(getattr(report, each) for report in reports) for each in ("workload", "architecture"))
    title = "How long, and why: {} on {}".format(*(", ".join(each) for each in names))
    parts_of_page = {"TITLE": escape(title), "HEADLINE": escape(render.headline(first)), "DATA": embedded(content),
                     "ANSWER": escape(f"It takes {seconds(first.latency_s)}.")}
    return filled(__package__, "report.html", parts_of_page, sections(content))


def payload(requests: Sequence[Request], reports: Sequence[Report]) -> Json:
    """What the page embeds: the reports of the contract, `details` of each, and the constants of each machine."""
    ran = [(request, runs) for request in requests for runs in parts(request)]
    several = len(reports) > 1
    return {
        **document(reports),
        "details": [_details(report, request, runs, 1 if several else _SCHEDULES)
                    for report, (request, runs) in zip(reports, ran, strict=True)],
        "constants": {request.accelerator.name: list(map(list, constants_of(request.machine)))
                      for request in requests},
    }  # fmt: skip


def sections(content: Json) -> set[str]:
    """Name the sections of the template that have something to show of any report."""
    reports, details = content["reports"], content["details"]
    assert isinstance(reports, list)
    assert isinstance(details, list)
    found = {"sweep"} if len(reports) > 1 else set[str]()
    found |= {name for report in reports for name, key in _OF_REPORT.items() if report[key]}
    found |= {"operations"} if any(len(report["operations"]) > 1 for report in reports) else set()
    return found | {name for each in details for name in _OF_DETAILS if each[name]}


_OF_REPORT = {"units": "units", "einsums": "einsums", "energy": "energy_j", "area": "area_um2", "mapping": "mapping",
              "notes": "notes"}  # fmt: skip
_OF_DETAILS = ("roofline", "schedules", "error")


def _details(report: Report, request: Request, runs: Sequence[OperationRun], most_schedules: int) -> Json:
    return {
        "title": render.headline(report), "setting": render.setting(report),
        "error": ": ".join(render.error_of(report)),
        "flop_per_s": roofline.operations_per_s(runs, report.latency_s),
        "roofline": _roofline(request, runs),
        "schedules": list(_schedules(runs, most_schedules)) if report.fidelity == "cycle" else [],
    }  # fmt: skip


def _roofline(request: Request, runs: Sequence[OperationRun]) -> Json | None:
    delivered = request.accelerator.capabilities.dram_bytes_per_s
    found = list(roofline.points(runs, request.accelerator))
    shown = [point for point in found if point.dram_bytes]
    if not shown or delivered is None:
        return None
    return {
        "dram_bytes_per_s": delivered,
        "peaks": {" + ".join(point.units): point.peak for point in sorted(shown, key=lambda each: -(each.peak or 0))
                  if point.peak is not None},
        "points": [{**vars(point), "roof": point.roof(delivered)} for point in shown],
        "without_dram": [{**vars(point), "roof": point.roof(delivered)} for point in found if not point.dram_bytes],
    }  # fmt: skip


def _schedules(runs: Sequence[OperationRun], most: int) -> Iterator[Json]:
    """Charts of the first tiles of the longest operations that run by a program, each program once."""
    seen: set[object] = set()
    for run in sorted(runs, key=lambda each: -each.cycles):
        for phase in run.execution.plan.phases:
            if phase.program is None or phase.program in seen or len(seen) == most:
                continue
            seen.add(phase.program)
            several = len(run.execution.plan.phases) > 1
            name = f"{run.operation.name}, {phase.name}" if several else run.operation.name
            yield from (_chart(name, chart) for chart in schedule_charts.charts(schedule_of(run.execution.plan, phase)))


def _chart(name: str, chart: schedule_charts.Chart) -> Json:
    """Bars as [row, start, end, tile, task]: rows and tasks by their numbers, time in cycles."""
    rows = schedule_charts.rows_of((chart,), lambda _: 0)
    shown = [piece for piece in chart.slices if piece.start < chart.end and piece.finish > chart.start]
    tasks = list(dict.fromkeys(map(schedule_charts.name_of, shown)))
    return {
        "operation": name, "title": chart.title, "remark": chart.remark, "start": chart.start, "end": chart.end,
        "steady": chart.steady, "rows": rows, "tasks": tasks,
        "bars": [[rows.index(schedule_charts.row_of(piece)), max(piece.start, chart.start),
                  min(piece.finish, chart.end), piece.tile, tasks.index(schedule_charts.name_of(piece))]
                 for piece in shown],
    }  # fmt: skip
