"""Attention over the keys that matter: scores, probabilities or importance choose, the rest is never used.

SpAtten (HPCA'21), section III: cascade token pruning, cascade head pruning, local value pruning, progressive
quantization; one layer each, with what it hands to the next. Ranks as in attention; j runs over kept keys or tokens,
k over kept values, g over kept heads. Q arrives scaled. `top` takes the lower coordinate of equal ones, largest first;
`bottom` of the coordinates themselves puts them back in order, as the engine's filter keeps it. Every choice needs its
whole fiber first, so what it keeps is read in one more pass. The bits that a query fetches depend on its scores: the
text counts all of them, a pruning trace says how many did.

What pruning costs attention that walks its keys once: FuseMax (MICRO'24) names the combination with SpAtten as future
work. A probability is known only with the denominator of its row, which is complete after the last key:

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
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS, ATTENTION_3PASS

TOP_K_GATHER = cascade("top-k-gather", """
    QK[h,m,p]  = Q[h,p,e] * K[h,m,e]
    I[h,p,j]   = top(QK[h,m,p], KEEP)         # coordinates of the largest scores
    GV[h,p,j,f] = V[h,I[h,p,j],f]             # KEEP rows of V a query
""")

ATTENTION_TOP_K = cascade("attention-top-k", """
    QK[h,m,p]  = Q[h,p,e] * K[h,m,e]
    I[h,p,j]   = top(QK[h,m,p], KEEP)
    GM[h,p]    max= QK[h,I[h,p,j],p]          # softmax over the kept keys, division deferred
    SN[h,p,j]  = exp(QK[h,I[h,p,j],p] - GM[h,p])
    SD[h,p]    = SN[h,p,j]
    SNV[h,p,f] = SN[h,p,j] * V[h,I[h,p,j],f]
    AV[h,p,f]  = SNV[h,p,f] / SD[h,p]
""")

TOKEN_PRUNING = cascade("cascade-token-pruning", """
    LS[m]     = A[h,m,p]                      # importance of a token: over all heads and queries of this layer ...
    S[m]      = PS[m] + LS[m]                 # ... and over the layers before
    I[i]      = top(S[m], KEEP)               # the tokens that go on, most important first ...
    O[j]      = bottom(I[i], KEEP)
    T[j]      = I[O[j]]                       # ... and in their own order
    TS[j]     = S[T[j]]                       # what the next layer adds to
    TX[j,d]   = X[T[j],d]                     # and what it computes queries, keys and values from
""", after=ATTENTION_3PASS)  # m: the tokens that earlier layers have kept

HEAD_PRUNING = cascade("cascade-head-pruning", """
    LS[h]     = abs(AV[h,p,f])                # importance of a head: the magnitude of its output
    S[h]      = PS[h] + LS[h]
    I[i]      = top(S[h], KEEP)
    O[g]      = bottom(I[i], KEEP)
    H[g]      = I[O[g]]                       # the heads of the next layer, in their own order
    HS[g]     = S[H[g]]
    GW[g,d,n] = W[H[g],d,n]                   # whose projections alone are fetched
""", after=ATTENTION_3PASS)  # h: the heads that earlier layers have kept

LOCAL_VALUE_PRUNING = cascade("local-value-pruning", """
    QK[h,m,p]  = Q[h,p,e] * K[h,m,e]
    GM[h,p]    max= QK[h,m,p]
    SN[h,m,p]  = exp(QK[h,m,p] - GM[h,p])
    SD[h,p]    = SN[h,m,p]                    # over all keys: what is left out keeps its share
    A[h,m,p]   = SN[h,m,p] / SD[h,p]
    I[h,p,k]   = top(A[h,m,p], KEEP)          # the largest probabilities of this head and query, then forgotten
    AV[h,p,f]  = A[h,I[h,p,k],p] * V[h,I[h,p,k],f]
""")

ATTENTION_PRUNED = cascade("attention-pruned", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]           # one layer with all three prunings, over kept heads and tokens
    GM[h,p]   max= QK[h,m,p]
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]
    IV[h,p,k] = top(A[h,m,p], VALUES)
    AV[h,p,f] = A[h,IV[h,p,k],p] * V[h,IV[h,p,k],f]
    LS[m]     = A[h,m,p]
    S[m]      = PS[m] + LS[m]
    I[i]      = top(S[m], TOKENS)
    O[j]      = bottom(I[i], TOKENS)
    T[j]      = I[O[j]]                       # tokens of the next layer
    TS[j]     = S[T[j]]
    LH[h]     = abs(AV[h,p,f])
    SH[h]     = PSH[h] + LH[h]
    IH[u]     = top(SH[h], HEADS)
    OH[g]     = bottom(IH[u], HEADS)
    H[g]      = IH[OH[g]]                     # heads of the next layer
    HS[g]     = SH[H[g]]
""")

