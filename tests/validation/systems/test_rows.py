"""The ledger's own rows, and files of users: the collected columns or the clean ones."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.systems.claim_row import COUNTS, QUANTITIES
from cascadesim.validation.systems.rows import FILE, ClaimRow, read_ledger, read_rows
from cascadesim.validation.table import published_text

COLLECTED = Path(__file__).parents[4] / "shared/reference/claims/claims.csv"
needs_collected = pytest.mark.skipif(not COLLECTED.exists(), reason="the collected file is not here")


def by_id(name: str) -> ClaimRow:
    return next(row for row in read_rows() if row.id == name)


def collected() -> list[dict[str, str]]:
    lines = (line for line in COLLECTED.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return list(csv.DictReader(lines))


def test_the_header_tells_the_collected_columns_from_the_clean_ones(tmp_path: Path) -> None:
    raw, own = tmp_path / "raw.csv", tmp_path / "own.csv"
    raw.write_text("# a comment\nSystem, Claim_ID ,quantity,value,unit\nSome,some-01,speedup,98,% faster\n", "utf-8")
    own.write_text("system,id,quantity,value,half_width,role,certainty\nSome,some-01,speedup,1.98,0.005,mechanism,"
                   "partial\n", "utf-8")  # fmt: skip
    (first,), (second,) = read_rows(raw), read_rows(own)
    assert (first.value, first.half_width, first.printed) == (1.98, 0.005, "98 % faster")
    assert (second.value, second.half_width, second.printed) == (1.98, 0.005, "")
    assert all(getattr(second, name) is None for name in COUNTS)


def test_every_problem_of_a_clean_file_is_told_at_once(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("system,id,quantity,value,half_width,role,certainty,device,heads\n"
                   "Some,a,speed,1,0,mechanism,exact,h100-sxm,8\nSome,b,speedup,-1,0,mechanic,exact,h100-sx,0\n",
                   "utf-8")  # fmt: skip
    with pytest.raises(SpecError) as caught:
        read_rows(own)
    assert [re.findall(r"column '(\w+)'", problem)[0] for problem in caught.value.problems] == [
        "quantity", "value", "role", "device", "heads"]  # fmt: skip


def test_an_id_given_twice_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("system,id,quantity,value,half_width,role,certainty\n" + "Some,a,speedup,1,0,dense,exact\n" * 2,
                   "utf-8")  # fmt: skip
    with pytest.raises(SpecError, match="was given in line 2 already"):
        read_rows(own)


@pytest.mark.slow
def test_figures_of_our_copy_are_those_of_the_papers() -> None:
    vmoba, pbs, kinetics = map(by_id, ("vmoba-t1-81x480x832-full-flops", "pbs-t5-64k-perm", "kinetics-02"))
    assert (vmoba.quantity, vmoba.value, vmoba.device, vmoba.role) == ("flop", 282.64e12, "h100-sxm", "dense")
    assert (pbs.quantity, pbs.value) == ("density", pytest.approx(37632 / 131328))
    assert kinetics.value == 3.5 * 2**30 == 28 * 2 * 8 * 128 * 32768 * 2  # layers, K and V, heads, width, tokens, bytes


def test_our_copy_holds_what_its_columns_may() -> None:
    rows = read_rows()
    assert len({row.id for row in rows}) == len(rows)
    assert all(row.half_width > 0 and row.source for row in rows)
    assert {row.quantity for row in rows} == set(QUANTITIES)
    assert all(row.value <= 1 for row in rows if row.quantity in ("density", "saved"))


def test_every_exact_row_is_one_number_and_every_partial_one_says_what_is_missing() -> None:
    rows = read_rows()
    exact = [row for row in rows if row.certainty in ("exact", "read")]
    assert all(re.match(r"[0-9][0-9.e-]* ", row.printed) for row in exact)
    assert [row.id for row in rows if row.certainty == "partial" and not row.lacks] == []


def test_the_comments_of_our_copy_name_each_row_that_holds_no_figure() -> None:
    assert dict(read_ledger().dropped)["routing-transformer-01"] == "no number: O(n^1.5 d)"
    assert len(read_ledger().dropped) == published_text(FILE).count("# dropped: ")


@needs_collected
def test_our_copy_is_what_the_script_makes_of_the_collected_file() -> None:
    assert read_ledger(COLLECTED) == read_ledger()


@needs_collected
def test_each_collected_row_is_a_row_another_ids_note_or_left_out_with_a_reason() -> None:
    ledger, ids = read_ledger(COLLECTED), {row["claim_id"] for row in collected()}
    named = [row.id for row in ledger.rows] + [name for name, _ in ledger.dropped]
    named += [name for row in ledger.rows for name in re.findall(r"also ([^;]+)", row.note)]
    told = Counter(name if name in ids else name.rpartition("-")[0] for name in named)
    assert set(told) == ids
    assert {name for name, times in told.items() if times > 1} == {  # pairs
        "re-ttention-01", "faster-na-01", "fusemax-01"}  # fmt: skip


@needs_collected
def test_exact_are_326_figures_before_those_under_two_ids_are_merged() -> None:
    """claims.md: the text begins with "exact", the value is one number, the condition holds."""
    ids = {row["claim_id"]: row["certainty"] for row in collected()}
    ledger = read_ledger(COLLECTED)
    exact = [row for row in ledger.rows if row.certainty in ("exact", "read")]
    twice = [name for row in exact for name in re.findall(r"also ([^;]+)", row.note) if ids[name].startswith("exact")]
    assert len(exact) + len(twice) == 326
