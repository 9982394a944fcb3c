"""What the public functions of all kernel families accept, checked in one place; anything else is one InputError.

Tensors may have any strides: they come out contiguous and aligned, so results do not depend on them. Values of lengths
and indices are looked at where they lie on the host. On a GPU that would wait for it: there kernels clamp lengths, and
indices are the caller's promise. Nothing here computes, and nothing is differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch

from cascadesim.kernels.interpreter import repair

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
MOST_PROGRAMS = 2**31 - 1  # CUDA C++ programming guide, table of compute capabilities: x dimension of a grid
MOST_ELEMENTS = 2**31 - 1  # of one head: what kernels count with 32 bits
ALIGNMENT_BYTES = 16  # what compilers are told of pointers, and what asynchronous copies of CUDA C++ need
FLOAT32 = torch.finfo(torch.float32)


class InputError(ValueError):
    """An input that a kernel does not take: what was given and what is allowed, in one line."""


@dataclass(frozen=True)
class Tensors:
    """q [B, H, P, E], k [B, G, M, E] and v [B, G, M, F], contiguous, of one type; `scale_log2` is above 0."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    scale_log2: float

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """P, M, E, F, and programs of a grid with one per head: B * H."""
        B, H, P, E = self.q.shape
        return P, self.k.shape[2], E, self.v.shape[3], B * H

    @property
    def heads(self) -> tuple[int, int]:
        """Query heads, and how many of them share a key head."""
        return self.q.shape[1], self.q.shape[1] // max(self.k.shape[1], 1)

    def output(self) -> torch.Tensor:
        """[B, H, P, F], uninitialised."""
        return self.q.new_empty(*self.q.shape[:3], self.v.shape[3])


def operands(
    name: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None, *,
    types: Sequence[torch.dtype] = FLOATS, most_head_dim: int = 256,
) -> Tensors:  # fmt: skip
    """Of attention: shapes, groups, types, devices, gradients and the scale fit, or InputError."""
    check_heads(name, q, k, v, types=types, most_head_dim=most_head_dim)
    q, scale_log2 = scaled(name, q, scale)
    return Tensors(plain(q), plain(k), plain(v), scale_log2)


def check_heads(
    name: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, types: Sequence[torch.dtype] = FLOATS,
    most_head_dim: int = 256,
) -> None:  # fmt: skip
    together(name, q=q, k=k, v=v)
    shapes = f"q {[*q.shape]}, k {[*k.shape]}, v {[*v.shape]}"
    if not q.dim() == k.dim() == v.dim() == 4:
        raise InputError(f"{name}: q [B, H, P, E], k [B, G, M, E] and v [B, G, M, F] have 4 dimensions; got {shapes}")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or k.shape[:3] != v.shape[:3]:
        raise InputError(f"{name}: shapes do not fit q [B, H, P, E], k [B, G, M, E], v [B, G, M, F]; got {shapes}")
    if q.shape[1] % k.shape[1] if k.shape[1] else q.shape[1]:
        raise InputError(f"{name}: {q.shape[1]} query heads are no multiple of {k.shape[1]} key heads")
    one_type(name, types, q=q, k=k, v=v)
    for what, extent in (("q and k", q.shape[3]), ("v", v.shape[3])):
        number(name, f"head dimension of {what}", extent, 1, most_head_dim)
    elements = max(q.shape[2], k.shape[2]) * max(q.shape[3], v.shape[3])
    number(name, "elements of one head", elements, 0, MOST_ELEMENTS)


def together(name: str, **tensors: torch.Tensor) -> None:
    """Tensors on one device, of which none requires a gradient."""
    for what, each in tensors.items():
        if not isinstance(each, torch.Tensor) or each.layout != torch.strided or each.is_quantized:
            raise InputError(f"{name}: {what} must be a dense tensor, got {_kind(each)}")
        if each.requires_grad and torch.is_grad_enabled():
            raise InputError(f"{name}: {what} requires a gradient and there is no backward; detach it or use no_grad()")
    devices = {str(each.device) for each in tensors.values()}
    if len(devices) > 1 or not devices <= {"cpu"} | {each for each in devices if each.startswith("cuda")}:
        given = ", ".join(f"{what} on {each.device}" for what, each in tensors.items())
        raise InputError(f"{name}: all tensors must lie on one GPU or on the CPU; got {given}")


def _kind(value: Any) -> str:
    return f"{value.layout}" if isinstance(value, torch.Tensor) else type(value).__name__


def one_type(name: str, types: Sequence[torch.dtype], **tensors: torch.Tensor) -> None:
    given = {each.dtype for each in tensors.values()}
    if len(given) > 1 or not given <= set(types):
        allowed = ", ".join(_spelt(each) for each in types)
        listed = ", ".join(f"{what} {_spelt(each.dtype)}" for what, each in tensors.items())
        raise InputError(f"{name}: {' and '.join(tensors)} must have one type of {allowed}; got {listed}")


