"""Patterns by name on the command line: exact where static, expected where data chooses, exact for block masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.simulator.gna.pattern_report import pattern_answer

TILES = ("--q-tile", "128", "--kv-tile", "128")


def gna(*arguments: str) -> int:
    return exit_code(cascadesim, "cascadesim", ["gna", *arguments, *TILES])


def test_block_causal_is_half_of_dense(capsys: pytest.CaptureFixture[str]) -> None:
    """32 tiles a side, blocks of one tile: 1 + 2 + ... + 32 = 528 of 1024 tiles, none masked."""
    assert gna("--layout", "4096", "--pattern", "block-causal:block=128", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "cascadesim.gna/1"
    assert found["modes"]["flat_union"]["total"] == 528
    assert found["modes"]["flat_union"]["mean_bound"] == pytest.approx(1024 / 528)
    assert found["modes"]["flat_union"]["efficiency"] == 1.0
    assert found["block_sparse"] is True


@pytest.mark.parametrize(("query_tile", "key_tile", "tiles"), [
    (128, 128, 32 * 33 / 2),
    (256, 128, 2 * 16 * 17 / 2),  # query tile t of 16 sees key tiles up to 2 (t + 1)
    (128, 256, 2 * 16 * 17 / 2),  # two query tiles end in the same key tile: 2 (1 + 2 + ... + 16)
    (96, 64, sum(-(-min(96 * (tile + 1), 4096) // 64) for tile in range(43))),
])  # fmt: skip
def test_causal_patterns_are_judged_against_causal_attention(query_tile: int, key_tile: int, tiles: float) -> None:
    """All of a causal sequence is the baseline itself, on whatever tiles."""
    found = pattern_answer((4096,), "sink-window:sinks=0,window=4096", None, (query_tile,), (key_tile,))
    assert found.causal
    assert found.dense_tiles == found.visited == tiles
    assert (found.mean_bound, found.worst_bound, found.flop_bound, found.sparsity) == (1.0, 1.0, 1.0, 0.0)


def test_a_share_of_the_causal_blocks_gives_its_inverse() -> None:
    """PBS-Attn at 128K: 21.9 % of 524,800 causal tiles are 114,931, so 4.57x, not 8.3x."""
    found = pattern_answer((131072,), "pbs:share=0.219", None, (128,), (128,))
    assert found.dense_tiles == 1024 * 1025 // 2
    assert found.visited == pytest.approx(114_931, rel=1e-4)
    assert found.mean_bound == pytest.approx(1 / 0.219, rel=1e-4)
    assert found.worst_bound == pytest.approx(1 / 0.219, rel=1e-4)
    assert found.flop_bound == pytest.approx(1 / 0.219, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "causal"), [
    ("moba", True), ("nsa", True), ("sale", True), ("vsa", False), ("vmoba", False), ("strided:length=64", True),
    ("fixed:length=64,columns=8", True), ("halo:block=128,halo=32", False), ("block-causal:block=128", False),
    ("documents:lengths=1024+3072", True), ("documents:lengths=1024+3072,causal=0", False), ("frame-decay", False),
    ("global-window:window=256,globals=16", False), ("sliding-tile:tile=64,window=3", False),
])  # fmt: skip
def test_the_baseline_has_the_mask_of_the_pattern(pattern: str, causal: bool) -> None:
    found = pattern_answer((4096,), pattern, None, (64,), (64,))
    assert found.causal == causal
    assert found.dense_tiles == (64 * 65 // 2 if causal else 64 * 64)
    assert found.mean_bound >= 1.0
    assert found.sparsity == pytest.approx(1 - 1 / found.flop_bound)


def test_choosing_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert gna("--layout", "32768", "--pattern", "sale", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mean_bound_with_choice"] < found["modes"]["flat_union"]["mean_bound"] < found["flop_bound"]


def test_a_block_mask_of_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A band of 3 of 8 blocks: 2 + 3*6 + 2 = 22 tiles of 64."""
    band = np.abs(np.subtract.outer(np.arange(8), np.arange(8))) <= 1
    np.save(tmp_path / "band.npy", band)
    assert gna("--layout", "1024", "--block-mask", str(tmp_path / "band.npy"), "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modes"]["flat_union"]["total"] == 22
    assert found["modes"]["flat_union"]["max"] == 3


