"""Linear attention: the product K V is summed over the keys once, instead of a weight per query and key.

Katharopoulos et al. (ICML 2020); feature map exp, as in Performer's positive features (Choromanski et al., ICLR
2021). The chunked causal form (Hua et al., ICML 2022; Sun et al., RetNet, 2023) carries the sum from chunk to chunk.
Ranks as in attention; c1 chunks of C0 keys and P0 = C0 queries.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

LINEAR_ATTENTION = cascade("linear-attention", """
    FK[h,m,e] = exp(K[h,m,e])
    KV[h,e,f] = FK[h,m,e] * V[h,m,f]          # all keys in E x F numbers
    SK[h,e]   = FK[h,m,e]
    FQ[h,p,e] = exp(Q[h,p,e])
    NV[h,p,f] = FQ[h,p,e] * KV[h,e,f]
    SD[h,p]   = FQ[h,p,e] * SK[h,e]
    AV[h,p,f] = NV[h,p,f] / SD[h,p]
""")

LINEAR_ATTENTION_CHUNKED = cascade("linear-attention-chunked", """
    RKV[h,0,e,f]       = 0
    BQ[h,c1,p0,e]      = Q[h,c1*P0+p0,e]
    BK[h,c1,c0,e]      = K[h,c1*C0+c0,e]
    BV[h,c1,c0,f]      = V[h,c1*C0+c0,f]
    QK[h,c1,c0,p0]     = BQ[h,c1,p0,e] * BK[h,c1,c0,e] if c0 <= p0 else 0    # inside the chunk
    LAV[h,c1,p0,f]     = QK[h,c1,c0,p0] * BV[h,c1,c0,f] if c0 <= p0 else 0
    PAV[h,c1,p0,f]     = BQ[h,c1,p0,e] * RKV[h,c1,e,f]                       # all earlier chunks
    LKV[h,c1,e,f]      = BK[h,c1,c0,e] * BV[h,c1,c0,f]
    RKV[h,c1+1,e,f]    = RKV[h,c1,e,f] + LKV[h,c1,e,f]
    AV[h,c1*P0+p0,f]   = LAV[h,c1,p0,f] + PAV[h,c1,p0,f]
""")
