"""The ledger as a reader sees it: figures beside predictions, gaps, judged claims, text, pictures and the page."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.validation.claim import Cell, Claim
from cascadesim.validation.suites import find_suites, own_data
from cascadesim.validation.systems import verdict, views
from cascadesim.validation.systems.claim_row import ClaimRow, claim_row
from cascadesim.validation.systems.ledger import Entry, LedgerLine, document, ledger, line_of, rows, times_of
from cascadesim.validation.systems.predict import RowPrediction
from cascadesim.validation.systems.rows import read_rows
from cascadesim.validation.table import Row


@pytest.fixture(scope="module")
def entries() -> tuple[Entry, ...]:
    return ledger()


def figure(**cells: object) -> ClaimRow:
    plain = {"system": "Kinetics", "id": "a", "quantity": "bytes", "value": 1.0, "half_width": 0.0, "role": "dense",
             "certainty": "exact", "model": "Qwen3-0.6B", "phase": "decode"}  # fmt: skip
    return claim_row({**plain, **cells})  # type: ignore[dict-item]


@pytest.mark.slow
def test_every_figure_has_a_prediction_or_a_reason(entries: tuple[Entry, ...]) -> None:
    lines = [line for entry in entries for line in entry.lines]
    assert len(lines) == len(read_rows())
    assert all((line.value is None) == bool(line.why) for line in lines)
    assert {line.kind for line in lines if line.value is None} == {"lacks", "missing", "later"}


@pytest.mark.slow
def test_at_most_six_systems_lack_a_mechanism(entries: tuple[Entry, ...]) -> None:
    lacking = {entry.system.name for entry in entries if any(kind == "missing" for kind, _, _ in entry.gaps)}
    assert lacking <= {"BASED", "EfficientViT", "SHViT"}


@pytest.mark.slow
def test_the_cache_of_qwen3(entries: tuple[Entry, ...]) -> None:
    """28 layers, 8 heads of keys of 128, 32,768 tokens, 16 bits, keys and values: 3.5 GiB."""
    line = line_of(figure(layers=28, kv_heads=8, head_dim=128, batch=1, seq_len=32_768, value=3.5 * 2**30))
    assert line.value == 28 * 8 * 128 * 32_768 * 2 * 2 == 3.5 * 2**30
    assert line.ratio == 1


@pytest.mark.slow
def test_a_median_is_of_known_forward_figures_alone(entries: tuple[Entry, ...]) -> None:
    entry = next(entry for entry in entries if entry.system.name == "Kinetics")
    row = figure()
    rule = entry.system.rows[0]
    figures = (("exact", "decode", 1.1, False), ("read", "decode", 1.3, False), ("exact", "train fwd+bwd", 9.0, False),
               ("partial", "decode", 9.0, False), ("exact", "decode", 9.0, True))  # fmt: skip
    lines = tuple(LedgerLine(replace(row, certainty=certainty, phase=phase),
                             RowPrediction(value, 0.0, {}, rule.model_copy(update={"fitted": fitted})))
                  for certainty, phase, value, fitted in figures)  # fmt: skip
    assert replace(entry, lines=lines).median_error == pytest.approx(0.2)
    assert replace(entry, lines=lines[2:]).median_error is None


@pytest.mark.slow
def test_times_are_those_that_the_rule_names(entries: tuple[Entry, ...]) -> None:
    """PBS-Attn: a total is what is moved, chosen and attended; moving is made of three parts of its own."""
    entry = next(entry for entry in entries if entry.system.name == "PBS-Attn")
    total = next(line for line in entry.answered if line.row.part == "total")
    times = times_of(entry, total)
    assert list(times) == ["permute", "select", "attend"]
    assert total.value == pytest.approx(sum(times.values()))
    permute = next(line for line in entry.answered if line.row.part == "permute")
    assert list(times_of(entry, permute)) == ["repeat", "weigh", "sort"]


# -- how claims are judged


def cell(system: str, measured: float, predicted: float | None, **cells: object) -> Cell:
    content = {"system": system, "seq_len": 1024, "half_width": 0.0, "rounding": 0.0, "answer": "predicted", **cells}
    return Cell(Row(tuple(content.items()), "a.csv", 1), "value", measured, predicted)  # type: ignore[arg-type]


def judged(*cells: Cell) -> dict[str, float | None]:
    (suite,) = find_suites(["claims"])
    claim = Claim("a claim", "value", 0.1, "a reason", gate="systems")
    return dict(verdict.judge(suite, claim, "a.csv", cells).figures)


def test_medians_are_over_systems() -> None:
    """Errors 0.1 (three rows of one system), 0.3 and 0.4: the median is 0.3, whatever the number of rows."""
    found = judged(*[cell("a", 1, 1.1)] * 3, cell("b", 1, 1.3), cell("c", 1, 0.6))
    assert found["systems"] == pytest.approx(0.3)
    assert found["bias"] == pytest.approx(0.1)  # of 1.1, 1.3 and 0.6 the middle one


def test_what_is_not_predicted_is_no_pass() -> None:
    found = judged(cell("a", 1, 1.0), cell("b", 1, None, answer="missing: it"), cell("c", 1, None, answer="lacks: it"))
    assert (found["systems"], found["gaps"], found["rounded"]) == (math.inf, 1, math.inf)
    assert found["within"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("ratio", "outside"), [(1.3, 0), (1.31, 1), (1 / 1.3, 0), (0.76, 1)])
def test_speedups_count_within_a_factor(ratio: float, outside: int) -> None:
    assert judged(cell("a", 2.0, 2.0 * ratio))["within"] == outside


def test_ranks_have_one_pair_for_each_system_and_length() -> None:
    """Rows of one system and length are one pair; the order of three is reversed in two of them: rho is 0.5."""
    pairs = ((1.0, 1.0), (2.0, 3.0), (3.0, 2.0))
    cells = [cell(f"{number}", *pair) for number, pair in enumerate(pairs)]
    assert judged(*cells)["ranking"] == pytest.approx(0.5)
    assert judged(*cells, *[cell("0", 1.0, 1.0)] * 9)["ranking"] == pytest.approx(0.5)


def test_rounding_of_figures_and_of_their_configuration_is_no_error() -> None:
    assert judged(cell("a", 10.6, 10.67, half_width=0.05))["rounded"] == pytest.approx(0.02 / 10.6)
    assert judged(cell("a", 10.0, 10.3, half_width=0.1, rounding=0.2))["rounded"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
def test_speedups_of_two_rows_of_a_table() -> None:
    """SparseD's Dream at 64K: 1,699 s dense and 1,371 s sparse are 1.239x."""
    (suite,) = find_suites(["claims"])
    found = {row.text("id"): row for row in own_data(suite).rows}
    row = found["sparsed-dream-64k-sparsed over sparsed-dream-64k-fa2"]
    assert (row.get("compared"), row.number("value")) == ("ratio", pytest.approx(1699 / 1371))
    dense, sparse = (found[name].number("predicted") for name in
                     ("sparsed-dream-64k-fa2", "sparsed-dream-64k-sparsed"))  # fmt: skip
    assert dense is not None
    assert sparse is not None
    assert row.number("predicted") == pytest.approx(dense / sparse)