def test_a_block_mask_has_times_like_any_pattern(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Blocks of 256 up to 3, and 4 and 8 before the own one, from a file and by the name of such a pattern.

    Given as tiles alone, blocks on the diagonal count whole.
    """
    far, path = np.subtract.outer(np.arange(16), np.arange(16)), tmp_path / "blocks.npy"
    np.save(path, (far >= 0) & ((far <= 3) | np.isin(far, (4, 8))))
    file, named, tiles = [], [], ("--q-tile", "256", "--kv-tile", "256")
    for found, arguments in (
        (file, ("--pattern", f"block-mask:file={path},queries=256,keys=256,causal=1")),
        (named, ("--pattern", "power:block=256,window=3,sinks=0")), (file, ("--block-mask", str(path))),
    ):  # fmt: skip
        given = ["gna", "--layout", "4096", *arguments, *tiles, "--device", "h100-sxm", "--format", "json"]
        assert exit_code(cascadesim, "cascadesim", given) == 0
        found.append(json.loads(capsys.readouterr().out))
    cut, whole = file
    blocks = 16 + 15 + 14 + 13 + 12 + 8
    assert cut == {**named[0], "pattern": cut["pattern"]}
    assert cut["attended_pairs"] == blocks * 256**2 - 16 * 256 * 255 // 2
    assert whole["attended_pairs"] == blocks * 256**2
    times = whole["predicted"]
    assert times["kernel_s"] == pytest.approx(cut["predicted"]["kernel_s"], rel=0.1)
    assert sum(times["gap_s"].values()) == pytest.approx(times["total_s"] - times["promised_s"])


def test_sliding_tiles_of_video(capsys: pytest.CaptureFixture[str]) -> None:
    """STA on HunyuanVideo: 27 of 300 tiles of 384 tokens, 300 / 27 = 11.11."""
    tiles = ("--q-tile", "6x8x8", "--kv-tile", "6x8x8")
    arguments = ("gna", "--layout", "30x48x80", "--pattern", "sliding-tile:tile=6x8x8,window=3x3x3", *tiles)
    assert exit_code(cascadesim, "cascadesim", [*arguments, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["flop_bound"] == found["modes"]["flat_union"]["worst_bound"] == pytest.approx(300 / 27)
    assert found["block_sparse"] is True


@pytest.mark.parametrize("pattern", ["sink-window:sinks=64,window=512", "global-window:window=256,globals=16",
                                     "strided:length=64", "fixed:length=64,columns=8", "halo:block=128,halo=32",
                                     "documents:lengths=1024+3072", "frame-decay", "moba:block=256", "nsa", "vsa"])
def test_every_pattern_prints_a_table(pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    layout = "8x512" if pattern == "frame-decay" else "4096"
    assert gna("--layout", layout, "--pattern", pattern) == 0
    assert "mean bound" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pattern", "mobba"), "did you mean 'moba'"),
        (("--pattern", "sliding-tile:tile=64"), "window: expected sizes such as 30x48x80, got ''"),
        (("--pattern", "moba:keep=3"), "no setting 'keep'"),
        (("--pattern", "sink-window:sinks=3"), "needs the fields sinks, window"),
        (("--pattern", "sink-window:sinks=3,window"), "give field=value"),
        (("--pattern", "strided:length=x"), "'x' is not a number"),
        (("--pattern", "documents:lengths=5+6"), "add up to 11"),
        (("--pattern", "moba", "--recommend"), "--pattern and --block-mask go with"),
        (("--pattern", "moba", "--causal", "1"), "--pattern and --block-mask go with"),
        (("--pattern", "moba", "--window", "128"), "give one of"),
        ((), "give one of"),
        (("--block-mask", "missing.npy"), "missing.npy"),
        (("--pattern", "moba:block=0"), "block must be a whole number from 1"),
        (("--pattern", "vmoba:share=0"), "no query attends any key"),
        (("--pattern", "strided:length=2.5"), "length: 2.5; give a whole number"),
        (("--pattern", "strided:length=2,length=3"), "gives a field twice"),
        (("--pattern", "documents:lengths=4096,causal=no"), "causal: 'no'; give 0 or 1"),
        (("--pattern", "frame-decay:frames=3"), "knows the fields (none); got frames"),
        (("--pattern", "sliding-tile:tile=1,window=1", "--layout", "16384"), "16,384 tiles of 1; at most 8,192"),
        (("--pattern", "block-mask:queries=64,keys=64"), "needs the fields file, queries, keys; got queries, keys"),
        (("--pattern", "block-mask:file=missing.npy,queries=64,keys=64"), "missing.npy: cannot be read"),
    ],
)
def test_bad_patterns_are_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gna("--layout", "4096", *arguments) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err


def test_a_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    path, counted = tmp_path / "mine.npy", []
    for blocks in (np.eye(8), np.ones((8, 8))):
        np.save(path, blocks)
        counted.append(pattern_answer((512,), f"block-mask:file={path},queries=64,keys=64", None, (64,), (64,)).visited)
    assert counted == [8, 64]


@pytest.mark.parametrize(("fields", "message"), [
    ("queries=64,keys=128", "8 x 8 blocks; 512 tokens in blocks of 64 x 128 are 8 x 4"),
    ("queries=64,keys=64,causal=1", "causal=1: it has blocks above the diagonal"),
    ("queries=64,keys=64,causal=2", "causal: '2'; give 0 or 1"),
    ("queries=64,keys=32,causal=1", "blocks that are not square"),
])  # fmt: skip
def test_a_block_mask_that_is_not_what_it_says_is_one_line(
    fields: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "all.npy", np.tri(8, 16) if "keys=32" in fields else np.ones((8, 8)))
    assert gna("--layout", "512", "--pattern", f"block-mask:file={tmp_path / 'all.npy'},{fields}") == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err


def test_a_broken_block_mask_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, content in enumerate((b"PK\x03\x04broken", b"", b"\x93NUMPY\x01\x00")):
        path = tmp_path / f"{number}.npy"
        path.write_bytes(content)
        assert gna("--layout", "4096", "--block-mask", str(path)) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
