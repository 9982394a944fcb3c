"""Dense attention as the 1-pass, 2-pass and 3-pass cascades: `reference.attention` and `triton.attention`.

`mma.attention` is the 1-pass cascade in CUDA C++, for 16-bit types and head dimensions of 64 and 128. All take q
[B, H, P, E], k [B, G, M, E], v [B, G, M, F] with H a multiple of G (grouped queries) and return AV [B, H, P, F]. Causal
queries are aligned to the last key: query p sees keys m <= p + M - P.
"""

CASCADES = ("attention-1pass", "attention-2pass", "attention-3pass", "attention-3pass-stored")
