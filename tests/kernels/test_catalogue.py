"""What a compiled variant is: its arguments in one line of text, and the same kernel for operands of another type."""

from __future__ import annotations

from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant, signature, typed

ARGUMENTS = signature("Q K:*fp16 LSE:*fp32 P M heads:i32 scale:fp32")


def test_names_before_a_type_all_have_it() -> None:
    assert ARGUMENTS == {"Q": "*fp16", "K": "*fp16", "LSE": "*fp32", "P": "i32", "M": "i32", "heads": "i32",
                         "scale": "fp32"}  # fmt: skip


def test_another_type_of_operands_leaves_what_is_float32_anyway() -> None:
    loop = LoopWork((TileProduct(16, 16, 64),), 256)
    half = Variant("fp16 D64", "toy", None, ARGUMENTS, {"PRECISION": "tf32"}, 4, 3, (loop,))
    brain, single = typed(half, "bf16"), typed(half, "fp32")
    assert (brain.name, brain.signature["Q"], brain.signature["LSE"]) == ("bf16 D64", "*bf16", "*fp32")
    assert brain.loops == (loop,)
    assert (single.constants, single.loops) == ({"PRECISION": "ieee"}, ())  # on the FP32 units: no matrix products