@pytest.mark.slow
def test_rows_count_for_what_they_are() -> None:
    (suite,) = find_suites(["claims"])
    kinds = {row.text("id"): row.get("compared") for row in own_data(suite).rows}
    assert kinds["pbs-t7-8k-fa"] == "dense"
    assert kinds["pbs-t7-8k-attend"] == kinds["pbs-t7-8k-total"] == "mechanism"
    assert kinds["pbs-t7-8k-select"] == "choice"
    assert kinds["pbs-t7-4k-attend"] == "reported"  # its density is not published
    assert kinds["vmoba-t1-81x480x832-full-flops"] == "amount"
    assert kinds["la2-speed_bwd-1024-flash2"] == "later"
    assert kinds["sparsed-llada-64k-noreuse"] == "reported"  # the cost of choosing was taken from it
    steps = {kind for name, kind in kinds.items() if name.startswith("tidal") and " over " not in name}
    assert not steps & {"dense", "mechanism"}  # the host's time was assumed with them in view


# -- what is shown


@pytest.mark.slow
def test_the_command_prints_a_line_for_each_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(cascadesim, "cascadesim", ["claims"]) == 0
    shown = capsys.readouterr().out
    assert "PBS-Attn" in shown
    assert "\n  SHViT: we lack convolutions on GPUs" in shown
    assert max(map(len, shown.splitlines())) <= 130