def _spelt(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shaped(name: str, what: str, tensor: torch.Tensor, shape: Sequence[int]) -> None:
    if [*tensor.shape] != [*shape]:
        raise InputError(f"{name}: {what} must have shape {[*shape]}, got {[*tensor.shape]}")


def number(name: str, what: str, value: Any, low: float, high: float, *, whole: bool = True) -> None:
    """`low` to `high`, both allowed; NaN is never."""
    kind = Integral if whole else Real
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= float(value) <= high:
        raise InputError(f"{name}: {what} must be {'an integer' if whole else 'a number'} from {low} to {high}, "
                         f"got {value!r}"[:300])  # fmt: skip


def scaled(name: str, q: torch.Tensor, scale: float | None) -> tuple[torch.Tensor, float]:
    """(q, factor of the scores in units of log2, above 0): a scale of 0 or below goes into q, exactly.

    Kernels take the maximum before they scale, and mask with -inf, which only a positive factor leaves alone.
    """
    if scale is None:
        scale = q.shape[-1] ** -0.5
    number(name, "scale", scale, -FLOAT32.max / math.log2(math.e), FLOAT32.max / math.log2(math.e), whole=False)
    scale_log2 = float(scale) * math.log2(math.e)
    if not scale_log2:
        return q * 0, 1.0  # infinite scores become NaN, as they should
    return q if scale_log2 > 0 else -q, max(abs(scale_log2), FLOAT32.tiny)  # below, GPUs take it as 0


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, contiguous and aligned; a copy only where it must be."""
    tensor = tensor.resolve_neg().contiguous()
    return tensor if tensor.data_ptr() % ALIGNMENT_BYTES == 0 else tensor.clone()


def indices(
    name: str, what: str, tensor: torch.Tensor, shape: Sequence[int], low: int, high: int, *, distinct: bool = False
) -> torch.Tensor:
    """int32 of this shape. On the host, values from `low` to `high`, each at most once where `distinct`."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype not in INTEGERS:
        given = _spelt(tensor.dtype) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise InputError(f"{name}: {what} must be a tensor of integers, got {given}")
    shaped(name, what, tensor, shape)
    if not tensor.is_cuda and tensor.numel():
        for each in (int(tensor.min()), int(tensor.max())):
            if not low <= each <= high:
                raise InputError(f"{name}: {what} must be from {low} to {high}, got {each}")
        if distinct and len(set(tensor.flatten().tolist())) < tensor.numel():
            raise InputError(f"{name}: {what} must be distinct")
    return plain(tensor.to(torch.int32))


def buffer(name: str, what: str, tensor: torch.Tensor, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Something that a kernel writes: exactly this, or it would write past its end."""
    shaped(name, what, tensor, shape)
    if tensor.dtype != dtype or not tensor.is_contiguous() or tensor.is_neg():
        raise InputError(f"{name}: {what} must be contiguous {_spelt(dtype)}, "
                         f"got {'' if tensor.is_contiguous() else 'strided '}{_spelt(tensor.dtype)}")  # fmt: skip


def rankable(name: str, importance: torch.Tensor, kept: int, types: Sequence[torch.dtype]) -> torch.Tensor:
    """Importance [B, M], of which `kept` are kept: contiguous. NaN has no rank; it is looked for on the host."""
    together(name, importance=importance)
    one_type(name, types, importance=importance)
    if importance.dim() != 2:
        raise InputError(f"{name}: importance has 2 dimensions [B, M], got {[*importance.shape]}")
    number(name, "kept", kept, 0, importance.shape[1])
    if not importance.is_cuda and bool(importance.isnan().any()):
        raise InputError(f"{name}: importance must not be NaN")
    return plain(importance)


def launch(name: str, kernel: Any, programs: int, first: torch.Tensor, *arguments: Any, **options: Any) -> None:
    """A Triton kernel on the device of its first tensor, or in a repaired interpreter; without programs nothing
    happens."""
    from triton.runtime.jit import JITFunction

    number(name, "programs", programs, 0, MOST_PROGRAMS)
    if not isinstance(kernel, JITFunction):
        repair()
    elif not first.is_cuda:
        raise InputError(f"{name}: tensors on the CPU need Triton's interpreter: set TRITON_INTERPRET=1 before the "
                         "first import")  # fmt: skip
    if not programs:
        return
    if not first.is_cuda or first.device.index == torch.cuda.current_device():
        kernel[(programs,)](first, *arguments, **options)
        return
    with torch.cuda.device(first.device):
        kernel[(programs,)](first, *arguments, **options)
