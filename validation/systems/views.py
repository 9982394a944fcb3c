"""The ledger as text, as pictures, and as the generated part of its page in the documentation.

The picture of a system has a panel for each quantity: published and predicted against the length, and times of the
predictions by part. The summary plot has every figure whose parameters are known, predicted over published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.views import output
from cascadesim.simulator.views.output import aligned
from cascadesim.validation.systems.claim_row import ClaimRow
from cascadesim.validation.systems.ledger import Entry, LedgerLine, ledger, times_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = {"flop_per_s": "FLOP/s", "throughput_per_s": "/s", "flop": "FLOP", "bytes": "B"}
LABELS = {  # of axes
    "latency_s": "time (s)", "flop_per_s": "FLOP/s", "throughput_per_s": "per second", "speedup": "speedup",
    "flop": "FLOPs", "bytes": "bytes", "density": "share of pairs", "kept": "share kept", "saved": "share saved",
    "count": "count",
}  # fmt: skip
ROUNDING = 1e-6  # relative; below it a figure is exact
MOST_WORDS = 34  # characters of a mechanism in a table
MOST_SERIES, MOST_INSIDE, MOST_TICKS = 8, 4, 7  # of a panel; more series have their legend below it
_OF_ONE_FIGURE: Mapping[str, Any] = {"id": "", "value": 0.0, "half_width": 0.0, "printed": "", "seq_len": None,
                                     "certainty": "", "lacks": "", "source": "", "note": ""}  # fmt: skip
RATIOS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
PICTURES = "claims"  # folder beside the page


def figure_text(quantity: str, value: float | None) -> str:
    """6.67 ms, 2.77x, 41%, 283 TFLOP."""
    if value is None:
        return "–"
    if quantity == "latency_s":
        return output.seconds(value)
    if quantity == "speedup":
        return f"{value:.3g}x"
    if quantity in ("density", "kept", "saved"):
        return f"{100 * value:.3g}%"
    if quantity == "bytes":
        return output.bytes_of(value)
    return f"{value:.4g}" if quantity == "count" else f"{output.count(value)}{UNITS[quantity]}"


def print_summary(entries: Sequence[Entry], stream: TextIO) -> None:
    """A line for each system: those that have predictions, then why the others have none."""
    rows: list[tuple[str, ...]] = [("system", "figures", "predicted", "median error")]
    rows += [(entry.system.name, str(len(entry.lines)), str(len(entry.answered)),
              _error(entry))
             for entry in entries if entry.answered]  # fmt: skip
    stream.writelines(f"{line}\n" for line in aligned(rows, names=1))
    stream.write("\nmedian error: of forward passes whose every parameter is published\n\nwithout a prediction:\n")
    rest = [entry for entry in entries if not entry.answered]
    stream.writelines(f"  {entry.system.name}: {entry.says}\n" for entry in rest)


def _error(entry: Entry) -> str:
    """The median one; exact where only the last bits differ."""
    error = entry.median_error
    return "–" if error is None else "exact" if error < ROUNDING else output.error(error)


def print_system(entry: Entry, stream: TextIO) -> None:
    """Every figure of one system, what the predictions are made of, and why there is none of the others."""
    system = entry.system
    stream.write(f"{system.name}: {system.does} ({system.source})\n")
    stream.writelines(f"note: {note}\n" for note in system.notes)
    answered = entry.answered
    if answered:
        stream.write("\n")
        rows: list[tuple[str, ...]] = [("figure", "on", "tokens", "published", "predicted", "ratio")]
        rows += [_cells(line) for line in answered]
        made = ["made of", *(_made_of(entry, line) for line in answered)]
        for text, parts in zip(aligned(rows, names=2), made, strict=True):
            stream.write(f"{text}  {parts}".rstrip() + "\n" if any(made[1:]) else f"{text}\n")
        used = dict.fromkeys(name for line in answered for name in times_of(entry, line))
        stream.writelines(f"{name}: {system.parts[name].does}\n" for name in used if system.parts[name].does)
    for kind, why, number in entry.gaps:
        stream.write(f"\n{number} without a prediction: {_GAPS[kind]} {why}\n")


_GAPS = {"lacks": "published without", "missing": "we lack", "later": "wait for"}


def _made_of(entry: Entry, line: LedgerLine) -> str:
    times = times_of(entry, line)
    return ", ".join(f"{name} {output.seconds(spent)}" for name, spent in times.items()) if len(times) > 1 else ""


def _cells(line: LedgerLine) -> tuple[str, ...]:
    row = line.row
    name = row.part or row.mechanism or row.model
    shown = name if len(name) <= MOST_WORDS else f"{name[: MOST_WORDS - 1]}…"
    return (shown, row.device, output.length(row.seq_len) if row.seq_len else "", figure_text(row.quantity, row.value),
            figure_text(row.quantity, line.value), "–" if line.ratio is None else f"{line.ratio:.2f}")  # fmt: skip


def _drawable(entry: Entry) -> Mapping[str, Sequence[LedgerLine]]:
    """Figures by quantity, of quantities that are published at several lengths."""
    by_quantity: dict[str, list[LedgerLine]] = {}
    for line in entry.answered:
        if line.row.seq_len and not line.row.backward:
            by_quantity.setdefault(line.row.quantity, []).append(line)
    return {quantity: lines for quantity, lines in by_quantity.items()
            if len({line.row.seq_len for line in lines}) > 1}  # fmt: skip


def draw_system(entry: Entry, path: Path) -> int:
    """Write the picture of one system; returns its number of panels. Raises CascadeSimError where there is nothing."""
    from matplotlib.figure import Figure

    shown = _drawable(entry)
    if not shown:
        raise CascadeSimError(f"{entry.system.name}: no figures at several lengths to draw")
    figure = Figure(figsize=(4.6 * len(shown), 3.8), layout="constrained")
    for place, (quantity, lines) in enumerate(shown.items(), start=1):
        _panel(figure.add_subplot(1, len(shown), place), quantity, lines)
    figure.suptitle(entry.system.name)
    _save(figure, path)
    return len(shown)


def _save(figure: Figure, path: Path) -> None:
    """The same file for the same figures: without a date, letters as letters."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes: Axes, quantity: str, lines: Sequence[LedgerLine]) -> None:
    """At most eight series: parts of a table, or what a row counts for; a line for each case at several lengths."""
    series: dict[str, list[LedgerLine]] = {}
    for line in lines:
        several = f"{line.row.devices} x" if (line.row.devices or 1) > 1 else ""
        name = " ".join(filter(None, (line.row.part or line.row.role, several, line.row.device)))
        series.setdefault(name, []).append(line)
    lengths = {name: {line.row.seq_len or 0 for line in own} for name, own in series.items()}
    for number, name in enumerate(sorted(sorted(series, key=lambda each: -len(lengths[each]))[:MOST_SERIES])):
        own = series[name]
        axes.plot([line.row.seq_len or 0 for line in own], [line.row.value for line in own], "o", color=f"C{number}",
                  markersize=5, fillstyle="none")  # fmt: skip
        for place, case in enumerate(cases(own)):
            axes.plot([line.row.seq_len or 0 for line in case], [line.value or 0 for line in case], ".-", markersize=3,
                      color=f"C{number}", linewidth=1.2, label="" if place else name)  # fmt: skip
    axes.set(xscale="log", xlabel="tokens", ylabel=LABELS[quantity],
             title="lines and dots: predicted, circles: published")  # fmt: skip
    if quantity not in ("speedup", "density", "kept", "saved"):
        _logarithmic(axes)
    axes.minorticks_off()
    shown = ticks(sorted(set().union(*lengths.values())))
    axes.set_xticks(shown, list(map(output.length, shown)))
    axes.title.set_fontsize(8)
    if len(series) <= MOST_INSIDE:
        axes.legend(fontsize=7, frameon=False)
    else:
        axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    axes.grid(alpha=0.2)