LOCAL_VALUE_PRUNING_2PASS = cascade("local-value-pruning-2pass", """
    QK[h,m,p]  = Q[h,p,e] * K[h,m,e]
    GM[h,p]    max= QK[h,m,p]
    I[h,p,k]   = top(QK[h,m,p], KEEP)         # as top of the probabilities: they grow with the scores
    SN[h,m,p]  = exp(QK[h,m,p] - GM[h,p])
    SD[h,p]    = SN[h,m,p]
    KN[h,p,k]  = exp(QK[h,I[h,p,k],p] - GM[h,p])
    SNV[h,p,f] = KN[h,p,k] * V[h,I[h,p,k],f]
    AV[h,p,f]  = SNV[h,p,f] / SD[h,p]         # division deferred
""")

BIT_PLANES = cascade("bit-planes", """
    KI[h,m,e] = round(K[h,m,e] / SCALE[h])    # whole numbers, once, when a key is written
    KM[h,m,e] = floor(KI[h,m,e] / 16)         # the most significant bits
    KL[h,m,e] = KI[h,m,e] - 16 * KM[h,m,e]    # the 4 bits below
""")

PROGRESSIVE_QUANTIZATION = cascade("progressive-quantization", """
    QKM[h,m,p] = Q[h,p,e] * KM[h,m,e]
    XM[h,m,p]  = 16 * SCALE[h] * QKM[h,m,p]   # scores from the most significant bits alone
    GMM[h,p]   max= XM[h,m,p]
    SNM[h,m,p] = exp(XM[h,m,p] - GMM[h,p])
    SDM[h,p]   = SNM[h,m,p]
    AM[h,m,p]  = SNM[h,m,p] / SDM[h,p]
    PM[h,p]    max= AM[h,m,p]                 # how sharp the distribution is
    LOW[h,p]   = less(PM[h,p], THRESHOLD[])   # flat: fetch the low bits and score again
    QKL[h,m,p] = Q[h,p,e] * KL[h,m,e]
    X[h,m,p]   = XM[h,m,p] + SCALE[h] * LOW[h,p] * QKL[h,m,p]
    GM[h,p]    max= X[h,m,p]
    SN[h,m,p]  = exp(X[h,m,p] - GM[h,p])
    SD[h,p]    = SN[h,m,p]
    A[h,m,p]   = SN[h,m,p] / SD[h,p]
    AV[h,p,f]  = A[h,m,p] * V[h,m,f]
""")


PRUNED_1PASS = cascade("pruned-1pass", """
    CM[h,m1,p]      = exp(RM[h,m1+1,p] - RM[h,M1,p]) / RD[h,M1,p]   # what each tile is worth in the end
    LS[m1,m0]       = SLN[h,m1,m0,p] * CM[h,m1,p]      # pass 2: probabilities, over heads and queries
    S[m1,m0]        = PS[m1*M0+m0] + LS[m1,m0]
""", after=ATTENTION_1PASS)

TOKEN_IMPORTANCE = cascade("token-importance", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]                  # the second pass by itself, scores computed again:
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]
    SN[h,m1,m0,p]   = exp(QK[h,m1,m0,p] - RM[h,p])     # with the maximum and the denominator of the first
    W[h,p]          = 1 / RD[h,p]                      # one division a query
    LS[m1,m0]       = SN[h,m1,m0,p] * W[h,p]
    S[m1,m0]        = PS[m1*M0+m0] + LS[m1,m0]
""")

PRUNED_1PASS_TILES = cascade("pruned-1pass-tiles", """
    CM[h,m1,p]      = exp(RM[h,m1+1,p] - RM[h,M1,p]) / RD[h,M1,p]
    LS[m1]          = SLD[h,m1,p] * CM[h,m1,p]         # of whole tiles: M1 sums per query
    S[m1]           = PS[m1] + LS[m1]
    I[i]            = top(S[m1], KEEP)
    O[j]            = bottom(I[i], KEEP)
    T[j]            = I[O[j]]                          # tiles of the next layer
""", after=ATTENTION_1PASS)

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
