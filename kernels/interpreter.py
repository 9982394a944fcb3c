"""Makes Triton's interpreter (TRITON_INTERPRET=1) trustworthy on a CPU: bf16 arithmetic and loops with runtime bounds.

Unpatched, it multiplies the bit patterns of bf16, truncates when it rounds to bf16, and with numpy >= 2.4 refuses a
loop bound that is a tensor. `repair()` patches private names of Triton, so tests/kernels/test_interpreter.py holds it
to its promises; `inputs.launch` calls it. It models no layouts, races, warps or stages.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np


def bf16_bits(values: Any) -> Any:
    """float32 -> the 16 bits of bf16, rounded to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def bf16_values(bits: Any) -> Any:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@cache
def repair() -> None:
    """Call once, before the first interpreted launch; further calls do nothing."""
    from triton.runtime import interpreter

    _repair_loop_bounds(interpreter)
    builder = interpreter.InterpreterBuilder
    _repair_dot(interpreter, builder)
    _repair_casts(interpreter, builder)
    _repair_arithmetic(interpreter, builder)


def _is_bf16(handle: Any) -> bool:
    import triton.language as tl

    return bool(handle.dtype.scalar == tl.bfloat16)


def _repair_loop_bounds(interpreter: Any) -> None:
    original = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> Any:
        result = original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(np.asarray(self.handle.data).reshape(-1)[0]))
        return result

    interpreter._patch_lang_tensor = patched


def _repair_dot(interpreter: Any, builder: Any) -> None:
    original = builder.create_dot

    def create_dot(self: Any, left: Any, right: Any, total: Any, *rest: Any) -> Any:
        if not (_is_bf16(left) or _is_bf16(right)):
            return original(self, left, right, total, *rest)
        product = np.matmul(bf16_values(left.data), bf16_values(right.data), dtype=np.float32)
        return interpreter.TensorHandle(product + total.data, total.dtype.scalar)

    builder.create_dot = create_dot


def _repair_casts(interpreter: Any, builder: Any) -> None:
    import triton.language as tl

    original = builder.cast_impl

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        kind = getattr(target, "scalar", target)
        if source.dtype.scalar == tl.float32 and kind == tl.bfloat16:
            return interpreter.TensorHandle(bf16_bits(source.data), tl.bfloat16)
        if source.dtype.scalar == tl.bfloat16 and kind == tl.float32:
            return interpreter.TensorHandle(bf16_values(source.data), tl.float32)
        return original(self, source, target)

    builder.cast_impl = cast_impl
    builder.create_fp_trunc = builder.create_fp_ext = lambda self, source, target: self.cast_impl(source, target)


def _repair_arithmetic(interpreter: Any, builder: Any) -> None:
    import triton.language as tl

    original = builder.binary_op

    def binary_op(self: Any, left: Any, right: Any, operation: Any) -> Any:
        if not (_is_bf16(left) and _is_bf16(right)):
            return original(self, left, right, operation)
        result = operation(bf16_values(left.data), bf16_values(right.data))
        if result.dtype == bool:
            return interpreter.TensorHandle(result, tl.int1)
        return interpreter.TensorHandle(bf16_bits(result), tl.bfloat16)

    builder.binary_op = binary_op
