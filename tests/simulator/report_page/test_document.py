"""Reports as a page: one file that loads nothing, holds the figures of the JSON, and lives in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.workload import Workload, load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.fields import constants_of
from cascadesim.simulator.report import document
from cascadesim.simulator.report_page.document import page, payload, sections
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import reports

if TYPE_CHECKING:
    from conftest import Toy

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WITHOUT_END = {"meta", "br", "hr", "img", "input", "link"}


class Parsed(HTMLParser):
    """Whether tags are balanced, which sections there are, and what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loaded += [f"{tag} {name}" for name in given if name in ("src", "href", "action", "data", "srcset")]
        self.ids += [given["id"]] if given.get("id") else []  # type: ignore[list-item]
        self.sections += [given.get("id") or ""] if tag == "section" else []
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def requests_of(*names: str, lengths: tuple[int, ...] = (1024,), scope: str = "attention") -> list[Request]:
    bert = load_workload("bert")
    return [Request(bert, load(name), length, 64, scope=scope,  # type: ignore[arg-type]
                    fidelity="analytical" if name == "h100-sxm" else "cycle")
            for name in names for length in lengths]  # fmt: skip


def page_of(requests: list[Request]) -> str:
    return page(requests, [report for request in requests for report in reports(request)])


@cache
def single() -> str:
    return page_of(requests_of("fusemax"))


