"""What pruning and progressive quantization cost attention that walks its keys once: a pass, a fiber, or whole tiles.

FuseMax (MICRO'24) names the combination with SpAtten (HPCA'21) as future work. A probability is known only with the
denominator of its row, which is complete after the last key:

* importance of tokens (`pruned-1pass`) sums probabilities over queries. Each query has its own correction, so sums over
  queries cannot be corrected later: numerators of the whole fiber are kept or computed again. Two passes over m. With
  one query, as in generation, what is kept are M numbers a head; with a tile of queries, M for each of them. The
  second pass by itself is `token-importance`: it reads K and Q again, no V: an exponential and a product a score.
* importance of whole tiles of keys (`pruned-1pass-tiles`) needs the tile sums only, which the first pass makes anyway
  and of which there are M1, not M, per query. One pass over m; what is pruned are tiles of M0 keys.
* local value pruning (`local-value-pruning-1pass`) chooses by scores, which grow with probabilities, so keys are walked
  once; but values wait for the choice, and scores of the whole fiber stay live.
* progressive quantization (`progressive-quantization-2pass`) decides by the largest probability, which is one over the
  denominator: the first pass over the most significant bits knows it at its end. A flat query needs a second one.

m runs over the keys that earlier layers have kept: K and V hold no others. A mapping must assume that rows of dropped
tokens are gone from memory or skipped by address, that numerators are kept or scores computed again (as it states),
and that what chooses, `top`, has a unit of its own or waits for one.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

PRUNED_1PASS = cascade("pruned-1pass", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RM[h,0,p]       = -inf
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]         # pass 1: as attention-1pass
    LM[h,m1,p]      max= QK[h,m1,m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
    CM[h,m1,p]      = exp(RM[h,m1+1,p] - RM[h,M1,p]) / RD[h,M1,p]   # what each tile is worth in the end
    LS[m1,m0]       = SLN[h,m1,m0,p] * CM[h,m1,p]      # pass 2: probabilities, over heads and queries
    S[m1,m0]        = PS[m1*M0+m0] + LS[m1,m0]
""")

TOKEN_IMPORTANCE = cascade("token-importance", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]                  # the second pass by itself, scores computed again:
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]
    SN[h,m1,m0,p]   = exp(QK[h,m1,m0,p] - RM[h,p])     # with the maximum and the denominator of the first
    W[h,p]          = 1 / RD[h,p]                      # one division a query
    LS[m1,m0]       = SN[h,m1,m0,p] * W[h,p]
    S[m1,m0]        = PS[m1*M0+m0] + LS[m1,m0]
""")

PRUNED_1PASS_TILES = cascade("pruned-1pass-tiles", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RM[h,0,p]       = -inf
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]
    LM[h,m1,p]      max= QK[h,m1,m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
    CM[h,m1,p]      = exp(RM[h,m1+1,p] - RM[h,M1,p]) / RD[h,M1,p]
    LS[m1]          = SLD[h,m1,p] * CM[h,m1,p]         # of whole tiles: M1 sums per query
    S[m1]           = PS[m1] + LS[m1]
    I[i]            = top(S[m1], KEEP)
    O[j]            = bottom(I[i], KEEP)
    T[j]            = I[O[j]]                          # tiles of the next layer
""")

LOCAL_VALUE_PRUNING_1PASS = cascade("local-value-pruning-1pass", """
    RM[h,0,p]       = -inf
    RD[h,0,p]       = 0
    QK[h,m,p]       = Q[h,p,e] * K[h,m,e]
    LM[h,m1,p]      max= QK[h,m1*M0+m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1*M0+m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    RD[h,m1+1,p]    = PRM[h,m1,p] * RD[h,m1,p] + SLD[h,m1,p]
    I[h,p,k]        = top(QK[h,m,p], KEEP)
    KN[h,p,k]       = exp(QK[h,I[h,p,k],p] - RM[h,M1,p])
    KNV[h,p,f]      = KN[h,p,k] * V[h,I[h,p,k],f]      # values after the last key
    AV[h,p,f]       = KNV[h,p,f] / RD[h,M1,p]
""")

PROGRESSIVE_QUANTIZATION_2PASS = cascade("progressive-quantization-2pass", """
    RM[h,0,p]        = -inf
    RD[h,0,p]        = 0
    QKM[h,m1,m0,p]   = Q[h,p,e] * KM[h,m1*M0+m0,e]     # pass 1: most significant bits, denominator only
    XM[h,m1,m0,p]    = 16 * SCALE[h] * QKM[h,m1,m0,p]
    LM[h,m1,p]       max= XM[h,m1,m0,p]
    RM[h,m1+1,p]     = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]   = exp(XM[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]      = SLN[h,m1,m0,p]
    PRM[h,m1,p]      = exp(RM[h,m1,p] - RM[h,m1+1,p])
    RD[h,m1+1,p]     = PRM[h,m1,p] * RD[h,m1,p] + SLD[h,m1,p]
    LOW[h,p]         = less(1 / RD[h,M1,p], THRESHOLD[])   # the largest probability has numerator 1
    QKL[h,m1,m0,p]   = Q[h,p,e] * KL[h,m1*M0+m0,e]     # pass 2: all bits
    X[h,m1,m0,p]     = XM[h,m1,m0,p] + SCALE[h] * LOW[h,p] * QKL[h,m1,m0,p]
    FM[h,0,p]        = -inf
    FD[h,0,p]        = 0
    FNV[h,0,p,f]     = 0
    FLM[h,m1,p]      max= X[h,m1,m0,p]
    FM[h,m1+1,p]     = max(FM[h,m1,p], FLM[h,m1,p])
    FN[h,m1,m0,p]    = exp(X[h,m1,m0,p] - FM[h,m1+1,p])
    FLD[h,m1,p]      = FN[h,m1,m0,p]
    FLNV[h,m1,p,f]   = FN[h,m1,m0,p] * V[h,m1*M0+m0,f]
    FPM[h,m1,p]      = exp(FM[h,m1,p] - FM[h,m1+1,p])
    FD[h,m1+1,p]     = FPM[h,m1,p] * FD[h,m1,p] + FLD[h,m1,p]
    FNV[h,m1+1,p,f]  = FPM[h,m1,p] * FNV[h,m1,p,f] + FLNV[h,m1,p,f]
    AV[h,p,f]        = FNV[h,M1,p,f] / FD[h,M1,p]
""")
