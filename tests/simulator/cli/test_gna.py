"""The command `gna`: the JSON of the contract, tables, pictures, and one line for every kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.simulator.cli.commands import cascadesim, exit_code

HUNYUAN = ("--layout", "30x48x80", "--window", "18x24x24", "--q-tile", "4x8x8", "--kv-tile", "2x8x8")


def gna(*arguments: str) -> int:
    return exit_code(cascadesim, "cascadesim", ["gna", *arguments])


def test_json_follows_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert gna(*HUNYUAN, "--recommend", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "cascadesim.gna/1"
    assert found["attended_pairs"] == 115200 * 18 * 24 * 24
    assert found["flop_bound"] == pytest.approx(100 / 9)
    assert found["sparsity"] == pytest.approx(0.91)
    assert found["block_sparse"] is False
    assert found["predicted"] is None
    assert set(found["modes"]) == {"multidim_static", "multidim_dynamic", "flat_union", "flat_span"}
    assert set(found["modes"]["flat_span"]) == {"total", "max", "mean_bound", "worst_bound", "efficiency"}
    assert round(found["modes"]["multidim_static"]["worst_bound"], 2) == 3.27
    last = found["recommendations"][-1]
    assert (last["stride"], last["q_tile"], last["kv_tile"]) == ([16, 8, 8], [4, 8, 8], [2, 8, 8])
    assert (round(last["worst_bound"], 2), round(last["mean_bound"], 2), last["block_sparse"]) == (11.11, 10.42, True)


def test_the_table_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    flux = ("--layout", "256x256", "--window", "80x80", "--q-tile", "16x16", "--kv-tile", "16x8")
    assert gna(*flux, "--device", "b200", "--attention-share", "0.518", "--steps", "19/28") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "stride 1x1: 69% of the work in visited tiles is useful; stride 16x16 makes it 100%" in printed
    assert "token permutation takes" in printed
    assert "end to end" in printed


def test_layers_of_several_patterns_share_the_time_of_attention(capsys: pytest.CaptureFixture[str]) -> None:
    """One blocked layer, twice as fast, and one dense: attention, all of the run, takes (1/2 + 1) / 2 of its time."""
    line = ("--layout", "64", "--window", "32", "--stride", "32", "--q-tile", "8", "--kv-tile", "8")
    assert gna(*line, "--attention-share", "1", "--also", "1:window=64", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)["end_to_end"]
    assert found == {name: pytest.approx(4 / 3) for name in ("flop_bound", "worst_bound", "mean_bound")}


def test_recommendations_come_with_their_predicted_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert gna(*HUNYUAN, "--device", "b200", "--recommend", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recommendations"][0]["predicted"] == found["predicted"]
    times = [option["predicted"]["total_s"] for option in found["recommendations"]]
    assert times[-1] == min(times)


def test_causal_patterns_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """NATTEN issue 306: full window in space, causal in time, slower than dense."""
    assert gna("--layout", "30x32x32", "--window", "30x32x32", "--causal", "1,0,0", "--q-tile", "8x4x8",
               "--kv-tile", "4x4x8", "--device", "b200") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "causal in dimension 1: never block-sparse" in printed
    assert "on average before masking, expect no gain" in printed
    assert "dense would be faster on b200" in printed


@pytest.mark.parametrize("layout", [("4096", "512", "128", "128"), ("64x64", "16x16", "8x8", "8x8"),
                                    ("8x16x16", "4x8x8", "2x4x8", "2x4x8")])
@pytest.mark.slow
def test_pictures_are_drawn_in_one_two_and_three_dimensions(layout: tuple[str, ...], tmp_path: Path) -> None:
    size, window, query, key = layout
    picture = tmp_path / "picture.png"
    assert gna("--layout", size, "--window", window, "--q-tile", query, "--kv-tile", key, "--plot", str(picture)) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--window", "40x24x24"), "dimension 1: window 40 is larger than the layout 30"),
        (("--stride", "1x30x1"), "dimension 2: stride 30 is larger than the window 24"),
        (("--window", "18x24"), "the layout has 3 dimensions, but window has 2"),
        (("--q-tile", "4x8"), "the layout has 3 dimensions, but query tile has 2"),
        (("--kv-tile", "2x0x8"), "'--kv-tile': dimension 2 of '2x0x8': 0; give 1 to"),
        (("--layout", "30x-48x80"), "--layout"),
        (("--layout", "30000x48000x80"), "--layout"),
        (("--causal", "0,2,0"), "--causal"),
        (("--device", "h100"), "h100-sxm"),
        (("--extra-kv", "-1"), "--extra-kv"),
        (("--steps", "29/28"), "--steps"),
        (("--attention-share", "1.5"), "--attention-share"),
        (("--also", "3:widow=18x24x24"), "--also 3:widow=18x24x24: give N:window="),
        (("--also", "3:window=18x0x24"), "dimension 2 of '18x0x24'"),
        (("--also", "0:window=18x24x24"), "--also 0:window=18x24x24: 0; give 1 to"),
        (("--also", "3:window=31x24x24"), "dimension 1: window 31 is larger than the layout 30"),
        (("--output", "/nowhere/at/all.json"), "/nowhere/at"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    option, value = arguments
    given = list(HUNYUAN)
    if option in given:
        given[given.index(option) + 1] = value
    else:
        given += [option, value, *(("--attention-share", "0.5") if option == "--also" else ())]
    assert gna(*given) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err


@settings(max_examples=60, deadline=None)
@given(*[st.text(alphabet="0123456789x-, .e", max_size=8)] * 3)
def test_no_text_makes_a_traceback(layout: str, window: str, tile: str) -> None:
    arguments = [f"--layout={layout}", f"--window={window}", f"--q-tile={tile}", f"--kv-tile={tile}"]
    assert gna(*arguments, "--format", "json") in (0, 2)


def test_a_pattern_of_some_kind_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert gna("--layout", "64", "--q-tile", "8", "--kv-tile", "8") == 2
    assert "give one of --window, --pattern and --block-mask" in capsys.readouterr().err


@pytest.mark.parametrize(("causal", "said"), [("1", "all causal pairs are skipped"), ("0", "all pairs are skipped")])
def test_a_causal_pattern_is_compared_with_causal_attention(
    causal: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = f"documents:lengths=32+32,causal={causal}"
    assert gna("--layout", "64", "--pattern", pattern, "--q-tile", "8", "--kv-tile", "8") == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "needed"), [
    (("--heads", "3"), "--device"), (("--head-dim", "64"), "--device or --recommend"), (("--batch", "7"), "--device"),
    (("--permute-every", "3"), "--device"), (("--steps", "5/10"), "--attention-share"),
    (("--layers", "4"), "--attention-share"), (("--also", "2:window=100"), "--attention-share"),
    (("--maps", "absent.npy"), "--density"),
])  # fmt: skip
def test_an_option_that_nothing_reads_is_refused(
    capsys: pytest.CaptureFixture[str], typed: tuple[str, str], needed: str
) -> None:
    tiles = ("--layout", "512", "--window", "64", "--q-tile", "64", "--kv-tile", "64")
    assert gna(*tiles, *typed) == 2
    assert capsys.readouterr() == ("", f"gna: {typed[0]} changes nothing without {needed}\n")
