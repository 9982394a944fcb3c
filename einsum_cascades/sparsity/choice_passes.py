"""What choosing blocks and moving rows costs besides attention: passes as data, sizes by name.

A pass is one kernel, run for every head: means of blocks, scores, softmax, the largest, sorts, lists, rows gathered,
parts merged. `models.pattern_choice` makes operations of them. Knows no machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

# mean: rows of means over `width` tokens each. scores: products of rows with `width` others, written to memory;
# fused-scores: only the largest of each row leaves the chip. softmax: of rows of scores. select: the `kept` largest of
# each row. sort: rows in registers or shared memory; radix: rows that pass by memory. list: 32-bit places. gather:
# `width` rows of a head's depth for each row, by index. merge: `width` partial results of each row. attend: attention
# over `width` keys. stream: scores read and written by element-wise kernels.
PassKind: TypeAlias = Literal["mean", "scores", "fused-scores", "softmax", "select", "sort", "radix", "list", "gather",
                              "merge", "attend", "stream"]  # fmt: skip
FLOPS_OF: Mapping[str, int] = {"scores": 2, "fused-scores": 2, "attend": 4}  # of an element of depth: multiply and add
AFTER: frozenset[PassKind] = frozenset({"merge"})  # kinds that follow attention
# what a new token repeats. assumed: means, permutations and lists of earlier tokens are kept with the cache
DECODED: frozenset[PassKind] = frozenset({"scores", "fused-scores", "softmax", "select", "stream"})


@dataclass(frozen=True)
class Pass:
    """One kernel of a choice: `rows` x `width`, by name (`tokens/16`, a name over numbers) or in numbers.

    `heads`: those of queries, or of keys. `depth`: of a product or a row, in units of a head's. `runs`: how often.
    """

    name: str
    kind: PassKind
    rows: str
    width: str = "1"
    heads: Literal["query", "key"] = "query"
    depth: int = 1
    runs: int = 1
    keep: str = "kept"  # of a row that select finds the largest of
    codes: bool = False  # of 4-bit codes, which tensor cores that take them multiply at 8 times the rate of 16 bits

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """Rows and width where `tokens`, `blocks`, ... are so many, rounded up."""
        return size_of(self.rows, sizes), size_of(self.width, sizes)


def size_of(text: str, sizes: Mapping[str, int]) -> int:
    """A number, a size by its name, or one over numbers (`tokens/16`), rounded up."""
    name, *divisors = text.split("/")
    return -(-sizes.get(name, 0) // prod(map(int, divisors))) if name in sizes else int(name)


def flops_of(part: Pass, sizes: Mapping[str, int], head_dim: int) -> float:
    """FLOPs of the products of a pass, in one head; those of codes by the time that they take."""
    rows, width = part.shape(sizes)
    found = FLOPS_OF.get(part.kind, 0) * head_dim * part.depth * rows * width * part.runs
    return found / 8 if part.codes else float(found)


def means(of: str, block: str = "block", rows: str = "blocks") -> Pass:
    """Means of blocks of `keys`, of which key heads have one each, or `queries`."""
    return Pass(f"{of}_mean", "mean", rows, block, "query" if of == "queries" else "key")