@cache
def sweep() -> str:
    return page_of(requests_of("flat", "fusemax", "h100-sxm", lengths=(1024, 4096)))


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.mark.parametrize("make", [single, sweep])
def test_a_page_is_one_file_that_loads_nothing(make: Any) -> None:
    text = make()
    parsed = Parsed(text)
    assert parsed.loaded == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "default-src 'none'" in text
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|fetch\(|XMLHttp", text)
    assert not re.findall(r"@[A-Z]+@", text)
    assert text.count("<script") == 2


def test_the_page_holds_the_reports_of_the_contract() -> None:
    requests = requests_of("flat", "fusemax", "h100-sxm", lengths=(1024, 4096))
    found = [report for request in requests for report in reports(request)]
    data = data_of(sweep())
    assert {"schema": data["schema"], "reports": data["reports"]} == json.loads(json.dumps(document(found)))
    assert len(data["details"]) == 6
    assert set(data["constants"]) == {"flat", "fusemax", "h100-sxm"}


def test_sections_are_there_where_they_have_something_to_show(toy: Toy, tiny: Workload) -> None:
    """A toy has no bandwidth, so no roofline; published figures know no such machine, so no error is stated."""

    def found(machine: Toy, **changes: Any) -> set[str]:
        return set(Parsed(page_of([Request(tiny, machine, **changes)])).sections)

    usual = {"", "units", "operations", "einsums", "schedules", "mapping", "energy", "area", "error"}
    assert found(toy) == usual
    assert found(replace(toy, energetic=False)) == usual - {"energy"}
    assert found(toy, fidelity="analytical") == usual - {"schedules"}
    assert found(toy, settings=("clock_hz=1",)) == usual | {"notes"}
    assert set(Parsed(single()).sections) == (usual | {"roofline", "notes"}) - {"operations"}
    assert set(Parsed(sweep()).sections) == (usual | {"roofline", "notes", "sweep"}) - {"operations"}


def test_text_of_users_is_text(toy: Toy, tiny: Workload) -> None:
    evil = tiny.model_copy(update={"name": "</script><b>a & b"})
    text = page_of([Request(evil, toy)])
    assert "<b>a" not in text
    assert data_of(text)["reports"][0]["workload"] == "</script><b>a & b"
    Parsed(text)


def test_a_schedule_is_the_first_tiles_of_the_program(toy: Toy, tiny: Workload) -> None:
    """Four tiles: 3 cycles of load, then 10 of work; the first result begins at 3, the chart with the load."""
    content: Any = payload([Request(tiny, toy, scope="attention")], reports(Request(tiny, toy, scope="attention")))
    (chart,) = content["details"][0]["schedules"]
    assert (chart["start"], chart["rows"], chart["tasks"]) == (0, ["dram loads", "array"], ["load", "QK"])
    work = [bar[1:4] for bar in chart["bars"] if chart["rows"][bar[0]] == "array"]
    assert work[:3] == [[3, 13, 0], [13, 23, 1], [23, 33, 2]]
    assert "schedules" in sections(content)


def test_constants_carry_the_sources_of_the_preset_and_say_what_was_set() -> None:
    rows = {row.field: row for row in constants_of(load("fusemax", ["clock_hz=1GHz"]))}
    assert rows["clock_hz"].value == "1000000000.0"
    assert rows["clock_hz"].remark == "set; the preset has 940_000_000.0"
    assert rows["pe_array.rows"][1:] == ("256", "", "artifact, 256 x 256 PEs")
    assert rows["global_buffer.capacity_bytes"].unit == "B"
    assert rows["leakage_w_per_um2"].remark.startswith("assumed: ")
    known = {row.field for row in constants_of(load("h100-sxm"))}
    assert "sms" in known
    assert "sm.l1_bytes" not in known  # no figure depends on it


def test_a_page_is_a_file_that_ends_in_html_and_is_written_whole(tmp_path: Path) -> None:
    import cascadesim

    target = tmp_path / "run.html"
    run = cascadesim.simulate("fusemax", "bert", scope="attention", seq_len="1K", fidelity="analytical")
    run.report(target)
    assert data_of(target.read_text(encoding="utf-8"))["reports"][0]["cycles"] == 1_892_352
    with pytest.raises(CascadeSimError, match="ends in"):
        run.report(tmp_path / "run.txt")
    with pytest.raises(CascadeSimError, match="no page"):
        cascadesim.passes("attention-1pass").report(target)


PROBE = """{
const failures = [], check = (name, holds) => { if (!holds) failures.push(name); };
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const one = selector => document.querySelector(selector);
const key = (where, name) =>
  where.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
check("ready", document.documentElement.dataset.ready === "yes");
check("no error", !document.documentElement.dataset.error);
check("wide", document.documentElement.scrollWidth <= innerWidth);
for (const section of all("main section")) if (!section.hidden) {
  const filled = section.querySelector(".bar, circle, .slice, tbody tr, pre, p:not(.said)");
  const seen = section.textContent.trim().length > 20 && section.getBoundingClientRect().height > 20;
  check(`empty ${section.id}`, filled && seen);
}
const units = all("#units .bar");
const sum = unit => all("i", unit).reduce((most, part) => most + parseFloat(part.style.width), 0);
check("units", units.length === reports[chosen].units.length);
check("all cycles", units.every(unit => Math.abs(sum(unit) - 100) < .01));
const holder = document.querySelector("#units .bars");
key(holder, "ArrowDown");
check("picked", units[0].classList.contains("picked") && document.activeElement === units[0]);
check("said", document.querySelector("#units .said").textContent.startsWith(`${reports[chosen].units[0].name}: busy`));
key(holder, "ArrowUp");
check("around", units[units.length - 1].classList.contains("picked"));
const picture = document.querySelector("#roofline svg");
key(picture, "ArrowRight");
check("a dot", all(".dot.picked", picture).length === 1 && one("#roofline .said").textContent.includes("of its roof"));
check("bars of a schedule", reports[chosen].fidelity !== "cycle" || all("#schedules .slice").length > 5);
if (reports.length > 1) {
  const rows = () => all("#table tbody tr"), before = one("#answer").textContent;
  check("dots", all("#runs .dot").length === reports.length && rows().length === reports.length);
  key(one("#table"), "ArrowDown");
  check("second run", chosen === 1 && one("#answer").textContent !== before);
  check("its dot", one("#runs .dot.picked").dataset.row === "1");
  const heading = all("#table th").find(each => each.textContent === "latency (ms)");
  heading.firstElementChild.click();
  const sorted = rows().map(row => reports[row.dataset.row].latency_s);
  check("sorted", sorted.every((each, place) => !place || sorted[place - 1] <= each));
  choose(5);  // a GPU in closed form: neither energy nor schedule
  check("hidden", document.getElementById("energy").hidden && document.getElementById("schedules").hidden);
  const across = document.getElementById("across");
  across.value = "architecture"; across.dispatchEvent(new Event("change"));
  check("by name", [...document.querySelectorAll("#runs text")].some(each => each.textContent === "fusemax"));
}
check("three digits", three(1234) === "1,230" && three(0.01234) === "0.0123");
check("units of figures", ms(0.0020134) === "2.01 ms" && mm2(1.303e9) === "1,300 mm²" && whole(1024) === "1,024");
document.body.dataset.failures = failures.join(",") || "none";
document.body.dataset.ink = getComputedStyle(document.body).color;
}"""


def in_browser(text: str, folder: Path, scheme: str, width: int) -> str:
    """The page after `PROBE`, which sees it as a user's keys and clicks left it; errors of scripts are kept."""
    assert BROWSER is not None
    path = folder / "page.html"
    watch = "<script>addEventListener('error', each => { document.documentElement.dataset.error = each; })</script>"
    text = text.replace("<script type", f"{watch}<script type").replace("</body>", f"<script>{PROBE}</script></body>")
    path.write_text(text, encoding="utf-8")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
               f"--window-size={width},2000", f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom",
               path.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
@pytest.mark.parametrize(("scheme", "ink", "width"), [
    ("1", "rgb(27, 27, 27)", 1280), ("0", "rgb(236, 236, 236)", 1280), ("1", "rgb(27, 27, 27)", 500),
])  # fmt: skip
@pytest.mark.parametrize("make", [single, sweep])
def test_the_page_lives_in_a_browser(tmp_path: Path, make: Any, scheme: str, ink: str, width: int) -> None:
    """Everything is drawn, keys walk, headings sort; light (1) and dark (0), wide and narrow."""
    found = in_browser(make(), tmp_path, scheme, width)
    assert 'data-failures="none"' in found, re.findall(r'data-(?:failures|error)="[^"]*"', found)
    assert f'data-ink="{ink}"' in found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spatten", "h100-sxm", "unfused", "edge-array"])
def test_every_kind_of_machine_has_a_page(name: str) -> None:
    """Whole models, at the fidelity that each runs by default; a GPU says its kernels."""
    workload = load_workload("gpt-2-small")
    request = Request(workload, load(name), 256, 1, fidelity="analytical" if name == "h100-sxm" else "cycle")
    text = page_of([request])
    parsed = Parsed(text)
    assert {"units", "operations", "einsums", "roofline", "mapping", "error"} <= set(parsed.sections)
    assert ("energy" in parsed.sections) == (data_of(text)["reports"][0]["energy_j"] is not None)
    (detail,) = data_of(text)["details"]
    on_it, beside = detail["roofline"]["points"], detail["roofline"]["without_dram"]
    assert ({point["kernel"] for point in (*on_it, *beside)} != {""}) == (name == "h100-sxm")
    assert all(point["operations"] <= 1.001 * point["roof"] * point["seconds"] for point in on_it)
