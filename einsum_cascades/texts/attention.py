"""Attention as cascades: 3-pass, 3-pass with the division deferred, 2-pass, 1-pass; causal, grouped-query and linear.

Texts of FuseMax (MICRO'24), cascades 4 and 5 and section III; the 2-pass text renders the paper's words. The batch
rank is left out: accelerators repeat the cascade per sequence. No 1/sqrt(E) scaling, as in the paper. Queries are the
last P positions of M keys in the causal forms; G query heads share one key/value head in the grouped-query forms.

Linear attention sums the product K V over the keys once, instead of a weight per query and key: Katharopoulos et al.
(ICML 2020); feature map exp, as in Performer's positive features (Choromanski et al., ICLR 2021). The chunked causal
form (Hua et al., ICML 2022; Sun et al., RetNet, 2023) carries the sum from chunk to chunk: C0 keys, P0 = C0 queries.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts import find

ATTENTION_3PASS = cascade("attention-3pass", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    GM[h,p]   max= QK[h,m,p]                     # pass 1: global maximum
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])         # pass 2: numerator ...
    SD[h,p]   = SN[h,m,p]                        #         ... and denominator
    A[h,m,p]  = SN[h,m,p] / SD[h,p]              # pass 3: normalise, apply to V
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")

ATTENTION_3PASS_DEFERRED = cascade("attention-3pass-deferred", """
    QK[h,m,p]  = Q[h,p,e] * K[h,m,e]
    GM[h,p]    max= QK[h,m,p]                    # pass 1: global maximum
    SN[h,m,p]  = exp(QK[h,m,p] - GM[h,p])        # pass 2: numerator ...
    SD[h,p]    = SN[h,m,p]                       #         ... denominator ...
    SNV[h,p,f] = SN[h,m,p] * V[h,m,f]            #         ... and numerator times V
    AV[h,p,f]  = SNV[h,p,f] / SD[h,p]            # F divisions a query instead of M
""")

ATTENTION_2PASS = cascade("attention-2pass", """
    BK[h,m1,m0,e]  = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]  = V[h,m1*M0+m0,f]
    QK[h,m1,m0,p]  = Q[h,p,e] * BK[h,m1,m0,e]            # pass 1: statistics of each tile
    LM[h,m1,p]     max= QK[h,m1,m0,p]
    SLN[h,m1,m0,p] = exp(QK[h,m1,m0,p] - LM[h,m1,p])
    SLD[h,m1,p]    = SLN[h,m1,m0,p]
    GM[h,p]        max= LM[h,m1,p]                       # over tiles only: M1 elements
    PLM[h,m1,p]    = exp(LM[h,m1,p] - GM[h,p])           # what each tile is worth
    SD[h,p]        = SLD[h,m1,p] * PLM[h,m1,p]
    A[h,m1,m0,p]   = SLN[h,m1,m0,p] * PLM[h,m1,p] / SD[h,p]   # pass 2: correct, apply to V
    AV[h,p,f]      = A[h,m1,m0,p] * BV[h,m1,m0,f]
""")

ATTENTION_1PASS = cascade("attention-1pass", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RM[h,0,p]       = -inf                       # running state before the first tile
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]   # one tile of M0 keys
    LM[h,m1,p]      max= QK[h,m1,m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])   # what the earlier tiles are now worth
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]       # after the last tile
""")

ATTENTION_3PASS_CAUSAL = cascade("attention-3pass-causal", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m <= p + M - P else -inf   # queries are the last P of M positions
    GM[h,p]   max= QK[h,m,p] if m <= p + M - P else -inf
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p]) if m <= p + M - P else 0
    SD[h,p]   = SN[h,m,p] if m <= p + M - P else 0
    A[h,m,p]  = SN[h,m,p] / SD[h,p] if m <= p + M - P else 0
    AV[h,p,f] = A[h,m,p] * V[h,m,f] if m <= p + M - P else 0
""")

ATTENTION_1PASS_CAUSAL = cascade("attention-1pass-causal", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RM[h,0,p]       = -inf
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e] if m1*M0+m0 <= p + M1*M0 - P else -inf
    LM[h,m1,p]      max= QK[h,m1,m0,p] if m1*M0+m0 <= p + M1*M0 - P else -inf
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p]) if m1*M0+m0 <= p + M1*M0 - P else 0
    SLD[h,m1,p]     = SLN[h,m1,m0,p] if m1*M0+m0 <= p + M1*M0 - P else 0
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f] if m1*M0+m0 <= p + M1*M0 - P else 0
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
""")

ATTENTION_3PASS_GQA = cascade("attention-3pass-gqa", """
    QK[h,m,p] = Q[h,p,e] * K[h//G,m,e]           # G query heads read one key/value head
    GM[h,p]   max= QK[h,m,p]
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]
    AV[h,p,f] = A[h,m,p] * V[h//G,m,f]
""")

ATTENTION_1PASS_GQA = cascade("attention-1pass-gqa", """
    RM[h,0,p]       = -inf
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * K[h//G,m1*M0+m0,e]
    LM[h,m1,p]      max= QK[h,m1,m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * V[h//G,m1*M0+m0,f]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
""")


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


def attention_cascade(name: str | None) -> Cascade:
    """Attention by name, in three passes without one. Raises CascadeSimError where a cascade reads no Q, K and V."""
    if name is None:
        return ATTENTION_3PASS
    found = find(name)
    missing = [tensor for tensor in ("Q", "K", "V") if tensor not in found.inputs]
    if missing:
        raise CascadeSimError(f"'{name}' is no attention: it does not read {', '.join(missing)}")
    return found
