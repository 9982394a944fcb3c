"""The command `gna`: what its options mean. The work is in `report`, imported once they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from cascadesim import einsum_cascades
from cascadesim.einsum_cascades.notation.errors import shortened
from cascadesim.simulator import gna as patterns
from cascadesim.simulator.cli.options import choice, new_file, output_format, whole
from cascadesim.simulator.result import Result, delivered

if TYPE_CHECKING:
    from cascadesim.simulator.gna.pattern_report import PatternAnswer
    from cascadesim.simulator.gna.report import Answer, Scenario

LARGEST_LAYOUT = 2**24  # tokens, also of a tile; assumed: beyond every published layout
_PATTERN_TILE = (128,)  # queries, and keys, of FlashAttention's tiles for heads of 128
_READ_WITH = {  # options -> those of which one must be given, or nothing reads them
    "maps": ("density",), "heads": ("device",), "batch": ("device",), "permute_every": ("device",),
    "head_dim": ("device", "recommend"), "steps": ("attention_share",), "layers": ("attention_share",),
    "also_texts": ("attention_share",),
}  # fmt: skip
_OPTIONS = {"also_texts": "--also"}
_LARGEST_SIZE = 2**40  # keeps wrong input short of numbers too long to print


def sizes(text: str) -> tuple[int, ...]:
    """Read `30x48x80`, one to three dimensions."""
    if "," in text:
        raise click.BadParameter(f"'{shortened(text)}'; did you mean {shortened(text.replace(',', 'x'))}?")
    found = []
    for dimension, part in enumerate(text.lower().split("x"), start=1):
        try:
            found.append(whole(1, _LARGEST_SIZE)(part))
        except click.BadParameter as problem:
            raise click.BadParameter(f"dimension {dimension} of '{shortened(text)}': {problem.message}") from None
    return tuple(found)


def flags(text: str) -> tuple[bool, ...]:
    """Read `1,0,0`, one per dimension."""
    parts = [part.strip() for part in text.split(",")]
    if not set(parts) <= {"0", "1"}:
        raise click.BadParameter(f"'{shortened(text)}'; give 0 or 1 for each dimension, such as 1,0,0")
    return tuple(part == "1" for part in parts)


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise click.BadParameter(f"'{shortened(text)}' is not a number") from None
    if not 0 <= value <= 1:
        raise click.BadParameter(f"{shortened(text)}; give a share from 0 to 1")
    return value


def steps(text: str) -> tuple[int, int]:
    """Read `19/28`: steps with the pattern, of all steps."""
    sparse, slash, every = text.partition("/")
    if not slash:
        raise click.BadParameter(f"'{shortened(text)}'; give sparse/all, such as 19/28")
    total = whole(1, 2**20)(every)
    return whole(0, total)(sparse), total


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--layout", type=sizes, required=True, metavar="AxBxC",
              help="Tokens, such as 30x48x80 (time x height x width).")
@click.option("--window", type=sizes, metavar="AxBxC", help="Keys each query sees along each dimension.")
@click.option("--stride", type=sizes, metavar="AxBxC", help="Queries that share one window.  [1]")
@click.option("--dilation", type=sizes, metavar="AxBxC", help="Distance between neighbouring keys.  [1]")
@click.option("--causal", type=flags, metavar="0,0,0",
              help="Dimensions in which a query sees only what came before it.")
@click.option("--q-tile", "query_tile", type=sizes, metavar="AxBxC",
              help="Queries of a kernel's tile. Patterns have 128 without.")
@click.option("--kv-tile", "key_tile", type=sizes, metavar="AxBxC", help="Keys of a kernel's tile, likewise.")
@click.option("--extra-kv", "extra_keys", type=whole(0, LARGEST_LAYOUT), default="0", metavar="N",
              help="Further keys that every query sees, such as text tokens.")
@choice("--dead-tiles", of=("skip", "walk"), default="skip",
        help_text="Query tiles of nothing but padding: not run, or run over a full window.")
@click.option("--pattern", metavar="NAME[:FIELD=VALUE,…]",
              help="Another pattern instead of a window, such as sink-window:sinks=64,window=4096 or moba:kept=2.")
@click.option("--block-mask", type=click.Path(path_type=Path), metavar="FILE.npy",
              help="Attended blocks as a two-dimensional array instead of a window.")
@click.option("--density", type=share, metavar="F",
              help="Compare all patterns that keep this share of the pairs, with --recommend and --device.")
@click.option("--maps", type=click.Path(path_type=Path), metavar="FILE.npy",
              help="Attention weights (heads x queries x keys), of which those patterns keep a share: with --density.")
@click.option("--device", metavar="NAME", help="Predict times on this GPU, such as h100-sxm.")
@click.option("--heads", type=whole(1, 2**20), default="24", show_default=True, help="Heads, for times.")
@click.option("--head-dim", type=whole(1, 1024), default="128", show_default=True, help="Size of a head, for times.")
@click.option("--batch", type=whole(1, 2**20), default="1", show_default=True, help="Sequences at once, for times.")
@click.option("--attention-share", type=share, metavar="F",
              help="Attention's share of the whole run: adds end-to-end figures.")
@click.option("--steps", type=steps, default="1/1", metavar="SPARSE/ALL", help="Denoising steps that use the pattern.")
@click.option("--layers", type=whole(1, 2**20), default="1", metavar="N",
              help="Layers that have this pattern, beside those of --also.")
@click.option("--permute-every", type=whole(1, 2**20), default="1", metavar="N", show_default=True,
              help="Layers between one permutation of the tokens and the next, for times.")
@click.option("--also", "also_texts", multiple=True, metavar="N:window=AxBxC[,…]",
              help="N further layers with another window, stride, dilation (several times).")
@click.option("--recommend", is_flag=True, help="Also search strides, windows, dilations and tile shapes.")
@output_format("table", "json", help_text="How the answer is printed.")
@click.option("--output", type=new_file(), metavar="FILE", help="Print to a file instead.")
@click.option("--plot", type=new_file(".png", ".svg"), metavar="FILE.png|.svg",
              help="Also draw the mask with its tiles, the useful share per tile, and the bound against the stride.")
def gna(
    layout: tuple[int, ...], window: tuple[int, ...] | None, stride: tuple[int, ...] | None,
    dilation: tuple[int, ...] | None, causal: tuple[bool, ...] | None, query_tile: tuple[int, ...] | None,
    key_tile: tuple[int, ...] | None, extra_keys: int, dead_tiles: str, pattern: str | None, block_mask: Path | None,
    density: float | None, maps: Path | None, device: str | None, heads: int, head_dim: int, batch: int,
    attention_share: float | None, steps: tuple[int, int], layers: int, permute_every: int,
    also_texts: tuple[str, ...], recommend: bool, format_: str, output: Path | None, plot: Path | None,
) -> Result[Any]:  # fmt: skip
    """The speedup that a neighborhood attention pattern can reach on given tiles, and why not more.

    \b
    cascadesim gna --layout 30x48x80 --window 18x24x24 --q-tile 4x8x8 --kv-tile 2x8x8 --recommend
    cascadesim gna --layout 32768 --pattern moba --device h100-sxm
    cascadesim gna --layout 131072 --density 0.1 --device h100-sxm --recommend
    """
    if query_tile is None or key_tile is None:
        if window is not None or block_mask is not None:  # their figures are those of the tiles
            raise click.UsageError(f"missing option '{'--q-tile' if query_tile is None else '--kv-tile'}'")
        query_tile, key_tile = query_tile or _PATTERN_TILE, key_tile or _PATTERN_TILE
    _refuse({"--layout": layout, "--q-tile": query_tile, "--kv-tile": key_tile}, (window, pattern, block_mask, density))
    _refuse_unread({"density": density, "device": device, "recommend": recommend or None,
                    "attention_share": attention_share})  # fmt: skip
    pattern_report, report = patterns.pattern_report, patterns.report
    if window is None:
        of_windows = (stride, dilation, attention_share, also_texts, plot, extra_keys)
        of_densities = (causal, recommend, maps) if density is None else ()
        if any((*of_windows, *of_densities)):
            raise click.UsageError("--pattern and --block-mask go with --layout, tiles, --device, --heads, --head-dim, "
                                   "--batch, --format, --output")
        run = report.Scenario(device, heads, head_dim, batch)
        if density is not None:
            compared = partial(_compared, layout, density, query_tile, key_tile, run, causal, maps)
            return delivered(compared, format_, output)
        visited = partial(pattern_report.pattern_answer, layout, pattern, block_mask, query_tile, key_tile, run)
        return delivered(lambda: _result(visited()), format_, output)
    asked = einsum_cascades.neighborhood(layout, window, stride, dilation, causal)
    question = patterns.neighborhood.question(asked, query_tile, key_tile, extra_keys,
                                              "walk" if dead_tiles == "walk" else "skip")
    also = tuple((replace(question, pattern=einsum_cascades.neighborhood(layout, causal=causal, **given)), count)
                 for given, count in map(also_pattern, also_texts))  # fmt: skip
    run = report.Scenario(device, heads, head_dim, batch, attention_share, *steps, layers, permute_every, also)
    return delivered(lambda: _result(report.answer(question, run, recommend)), format_, output, plot)


def _refuse(sizes_of: Mapping[str, tuple[int, ...]], patterns: Sequence[object]) -> None:
    """Raises click.UsageError on sizes that are too large, and unless one pattern is given."""
    for option, sides in sizes_of.items():
        if len(sides) > 3 or prod(sides) > LARGEST_LAYOUT:
            what = f"{len(sides)} dimensions" if len(sides) > 3 else f"{prod(sides):,} tokens"
            raise click.UsageError(f"{option}: {what}; give one to three dimensions of {LARGEST_LAYOUT:,} tokens at "
                                   "most")
    if sum(given is not None for given in patterns) != 1:
        raise click.UsageError("give one of --window, --pattern and --block-mask")


def _refuse_unread(given: Mapping[str, object]) -> None:
    """Raises click.UsageError for an option that was typed and that nothing reads without another one."""
    context = click.get_current_context(silent=True)
    for name, needed in _READ_WITH.items():
        typed = context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and all(given[other] is None for other in needed):
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            others = " or ".join(f"--{other.replace('_', '-')}" for other in needed)
            raise click.UsageError(f"{option} changes nothing without {others}")


def _compared(
    layout: tuple[int, ...], density: float, query_tile: tuple[int, ...], key_tile: tuple[int, ...], run: Scenario,
    causal: tuple[bool, ...] | None, maps: Path | None,
) -> Result[Any]:  # fmt: skip
    """Patterns of one density; without --causal those of texts, whose layout has one dimension, are causal."""
    if run.device is None or density == 0:
        raise click.UsageError("--density goes with --device, and is above 0")
    found = patterns.comparison.compared(layout, density, query_tile, key_tile, run, all(causal or (len(layout) == 1,)),
                                maps)  # fmt: skip
    content = found.to_dict()
    return Result(found, lambda: content, lambda: (answer.to_dict() for answer in found.answers),
                  partial(patterns.render.print_answer, found))  # fmt: skip


def _result(found: Answer | PatternAnswer) -> Result[Answer | PatternAnswer]:
    content = found.to_dict()
    modes = cast("dict[str, dict[str, object]]", content["modes"])
    draw = partial(_draw, found) if isinstance(found, patterns.report.Answer) else None
    return Result(found, lambda: content, lambda: ({"mode": mode, **figures} for mode, figures in modes.items()),
                  partial(patterns.render.print_answer, found), draw)  # fmt: skip


def _draw(found: Answer, target: Path) -> int:
    return patterns.plot.draw(found, target)


def also_pattern(text: str) -> tuple[dict[str, tuple[int, ...]], int]:
    """Read `12:window=12x24x24,stride=1x8x8`: another pattern on the same layout and tiles, and its layers."""
    layers, _, fields = text.partition(":")
    given = dict(field.partition("=")[::2] for field in fields.split(","))
    if "window" not in given or not set(given) <= {"window", "stride", "dilation"}:
        raise click.UsageError(f"--also {shortened(text)}: give N:window=…[,stride=…][,dilation=…], such as "
                               "12:window=12x24x24")
    try:
        return {name: sizes(value) for name, value in given.items()}, whole(1, 2**20)(layers)
    except click.BadParameter as problem:
        raise click.UsageError(f"--also {shortened(text)}: {problem.message}") from None
