"""Two operands of a product that are stored in different types: in which one they are multiplied.

The narrower operand is converted to the type of the wider one on its way from shared memory to the tensor cores, so
that weights in 4 or 8 bits beside 16-bit activations run at the 16-bit rate and move at their own width (W4A16, W8A16).
Only operands that are both narrow run at a narrow rate. assumed: the conversion hides behind the products, as in
Marlin (arXiv 2408.11743) for up to some dozen rows; for more it is not charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Dtype
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

MULTIPLIED_AS: Mapping[Dtype, Dtype] = {"mxfp4": "fp4", "nvfp4": "fp4"}  # with their scales, by the same unit
_FLOATS = ("fp32", "tf32", "bf16", "fp16")  # what every narrower type converts to
_OTHER_CONVERSIONS: Mapping[Dtype, tuple[Dtype, ...]] = {  # PTX ISA, mma of mixed 4 and 8 bits; W4A8: QServe, AWQ
    "fp8": ("fp4", "mxfp4", "nvfp4", "int4"), "int8": ("int4",),
}  # fmt: skip


@dataclass(frozen=True)
class Operands:
    """What a product reads: its rows (activations) and its second operand (weights, or a cache)."""

    rows: Dtype
    second: Dtype

    @property
    def product(self) -> Dtype:
        """The type that the tensor cores multiply. Raises CascadeSimError where neither converts to the other."""
        narrow, wide = sorted((self.rows, self.second), key=DTYPE_BYTES.__getitem__)
        if narrow == wide:
            return MULTIPLIED_AS.get(wide, wide)
        narrower = DTYPE_BYTES[narrow] < DTYPE_BYTES[wide]
        if narrower and (wide in _FLOATS or narrow in _OTHER_CONVERSIONS.get(wide, ())):
            return wide
        raise CascadeSimError(
            f"no product of activations in {self.rows} and a second operand in {self.second}: neither converts to the "
            f"other; --set types.activations=bf16, or types.weights (types.experts, types.kv) like the activations"
        )

    @property
    def named(self) -> str:
        """`bf16`; `bf16 x int4 in bf16` where they differ."""
        return self.rows if self.rows == self.second else f"{self.rows} x {self.second} in {self.product}"


def with_cache(attention: str, cache: str) -> str:
    """`bf16`; `bf16, cache in fp8`."""
    return attention if attention == cache else f"{attention}, cache in {cache}"
