"""What decoding keeps of the past: words of the KV cache per sequence."""

from __future__ import annotations

from cascadesim.einsum_cascades.models.projections import LayerSizes


def cached_words(sizes: LayerSizes, sequence_length: int, text_length: int) -> int:
    """Words one layer caches for one sequence; a layer that sees a window keeps the window."""
    if sizes.layer.mask != "causal":
        return 0
    latent, per_key = sizes.attention.latent, _key_value_words(sizes)
    if latent is not None and latent.indexer is not None:  # any key may be selected later, so all are kept
        return sequence_length * per_key
    crossed = {None: 0, "text": text_length, "encoder": sequence_length}[sizes.layer.cross]
    return (sizes.layer.cached_keys(sequence_length) + sizes.layer.memory + crossed) * per_key


def _key_value_words(sizes: LayerSizes) -> int:
    """Words per key: a key and a value per key/value head, or one latent vector with its rotated part."""
    attention, latent = sizes.attention, sizes.attention.latent
    if latent is None:
        return attention.key_heads * (attention.head_dim + attention.values)
    return latent.kv_rank + latent.rope_dim + (latent.indexer.head_dim if latent.indexer is not None else 0)
