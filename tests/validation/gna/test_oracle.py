"""Reading the oracle's JSON: a small file of cases, what a wrong count looks like, what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.claim import Verdict
from cascadesim.validation.gna.oracle import parse_oracle
from cascadesim.validation.suites import compare, find_suites

(GNA_ORACLE,) = find_suites(["gna-oracle"])

# 8 tokens, window 4, stride 4, tiles of 4: two blocks. Two query tiles, each visits the one key tile of its block.
CONFIG = {"layout": [8], "window": [4], "stride": [4], "dilation": [1], "causal": [False], "q_tile": [4],
          "kv_tile": [4]}  # fmt: skip
STATIC = {"per_q_tile": [1, 1], "total": 2, "max": 1, "bound": 2.0, "worst_bound": 2.0, "efficiency": 1.0}
RESULT = {"tokens": 8, "attended_pairs": 32, "flop_bound": 2.0, "dense_tile_pairs": 4, "multidim_static": STATIC,
          "block_sparse": True}  # fmt: skip


def file_of(config: Mapping[str, object] = CONFIG, result: Mapping[str, object] = RESULT) -> str:
    return json.dumps({"generator": "by hand", "cases": [{"id": "two blocks", "config": config, "result": result}]})


def judged(text: str) -> dict[str, Verdict]:
    table = parse_oracle(text, GNA_ORACLE.layout, "cases.json")
    return {verdict.claim.name: verdict for verdict in compare(GNA_ORACLE, table, "cases.json", ())}


def test_two_blocks_counted_by_hand_hold() -> None:
    verdicts = judged(file_of())
    assert len(verdicts) == 4
    assert all(verdict.holds for verdict in verdicts.values())


@pytest.mark.parametrize(
    ("claim", "field", "wrong"),
    [
        ("attended pairs", "attended_pairs", 31),
        ("bounds", "flop_bound", 2.0 + 1e-9),
        ("block-sparse", "block_sparse", False),
        ("tiles of every", "multidim_static", {**STATIC, "per_q_tile": [1, 2]}),
        ("tiles of every", "multidim_static", {**STATIC, "per_q_tile": [1, 1, 0]}),
        ("attended pairs", "multidim_static", {**STATIC, "max": 2}),
    ],
)
def test_a_wrong_figure_fails_its_own_claim_only(claim: str, field: str, wrong: object) -> None:
    failed = [name for name, verdict in judged(file_of(result={**RESULT, field: wrong})).items() if not verdict.holds]
    assert len(failed) == 1
    assert failed[0].startswith(claim)


def test_a_mode_that_a_case_leaves_out_is_not_judged() -> None:
    flat = {"flat_span": STATIC, "attended_pairs": 32}
    assert {column.split("_")[0] for verdict in judged(file_of(result=flat)).values()
            for column in verdict.claim.scored_columns} >= {"flat"}  # fmt: skip
    assert all(verdict.holds for verdict in judged(file_of(result=flat)).values())


def test_a_row_knows_its_line_and_its_case() -> None:
    text = '{\n"cases": [\n' + json.dumps({"config": CONFIG, "result": RESULT}) + "\n]}"
    (row,) = parse_oracle(text, GNA_ORACLE.layout, "cases.json").rows
    assert (row.line, row.text("case")) == (3, "0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "no list of cases"),
        ('{"cases": []}', "no list of cases"),
        ('{"cases": [{"config": {}}]}', "case 0: no object 'result'"),
        (file_of(config={**CONFIG, "window": 4}), "'window' must be a list of whole numbers"),
        (file_of(result={**RESULT, "tokens": "8"}), "'tokens' must be a number"),
        (file_of(result={**RESULT, "block_sparse": 1}), "'block_sparse' must be true or false"),
    ],
)
def test_a_malformed_file_is_refused_by_what_is_wrong_with_it(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_oracle(text, GNA_ORACLE.layout, "cases.json")


def test_an_impossible_pattern_names_the_case_and_the_limit() -> None:
    with pytest.raises(SpecError, match=r"cases.json, line 1: .*window 9 is larger than the layout 8"):
        judged(file_of(config={**CONFIG, "window": [9]}))
