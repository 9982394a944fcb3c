"""What each Einsum of a tile waits for, from the text of the cascade.

A result of the 2D array leaves it `drain_cycles` later at the bottom of its columns; results of the 1D array are there
at once. Running values come from the same query tile at its key tile before. Knows no order and no time.
FuseMax (MICRO'24), figure 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placed, Placement
from cascadesim.accelerators.program import After

Lag = Callable[[Placed, Placed], int]  # from a producer to a consumer


@dataclass(frozen=True)
class Dependences:
    """`lag_cycles` of an edge is the business of the policy."""

    placement: Placement
    lag_cycles: Lag

    def of(self, placed: Placed) -> tuple[After, ...]:
        return tuple(dict.fromkeys(self._edges(placed)))

    def _edges(self, consumer: Placed) -> Iterator[After]:
        """An output that iterates was written by its own Einsum one key tile before, as `X0` says."""
        producers = {placed.name: placed for placed in self.placement.einsums}
        for operand in consumer.operands:
            producer = producers.get(operand.name.removesuffix("0"))
            if producer is None or operand.is_output:
                continue
            previous = operand.name not in producers
            yield After(
                producer.name,
                self.lag_cycles(producer, consumer),
                same_column=previous,
                streaming=self._streams(producer, consumer),
            )

    def _streams(self, producer: Placed, consumer: Placed) -> bool:
        """Element by element: both walk a rank of the intermediate one element after another."""
        return bool(self._serial(producer) & self._serial(consumer) & producer.operands[-1].ranks)

    def _serial(self, placed: Placed) -> frozenset[str]:
        keys = {self.placement.key_inner} if placed.unit == ARRAY_2D else set()
        return placed.ranks - {"b", "h", "p", self.placement.key_outer} - keys


def drained(drain_cycles: int) -> Lag:
    """Every result that the 2D array hands to the 1D array has to leave its columns first."""
    return lambda producer, consumer: drain_cycles if (producer.unit, consumer.unit) == (ARRAY_2D, ARRAY_1D) else 0


def drained_once(drain_cycles: int) -> Lag:
    """+Architecture: one drain per tile is exposed, that of LM, which stops both arrays (artifact)."""
    return lambda producer, consumer: drain_cycles if (producer.name, consumer.name) == ("LM", "RM") else 0
