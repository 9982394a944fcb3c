"""The answer as Parquet, CSV, pictures and a page: complete, self-contained, alive in a browser where there is one."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.explore import explore
from cascadesim.simulator.explore.plot import draw
from cascadesim.simulator.explore.results import Frame, page
from cascadesim.simulator.explore.space import read_space

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SPACE: dict[str, Any] = {
    "question": "Which <array> & buffer, for </script> lovers?",
    "architecture": "fusemax",
    "vary": {"pe_array.rows": [64, 128, 256], "global_buffer.capacity_bytes": [2**20, 2**24],
             "binding.policy": ["epochs", "serial"]},
    "workloads": [{"workload": "bert", "scope": "attention", "sequence_length": "1K"}],
    "objectives": ["latency_s", "area_mm2", "energy_j"],
}  # fmt: skip


@cache
def frame() -> Frame:
    return explore(SPACE, workers=1)


class Page(HTMLParser):
    """Tags and what they load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [f"{tag} {value}" for name, value in attrs if name in ("src", "href", "action", "data")]


def test_names_of_columns_are_broken_where_a_table_is_wider_than_80_columns() -> None:
    """Each line of a name ends with a dot or an underscore, and its last one stands above the figures."""
    fields = ["measured.dram_bytes_per_s", "sm.shared_memory_bytes_per_clock", "sm.special_per_clock"]
    names = [*fields, "latency_s", "area_mm2"]
    columns = {name: np.array([1024 * (place + 1)] * 2) for place, name in enumerate(names)}
    wide = replace(frame(), columns=columns, fields=tuple(fields), objectives=("latency_s", "area_mm2"))
    *_, above, below, first, last = lines = str(wide).splitlines()
    assert below.split() == ["s", "clock", "per_clock", "latency_s", "area_mm2"]
    assert above.split() == ["bytes_per_", "bytes_per_", "special_"]
    assert first.split() == last.split() == ["1,024", "2,048", "3,072", "4,096", "5,120"]
    assert max(map(len, lines)) <= 80
    assert max(map(len, str(replace(frame(), columns={"latency_s": np.array([1.0])}, fields=(),
                                    objectives=("latency_s",))).splitlines())) < 20  # fmt: skip


def test_a_page_is_one_small_file_that_loads_nothing() -> None:
    text, parsed = page(frame()), Page()
    parsed.feed(text)
    assert parsed.loaded == []
    assert "default-src 'none'" in text
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert len(text.encode()) < 5_000_000
    assert "Which &lt;array&gt; &amp; buffer, for &lt;/script&gt; lovers?" in text
    assert parsed.tags.count("script") == 2


def test_the_page_holds_every_design_as_data_and_as_a_table() -> None:
    text = page(frame())
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert set(data["names"]) == set(frame().columns)
    assert data["names"][:6] == [*SPACE["vary"], *SPACE["objectives"]]
    assert [row[data["names"].index("latency_s")] for row in data["rows"]] == frame()["latency_s"].tolist()
    assert text.count("<tr data-row=") == len(frame())
    assert {each["name"] for each in data["references"]} >= {"fusemax", "fusemax-edge"}


def run_in_browser(folder: Path, script: str, *options: str) -> str:
    """The page after `script`, which sees it as a user's keys and clicks left it."""
    assert BROWSER is not None
    path = folder / "page.html"
    path.write_text(page(frame()).replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
               *options, "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


PROBE = """{
const failures = []; const check = (name, holds) => { if (!holds) failures.push(name); };
const rows = () => [...document.querySelectorAll("#designs tbody tr")];
check("ready", document.documentElement.dataset.ready === "yes");
check("dots", document.querySelectorAll("#front .dot").length === rows().length);
check("ways", document.querySelectorAll("#ways .way").length === rows().length);
check("bars", document.querySelectorAll("#moves rect").length > 3);
check("marks", document.querySelectorAll("#front .mark").length > 1);
const column = data.names.indexOf("area_mm2"), heading = document.querySelectorAll("#designs th")[column];
const areas = () => rows().map(row => data.rows[Number(row.dataset.row)][column]);
heading.firstElementChild.click();
check("ascending", areas().every((each, place, all) => !place || all[place - 1] <= each));
check("aria-sort", heading.getAttribute("aria-sort") === "ascending");
heading.firstElementChild.click();
check("descending", areas().every((each, place, all) => !place || all[place - 1] >= each));
const front = document.getElementById("front");
front.focus();
check("focus", document.activeElement === front);
front.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, cancelable: true }));
check("picked", document.querySelectorAll("#front .dot.picked").length === 1 && rows()[0].classList.contains("picked"));
check("said", document.getElementById("picked").textContent.includes("latency_s"));
front.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true, cancelable: true }));
check("walked around", rows().at(-1).classList.contains("picked"));
const up = document.getElementById("up"), before = front.querySelector(".dot").getAttribute("cy");
up.value = "energy_j"; up.dispatchEvent(new Event("change"));
check("another axis", [...front.querySelectorAll("text")].some(each => each.textContent === "energy (J)"));
check("numbers", write(2740) === "2,740" && write(0.5) === "0.5" && write(2740.123) === "2,740" && write(0) === "0");
document.body.dataset.failures = failures.join(",") || "none";
document.body.dataset.ink = getComputedStyle(document.body).color;
}"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
@pytest.mark.parametrize(("scheme", "ink"), [("1", "rgb(27, 27, 27)"), ("0", "rgb(236, 236, 236)")])
def test_the_page_lives_in_a_browser_in_both_colour_schemes(tmp_path: Path, scheme: str, ink: str) -> None:
    """Pictures are drawn, headings sort, keys walk, axes change; light (1) and dark (0)."""
    found = run_in_browser(tmp_path, PROBE, f"--blink-settings=preferredColorScheme={scheme}")
    assert 'data-failures="none"' in found, re.findall(r'data-failures="[^"]*"', found)
    assert f'data-ink="{ink}"' in found


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_runs_give_equal_pictures(tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    draw(frame(), first)
    draw(frame(), second)
    assert first.read_bytes() == second.read_bytes()


def test_a_single_design_has_a_picture_too(tmp_path: Path) -> None:
    single = explore({**SPACE, "vary": {"clock_hz": [9.4e8]}, "objectives": ["latency_s"]}, workers=1)
    draw(single, tmp_path / "one.png")
    assert "1 are on the front" in page(single)


@pytest.mark.slow
def test_parquet_carries_the_space_and_the_version(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    target = tmp_path / "front.parquet"
    frame = explore("hunyuanvideo-tiles", output=target)
    table = parquet.read_table(target)
    assert table.column_names == list(frame.columns)
    assert table.num_rows == len(frame)
    assert table.schema.metadata[b"cascadesim.space"].decode() == read_space("hunyuanvideo-tiles")[1]
    assert table.schema.metadata[b"cascadesim.version"].decode() == frame.version
    assert table["latency_s"].to_pylist() == frame["latency_s"].tolist()


def test_csv_is_a_table_below_comments(tmp_path: Path) -> None:
    target = tmp_path / "front.csv"
    frame = explore(SPACE, output=target, workers=1)
    lines = target.read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [float(row["latency_s"]) for row in rows] == frame["latency_s"].tolist()
    assert f"# cascadesim {frame.version}, front of space; read with comment='#'" in lines
    assert "# architecture: fusemax" in lines


def test_without_pyarrow_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CascadeSimError, match="needs pyarrow"):
        explore(SPACE, output=tmp_path / "a.parquet")
