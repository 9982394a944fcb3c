"""SpAtten's mechanisms in float64, from their definitions (SpAtten, section III)."""

from __future__ import annotations

import torch

from cascadesim.kernels.attention import reference


def column_sums(q: torch.Tensor, k: torch.Tensor, *, causal: bool = False, scale: float | None = None) -> torch.Tensor:
    """Importance of each key in each head [B, H, M]: the sum of its probabilities over the queries."""
    return reference.probabilities(q, k, causal=causal, scale=scale).sum(2)


def head_importance(out: torch.Tensor) -> torch.Tensor:
    """[B, H]: sum of the magnitudes of a head's output."""
    return out.double().abs().sum((2, 3))


def top_tokens(importance: torch.Tensor, kept: int) -> torch.Tensor:
    """Indices [B, kept] of the largest, in ascending order; of equal ones the first."""
    order = torch.sort(importance, dim=-1, descending=True, stable=True).indices
    return order[:, :kept].sort(-1).values.int()


def pruned_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tokens: torch.Tensor, heads: torch.Tensor, *,
    value_threshold: float = 0.0, tile: tuple[int, int] = (1, 1), scale: float | None = None,
) -> torch.Tensor:  # fmt: skip
    """Only the kept keys [B, kept] and heads [n] (others get zeros); values below the threshold are left out.

    A tile of queries x kept keys whose largest probability is below the threshold contributes no values; its
    probabilities stay in the denominator. `tile` (1, 1): each probability by itself.
    """
    index = tokens.long()[:, None, :, None]
    k, v = (torch.gather(each, 2, index.expand(-1, each.shape[1], -1, each.shape[3])) for each in (k, v))
    A = reference.probabilities(q, k, scale=scale)
    A = A * (largest_of_tiles(A, tile) >= value_threshold)
    out = A @ reference.expanded(v, q)
    kept = torch.zeros(q.shape[1], dtype=torch.bool, device=q.device)
    kept[heads.long()] = True
    return out * kept[:, None, None]


def largest_of_tiles(A: torch.Tensor, tile: tuple[int, int]) -> torch.Tensor:
    """Each element replaced by the largest one of its tile."""
    P, M = A.shape[2:]
    padded = torch.nn.functional.pad(A, (0, -M % tile[1], 0, -P % tile[0]))
    shape = padded.shape[2] // tile[0], tile[0], padded.shape[3] // tile[1], tile[1]
    blocks = padded.reshape(*padded.shape[:2], *shape).amax((3, 5))
    whole: torch.Tensor = blocks.repeat_interleave(tile[0], 2).repeat_interleave(tile[1], 3)
    return whole[..., :P, :M]


def quantized(k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(int8 keys, scale per batch entry and head): symmetric, largest magnitude at 127."""
    scale = k.double().abs().amax((2, 3)).clamp(min=1e-30) / 127
    return torch.round(k.double() / scale[..., None, None]).to(torch.int8), scale.float()


def progressive_decode(
    q: torch.Tensor, codes: torch.Tensor, key_scale: torch.Tensor, v: torch.Tensor, threshold: float, *,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """(AV [B, H, E], need [B, H]): the upper 4 bits of the keys; all 8 where no probability reaches the threshold."""
    step = key_scale.double()[..., None, None]
    upper = (codes >> 4).double() * 16 * step
    coarse, fine = (
        reference.probabilities(q[:, :, None], keys, scale=scale) for keys in (upper, codes.double() * step)
    )
    need = (coarse < threshold).flatten(2).all(-1)
    A = torch.where(need[:, :, None, None], fine, coarse)
    return (A @ reference.expanded(v, q))[:, :, 0], need
