"""Attention over the keys that matter: scores, probabilities or importance choose, the rest is never used.

SpAtten (HPCA'21), section III: cascade token pruning, cascade head pruning, local value pruning, progressive
quantization; one layer each, with what it hands to the next. Ranks as in attention; j runs over kept keys or tokens,
k over kept values, g over kept heads. Q arrives scaled. `top` takes the lower coordinate of equal ones, largest first;
`bottom` of the coordinates themselves puts them back in order, as the engine's filter keeps it. Every choice needs its
whole fiber first, so what it keeps is read in one more pass. The bits that a query fetches depend on its scores: the
text counts all of them, a pruning trace says how many did.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

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
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]           # m: the tokens that earlier layers have kept
    GM[h,p]   max= QK[h,m,p]
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
    LS[m]     = A[h,m,p]                      # importance of a token: over all heads and queries of this layer ...
    S[m]      = PS[m] + LS[m]                 # ... and over the layers before
    I[i]      = top(S[m], KEEP)               # the tokens that go on, most important first ...
    O[j]      = bottom(I[i], KEEP)
    T[j]      = I[O[j]]                       # ... and in their own order
    TS[j]     = S[T[j]]                       # what the next layer adds to
    TX[j,d]   = X[T[j],d]                     # and what it computes queries, keys and values from
""")

HEAD_PRUNING = cascade("cascade-head-pruning", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]           # h: the heads that earlier layers have kept
    GM[h,p]   max= QK[h,m,p]
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
    LS[h]     = abs(AV[h,p,f])                # importance of a head: the magnitude of its output
    S[h]      = PS[h] + LS[h]
    I[i]      = top(S[h], KEEP)
    O[g]      = bottom(I[i], KEEP)
    H[g]      = I[O[g]]                       # the heads of the next layer, in their own order
    HS[g]     = S[H[g]]
    GW[g,d,n] = W[H[g],d,n]                   # whose projections alone are fetched
""")

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
