"""Rules and parts of the claims ledger: which rule speaks of a row, what its expression names, what parts take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import SpecError, UnknownNameError
from cascadesim.simulator.simulate import simulate
from cascadesim.validation.systems import predict
from cascadesim.validation.systems.claim_row import ClaimRow, claim_row
from cascadesim.validation.systems.predict import predicted, rule_for
from cascadesim.validation.systems.system import (
    KERNEL_FACTORS,
    CannotPredict,
    find_system,
    read_system,
    systems,
)

ROW = claim_row({
    "system": "A", "id": "a", "quantity": "latency_s", "value": 1.0, "half_width": 0.0, "device": "h100-sxm",
    "dtype": "bf16", "causal": "yes", "layers": 2, "heads": 32, "kv_heads": 8, "head_dim": 128, "batch": 1,
    "seq_len": 4096, "mechanism": "dense", "phase": "prefill", "role": "dense", "certainty": "exact",
})  # fmt: skip


def other(**cells: object) -> ClaimRow:
    """`ROW` with other cells."""
    return replace(ROW, **cells)  # type: ignore[arg-type]


def asked(system: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **cells: object) -> predict.RowPrediction:
    """The prediction of `ROW` with other cells, by a system written as YAML."""
    path = tmp_path / "a.yaml"
    path.write_text(f"name: A\ndoes: it\nsource: here\n{system}", encoding="utf-8")
    monkeypatch.setattr(predict, "find_system", lambda _: read_system(path))
    predicted.cache_clear()
    try:
        return predicted(other(**cells))
    finally:
        predicted.cache_clear()


def test_there_are_38_systems_and_each_names_its_source() -> None:
    assert len(systems()) == 38
    assert all(system.does and system.source for system in systems().values())
    assert find_system("pbs-attn").name == "PBS-Attn"
    with pytest.raises(UnknownNameError, match="did you mean 'PBS-Attn'"):
        find_system("PBS-Atn")


def test_the_first_rule_that_matches_the_whole_cell_holds() -> None:
    system, cells = find_system("Lightning Attention"), {"mechanism": "dense softmax", "role": "dense"}
    assert rule_for(system, other(**cells, phase="bwd"))[0].later == "backward passes and training"
    rule, _ = rule_for(system, other(**cells, phase="fwd", part="flash2"))
    assert rule.predict == "layers * dense"


def test_numbers_in_a_text_are_numbers_of_the_expression() -> None:
    rule, named = rule_for(find_system("PSA"), other(mechanism="x, levels 1x .05, 2x .05, 4x .05, 8x .10, skip"))
    assert named == {"one": ".05", "two": ".05", "four": ".05", "eight": ".10"}
    assert rule.predict == "one + two / 2 + four / 4 + eight / 8"


@pytest.mark.parametrize(("cells", "kind", "why"), [
    ({"phase": "train fwd+bwd"}, "later", "backward passes and training"),
    ({"certainty": "abstract"}, "lacks", "their configuration: headlines, of which no more is stated"),
    ({"lacks": "the batch"}, "lacks", "the batch"),
    ({}, "missing", "no rule speaks of latency_s of 'dense'"),
])  # fmt: skip
def test_without_a_rule_the_row_says_why(cells: Mapping[str, object], kind: str, why: str,
                                         monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(CannotPredict) as error:
        asked("rows: []", monkeypatch, tmp_path, **cells)
    assert (error.value.kind, str(error.value)) == (kind, why)


def test_attention_is_that_of_simulate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One layer of Llama-3.1-8B: 32 heads of 128, 8 of keys, causal; the row has two layers."""
    found = asked("parts: {one: {does: a call, attention: {}}}\nrows: [{when: {}, predict: layers * one}]",
                  monkeypatch, tmp_path)  # fmt: skip
    machine = catalogue.load("h100-sxm", ("dtype=bf16",))
    (report,) = simulate(load_workload("llama-3.1-8b"), machine, sequence_length=4096, batch=1, scope="attention",
                         fidelity="analytical")  # fmt: skip
    attention = next(each for each in report.operations if each.name == "attention")
    assert found.parts["one"] == pytest.approx(attention.cycles / report.clock_hz, rel=1e-9)
    assert found.value == 2 * found.parts["one"]


def test_a_decoding_call_has_one_query_and_no_mask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "parts: {one: {does: a call, attention: {queries: 1}}}\nrows: [{when: {}, predict: one}]"
    masked, whole = (asked(text, monkeypatch, tmp_path, causal=causal).value for causal in ("yes", "no"))
    assert masked == whole


