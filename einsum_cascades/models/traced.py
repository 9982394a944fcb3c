"""Pruning traces as workloads: the attention of the heads in the rows of one file, and nothing else of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import TRACED, Operation, attention_cascade
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace, TracedHead, read_rows


@dataclass(frozen=True, slots=True)
class TracedLayers:
    """All layers of all generated tokens, run as one."""

    count: int = 1


@dataclass(frozen=True)
class TracedWorkload:
    """The attention of the heads in the rows of one file, in their order, and nothing else of the model.

    Its name is the file's, suffix and all: no model is called so. Only accelerators that run heads one by one take it.
    """

    name: str
    trace: PruningTrace
    batch = 1
    generates = False  # no time to a first token, no cache of which the size is known

    @property
    def rows(self) -> tuple[TracedHead, ...]:
        return self.trace.rows

    @property
    def layers(self) -> Mapping[str, TracedLayers]:
        return {TRACED: TracedLayers()}

    @property
    def phase(self) -> Phase:
        """Decode where rows have single queries, prefill where several go over the same keys."""
        return "prefill" if any(row.queries > 1 for row in self.rows) else "decode"

    @property
    def sequence_length(self) -> int:
        """Tokens of the longest row, before pruning."""
        return max(row.length for row in self.rows)

    def operations(
        self, *, sequence_length: int | None = None, batch: int | None = None, phase: Phase = "decode",
        scope: str = "attention", attention: str | None = None,
    ) -> tuple[Operation, ...]:  # fmt: skip
        """One operation, in the scopes that have attention. Raises CascadeSimError where asked for another size."""
        if sequence_length is not None or batch not in (None, 1):
            raise CascadeSimError(f"{self.name}: a pruning trace has the lengths of its rows and batch 1; "
                                  f"leave --seq-len and --batch out")
        if scope == "linear":
            raise CascadeSimError(f"{self.name}: a pruning trace has attention only; scope linear needs a model")
        depth = max(row.head_dim for row in self.rows)
        keys, queries = max(row.keys for row in self.rows), max(row.queries for row in self.rows)
        heads = len({row.head for row in self.rows})
        extents = (("b", 1), ("h", heads), ("g", 1), ("m", keys), ("p", queries), ("e", depth), ("f", depth))
        cascade = attention_cascade(attention)
        return (Operation(self.name, "attention", cascade, extents, layer=TRACED, trace=self.trace),)

    def parameters(self) -> int | None:
        """Unknown: a trace says nothing of weights."""
        return None

    def kv_cache_bytes(self, sequence_length: int, batch: int, word_bytes: float = 2) -> int:
        """A trace says what is fetched, not what is held: none that it knows of."""
        return 0

    def state_bytes(self, batch: int, word_bytes: float = 2) -> tuple[int, int]:
        """None either: its heads are those of softmax."""
        return 0, 0

    def notes(self, *, sequence_length: int | None = None) -> tuple[str, ...]:
        tokens = len({row.iteration for row in self.rows})
        return (f"{self.name}: the attention of {len(self.rows):,} traced heads over {tokens:,} iterations; "
                f"nothing else of the model",)


def workload_from_rows(path: Path | str) -> TracedWorkload:
    """The workload in a file of a pruning trace. Raises SpecError with one located line for each problem."""
    path = Path(path)
    return TracedWorkload(path.name, PruningTrace(path.name, read_rows(path)))