@pytest.mark.slow
def test_one_system_with_what_its_predictions_are_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(cascadesim, "cascadesim", ["claims", "pbs-attn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    total = next(line for line in lines if line.startswith("total") and " 16K " in line)
    assert "5.710 ms" in total
    assert "permute" in total
    assert "attend" in total
    assert any("published without share at seq_len 262144" in line for line in lines)


@pytest.mark.slow
def test_json_holds_every_figure(entries: tuple[Entry, ...]) -> None:
    content = document(entries[:3])
    assert content["schema"] == "cascadesim.claims/1"
    assert json.loads(json.dumps(content))["systems"][0]["name"] == entries[0].system.name
    flat = list(rows(entries))
    assert len(flat) == len(read_rows())
    assert {"published", "predicted", "ratio", "why", "source"} <= set(flat[0])


@pytest.mark.slow
def test_a_file_of_other_rows_is_predicted_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One collected row, in milliseconds; and the command's JSON of it."""
    path = tmp_path / "other.csv"
    header = ("system,claim_id,quantity,value,unit,baseline,device,count,model,layers,heads,kv_heads,head_dim,hidden,"
              "batch,seq_len,generated,dtype,causal,mechanism,phase,source,certainty,note")  # fmt: skip
    path.write_text(f"{header}\nLightning Attention,x,latency_ms,2.7,ms,,A100-80GB,,attention,1,32,32,128,4096,4,4096,,"
                    "bf16,yes,dense softmax,fwd,a table,exact,\n", encoding="utf-8")  # fmt: skip
    assert exit_code(cascadesim, "cascadesim", ["claims", "Lightning Attention", "--data", str(path), "--format",
                                                "json"]) == 0  # fmt: skip
    (system,) = json.loads(capsys.readouterr().out)["systems"]
    (found,) = system["figures"]
    assert found["published"] == pytest.approx(2.7e-3)
    assert found["ratio"] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("arguments", [["claims", "PBS"], ["claims", "--data", "nowhere.csv"]])
def test_what_is_not_there_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(cascadesim, "cascadesim", arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("claims: ")


@pytest.mark.parametrize(("quantity", "value", "text"), [
    ("latency_s", 0.00667, "6.670 ms"), ("speedup", 2.771, "2.77x"), ("density", 0.4054, "40.5%"),
    ("bytes", 3.5 * 2**30, "3.500 GiB"), ("flop_per_s", 61.3e12, "61.30 TFLOP/s"), ("count", 380000.0, "3.8e+05"),
    ("flop", None, "–"),
])  # fmt: skip
def test_figures_are_as_a_person_reads_them(quantity: str, value: float | None, text: str) -> None:
    assert views.figure_text(quantity, value) == text


@pytest.mark.slow
def test_pictures_are_drawn(entries: tuple[Entry, ...], tmp_path: Path) -> None:
    entry = next(entry for entry in entries if entry.system.name == "PBS-Attn")
    assert views.draw_system(entry, tmp_path / "a.svg") == 3  # times, speedups, densities
    assert views.draw_summary(entries, tmp_path / "b.svg") == 1
    assert ">PBS-Attn<" in (tmp_path / "b.svg").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_differs_in_more_than_its_length_has_a_line_of_its_own(entries: tuple[Entry, ...]) -> None:
    """DistCA published four batches at each length: a line through their median would be four times off."""
    entry = next(entry for entry in entries if entry.system.name == "DistCA")
    lines = [line for line in entry.answered if line.row.seq_len and line.row.quantity == "latency_s"]
    found = views.cases(lines)
    assert len(found) > 1
    assert sum(map(len, found)) == len(lines)
    for case in found:
        lengths = [line.row.seq_len or 0 for line in case]
        assert lengths == sorted(set(lengths))
        assert len({(line.row.batch, line.row.mechanism, line.row.phase) for line in case}) == 1


def test_labels_of_lengths_do_not_meet() -> None:
    assert views.ticks([1024, 4096, 131072, 200_000, 500_000]) == [1024, 4096, 131072, 500_000]
    assert views.ticks([8192]) == [8192]


@pytest.mark.slow
def test_the_page_has_every_system_and_links_pictures_that_are_there(entries: tuple[Entry, ...]) -> None:
    docs = Path(__file__).parents[3] / "docs"
    text = views.page(entries)
    assert text in (docs / "claims.md").read_text(encoding="utf-8")
    assert all(f"### {entry.system.name}\n" in text for entry in entries)
    pictures = {part.partition(")")[0] for part in text.split("](claims/")[1:]}
    assert len(pictures) > 8
    assert all((docs / "claims" / name).is_file() for name in pictures)


@pytest.mark.slow
def test_the_summary_says_exact_where_only_bits_differ(entries: tuple[Entry, ...]) -> None:
    stream = io.StringIO()
    views.print_summary([entry for entry in entries if entry.system.name in ("Kinetics", "SALE")], stream)
    lines = stream.getvalue().splitlines()
    assert lines[1].startswith("Kinetics")
    assert lines[1].endswith("exact")
    assert lines[2].startswith("SALE")
    assert lines[2].endswith("–")


@pytest.mark.slow
def test_a_ratio_is_over_the_stated_baseline_or_the_fastest_one() -> None:
    """SQA names MHA, whatever MQA took; FlashBias at 16K names none, and the fastest that reads a bias is Triton's."""
    (suite,) = find_suites(["claims"])
    names = {row.text("id").partition(" over ")[0]: row.text("id") for row in own_data(suite).rows
             if " over " in row.text("id")}  # fmt: skip
    assert names["sqa-131072-xSQA"].endswith(" over sqa-131072-MHA")
    assert names["fb-fwd-16384-triton-flash-bias"].endswith(" over fb-fwd-16384-triton-attn-bias")


@pytest.mark.slow
def test_json_of_the_verdicts_has_null_where_nothing_is_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(cascadesim, "cascadesim", ["validate", "claims", "--format", "json"]) == 0
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert [claim["holds"] for claim in claims[:7]] == [True] * 7
    assert all(claim["max_abs_relative_error"] is None for claim in claims[:2])  # convolutions are missing