def test_a_pattern_is_a_layers_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is chosen and moved apart from what is attended; both together are the layer's attention part."""
    text = """
parts:
  attended: {does: a, attention: {pattern: "pbs:share={share}"}}
  chosen: {does: b, attention: {pattern: "pbs:share={share}", operations: "pattern_.*"}}
  both: {does: c, attention: {pattern: "pbs:share={share}", operations: ".*"}}
tables: {share: {by: seq_len, source: a table, values: {4096: 0.5}}}
rows: [{when: {}, predict: attended + chosen + both}]
"""
    parts = asked(text, monkeypatch, tmp_path).parts
    assert parts["both"] == pytest.approx(parts["attended"] + parts["chosen"], rel=1e-12)
    with pytest.raises(CannotPredict, match="share at seq_len 8192: a table has none"):
        asked(text, monkeypatch, tmp_path, seq_len=8192)


def test_a_pass_takes_its_bytes_and_a_launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """8 GB at what DRAM of an H100 gives, 2.5 to 3.35 TB/s, and some microseconds; rows by index take longer."""
    text = """
parts:
  stream: {does: a, passes: {reads: 4e9, writes: 4e9}}
  gather: {does: b, passes: {reads: 4e9, writes: 4e9, by_index: true}}
rows: [{when: {}, predict: gather / stream}]
"""
    found = asked(text, monkeypatch, tmp_path)
    assert 8e9 / 3.35e12 < found.parts["stream"] < 8e9 / 2.5e12
    assert found.value > 1


def test_what_attention_loads_in_tiles_comes_from_dram_without_a_launch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """4 GB no faster than 3.35 TB/s and slower than a stream of them; 4 MB, which L2 would keep, from DRAM as well."""
    text = """
parts:
  stream: {does: a, passes: {reads: 4e9}}
  tiles: {does: b, passes: {reads: 4e9, in_tiles: true}}
  few: {does: c, passes: {reads: 4e6, in_tiles: true}}
rows: [{when: {}, predict: stream + tiles + few}]
"""
    parts = asked(text, monkeypatch, tmp_path).parts
    assert 4e9 / 3.35e12 < parts["stream"] < parts["tiles"] < 1.1 * parts["stream"]
    assert 4e6 / 3.35e12 < parts["few"] < parts["tiles"] / 100


def test_a_model_and_its_flops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wan 2.1 1.3B, 32,760 tokens: 30 layers of 12 heads of 128: 4 n^2 d FLOPs of self-attention, 197.8 TFLOP."""
    text = """
parts:
  attention: {does: a, flops: {workload: wan2.1-t2v-1.3b-480p, of: attention}}
  rest: {does: b, flops: {workload: wan2.1-t2v-1.3b-480p, of: rest}}