def _logarithmic(axes: Axes) -> None:
    """Height in logarithms; ticks at 1, 2 and 5 where powers of ten would leave none or one."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def cases(lines: Sequence[LedgerLine]) -> list[list[LedgerLine]]:
    """What differs in its length alone, shortest first; all of it where no length has two figures."""
    if len({line.row.seq_len for line in lines}) == len(lines):
        return [sorted(lines, key=lambda line: line.row.seq_len or 0)]
    cases: dict[ClaimRow, list[LedgerLine]] = {}
    for line in sorted(lines, key=lambda line: line.row.seq_len or 0):
        cases.setdefault(replace(line.row, **_OF_ONE_FIGURE), []).append(line)
    return list(cases.values())


def ticks(lengths: Sequence[int]) -> list[int]:
    """Lengths whose labels have room on a logarithmic axis."""
    room = log(lengths[-1] / lengths[0]) / MOST_TICKS
    shown: list[int] = []
    for length in lengths:
        if not shown or log(length / shown[-1]) >= room:
            shown.append(length)
    return shown


def draw_summary(entries: Sequence[Entry], path: Path) -> int:
    """Predicted over published of every figure whose parameters are known, system by system."""
    from matplotlib.figure import Figure

    shown = [(entry, [line for line in entry.answered if line.known and line.ratio]) for entry in entries]
    shown = [(entry, lines) for entry, lines in shown if lines]
    if not shown:
        raise CascadeSimError("no figure whose parameters are all published is predicted: nothing to draw")
    figure = Figure(figsize=(7.5, 0.9 + 0.34 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(1 / 1.3, 1.3, color="0.93")
    axes.axvline(1, color="0.6", linewidth=0.8)
    roles = {"dense": "C0", "mechanism": "C1", "total": "C1", "choice": "C2", "baseline": "C3"}
    for place, (_, lines) in enumerate(reversed(shown)):
        for role, colour in roles.items():
            own = [line.ratio or 1.0 for line in lines if line.row.role == role]
            axes.plot(own, [place] * len(own), "|", color=colour, markersize=11, alpha=0.7)
    for role, colour in (("dense", "C0"), ("mechanism", "C1"), ("choosing and moving", "C2"), ("other systems", "C3")):
        axes.plot([], [], "|", color=colour, markersize=11, label=role)
    axes.set_yticks(range(len(shown)), [entry.system.name for entry, _ in reversed(shown)])
    axes.set(xscale="log", xlabel="predicted / published (grey: within a factor 1.3)")
    axes.minorticks_off()
    axes.set_xticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.legend(fontsize=7, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    _save(figure, path)
    return 1


def page(entries: Sequence[Entry]) -> str:
    """A table of systems, then each system with its picture and figures."""
    lines = ["| system | figures | predicted | median error | |", "| --- | ---: | ---: | ---: | --- |"]
    for entry in entries:
        lines.append(f"| [{entry.system.name}](#{_anchor(entry.system.name)}) | {len(entry.lines)} | "
                     f"{len(entry.answered)} | {_error(entry)} | {'' if entry.answered else entry.says} |")  # fmt: skip
    for entry in entries:
        lines += ["", f"### {entry.system.name}", "", f"{entry.system.does} ({entry.system.source}).", ""]
        if _drawable(entry):
            picture = f"{PICTURES}/{_anchor(entry.system.name)}.svg"
            lines += [f"![{entry.system.name}: predicted and published]({picture})", ""]
        lines += list(_figures(entry))
        lines += [f"* {number} without a prediction: {_GAPS[kind]} {why}" for kind, why, number in entry.gaps]
        lines += [f"* {note}" for note in entry.system.notes]
    return "\n".join(lines)


def _figures(entry: Entry) -> Iterator[str]:
    """Figures whose parameters are known; the others are counted."""
    known = [line for line in entry.answered if line.known]
    if known:
        yield "| figure | on | tokens | published | predicted | ratio |"
        yield "| --- | --- | ---: | ---: | ---: | ---: |"
        yield from (f"| {' | '.join(_cells(line))} |" for line in known)
        yield ""
    if rest := len(entry.answered) - len(known):
        yield f"* {rest} more, whose parameters are not all published: `cascadesim claims '{entry.system.name}'`"


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def draw_all(folder: Path) -> Sequence[Entry]:
    """Draw all pictures of the page, below `folder`; returns the systems."""
    entries = ledger()
    (folder / PICTURES).mkdir(exist_ok=True)
    draw_summary(entries, folder / PICTURES / "summary.svg")
    for entry in filter(_drawable, entries):
        draw_system(entry, folder / PICTURES / f"{_anchor(entry.system.name)}.svg")
    return entries
