"""Attention over the keys that matter: the KEEP largest scores of each query are chosen, the rest is never used.

Ranks as in attention; j runs over the kept keys. The choice needs all scores of a row, the rest only KEEP of them.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation import cascade

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