rows: [{when: {}, predict: attention + rest}]
"""
    found = asked(text, monkeypatch, tmp_path, seq_len=32_760)
    assert found.parts["attention"] == 4 * 32_760**2 * 128 * 12 * 30
    assert found.value == pytest.approx(282.64e12, rel=5e-3)  # VMoBA, table 1


def test_what_last_digits_of_a_rows_text_leave_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """density .31 is 0.305 to 0.315: of 100 that is half a point."""
    text = 'rows: [{when: {mechanism: "density (?P<share>[.0-9]+)"}, predict: 100 * share + 7}]'
    found = asked(text, monkeypatch, tmp_path, mechanism="density .31")
    assert (found.value, found.rounding) == (pytest.approx(38.0), pytest.approx(0.5))
    whole = asked(text, monkeypatch, tmp_path, mechanism="density 3")
    assert whole.rounding == 0


def test_a_row_without_what_its_figure_needs_lacks_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "parts: {one: {does: a call, attention: {}}}\nrows: [{when: {}, predict: one}]"
    for cell, says in (("device", "the device"), ("batch", "batch"), ("seq_len", "seq_len")):
        with pytest.raises(CannotPredict) as error:
            asked(text, monkeypatch, tmp_path, **{cell: None})
        assert (error.value.kind, str(error.value)) == ("lacks", says)


def test_what_a_machine_refuses_is_a_mechanism_that_we_lack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "parts: {one: {does: a, attention: {kernel: flash-attention-3}}}\nrows: [{when: {}, predict: one}]"
    with pytest.raises(CannotPredict, match="does not run on") as error:
        asked(text, monkeypatch, tmp_path, device="a100-sxm")
    assert error.value.kind == "missing"


def test_a_row_that_states_no_type_has_16_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """32-bit products take longer than those of 16 bits, of whichever kind."""
    text = "parts: {one: {does: a call, attention: {kernel: unfused-pytorch}}}\nrows: [{when: {}, predict: one}]"
    plain, half, full = (asked(text, monkeypatch, tmp_path, dtype=dtype).value for dtype in ("", "fp16", "fp32"))
    assert plain == half < full


@pytest.mark.parametrize(("text", "says"), [
    ("rows: [{when: {}, predict: one, lacks: two}]", "give one of predict, lacks, missing, later"),
    ("rows: [{when: {phase: '('}, predict: one}]", "when.phase: not a regular expression"),
    ("parts: {one: {does: a, passes: {reads: 1}, number: 2}}", "give one of attention, model"),
    ("parts: {one: {does: a, attention: {sequence: 1}}}", "unknown field"),
    ("rows: [{when: {phases: fwd}, predict: layers}]", "when.phases: no such column"),
    ("rows: [{when: {}, predict: layers * dens}]", "rows: no field or name 'dens'"),
    ("parts: {one: {does: a, passes: {reads: head}}}\nrows: [{when: {}, predict: one}]",
     "parts.one: no field or name 'head'"),
    ("parts: {one: {does: a, attention: {pattern: 'moba:kept={few}'}}}\nrows: [{when: {}, predict: one}]",
     "parts.one: no number few"),
    ("parts: {one: {does: a, number: 1}, two: {does: b, number: one}}\nrows: [{when: {}, predict: one}]",
     "parts.two: no rule reads it"),
    ("tables: {share: {by: seq_len, source: a table, values: {1: 2}}}\nrows: [{when: {}, predict: layers}]",
     "tables.share: no rule reads it"),
    ("workloads: {small: {hidden: 1}}\nrows: [{when: {}, predict: layers}]", "workloads.small: no rule reads it"),
])  # fmt: skip
def test_a_file_says_what_is_wrong_with_it(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"name: A\ndoes: it\nsource: here\n{text}\n", encoding="utf-8")
    with pytest.raises(SpecError, match=says):
        read_system(path)


def test_what_texts_and_workloads_name_is_read(tmp_path: Path) -> None:
    """Numbers in the braces of a pattern and of a workload, one named by a rule, one part by way of another."""
    path = tmp_path / "a.yaml"
    path.write_text("""
name: A
does: it
source: here
tables: {share: {by: seq_len, source: a table, values: {4096: 0.5}}}
workloads: {small: {hidden: "{width}"}}
parts:
  width: {does: a size, number: heads * head_dim}
  run: {does: a prompt, model: {workload: small}}
  call: {does: a call, attention: {pattern: "moba:kept={kept},share={share}"}}
  all: {does: both, number: run + call}
rows: [{when: {mechanism: "top (?P<kept>[0-9]+)"}, predict: all}]
""", encoding="utf-8")
    assert set(read_system(path).parts) == {"width", "run", "call", "all"}


def test_kernels_that_are_named_and_not_modelled_have_a_source() -> None:
    """FlashAttention-2's figures on A100: heads of 128 223 and 197 TFLOP/s, xFormers 122 and 117; heads of 64 192 and
    181 (8K), xFormers 98 and 94 (8K)."""
    expected = {"memory_efficient_128": 1.7558, "memory_efficient_64": 1.9424}
    assert {name: round(KERNEL_FACTORS[name], 4) for name in expected} == expected


def test_the_system_that_the_page_adds_predicts_its_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The YAML of docs/claims.md as it stands: its means read queries and keys, and 30 % of the tiles are attended."""
    page = (Path(__file__).parents[3] / "docs" / "claims.md").read_text(encoding="utf-8")
    text = page.split("```yaml\n")[1].partition("```")[0]
    body = "\n".join(line for line in text.splitlines() if not line.startswith(("name:", "does:", "source:")))
    dense = asked(body, monkeypatch, tmp_path)
    assert dense.value == 2 * dense.parts["dense"]
    sparse = asked(body, monkeypatch, tmp_path, mechanism="share .3 of the blocks", role="mechanism")
    assert sparse.value == pytest.approx(2 * (sparse.parts["pool"] + 0.3 * sparse.parts["dense"] * 1.5))
    with pytest.raises(CannotPredict, match="the size of the cache"):
        asked(body, monkeypatch, tmp_path, phase="decode e2e", role="mechanism")
