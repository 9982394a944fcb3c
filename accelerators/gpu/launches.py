"""How many kernels a library launches in one call of attention besides it (`kernels/launches.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from cascadesim.accelerators.gpu.spec import Generation
from cascadesim.einsum_cascades.notation.schema import NonNegative, Spec, read_yaml, validate

FILE = Path(__file__).parent / "kernels" / "launches.yaml"


class _Launches(Spec):
    """implementation -> operation -> generation -> type of the cache -> count."""

    of: Mapping[str, Mapping[str, Mapping[Generation, Mapping[str, NonNegative]]]]


@cache
def _counts() -> _Launches:
    return validate(_Launches, {"of": read_yaml(FILE)}, FILE.name)


def extra_launches(implementation: str, operation: str, generation: Generation, kv_dtype: str) -> int:
    """`operation`: encoder, prefill, decode, mla-context or mla-generation. 0 for a library that nobody timed."""
    return _counts().of.get(implementation, {}).get(operation, {}).get(generation, {}).get(kv_dtype, 0)
