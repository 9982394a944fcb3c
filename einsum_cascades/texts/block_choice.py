"""What choosing blocks of keys and moving rows compute beside attention, as cascades: `sparsity.choice_passes`.

r rows, d numbers of a row, s what is summed or compared into each. Places of rows (I) are data.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

BLOCK_MEAN = cascade("block-mean", """
    SX[r,d] = X[r,s,d]                               # s tokens of a block
    Y[r,d]  = SX[r,d] / S
""")

BLOCK_SCORES = cascade("block-scores", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]                  # m block means, or keys
    LM[h,p]   max= QK[h,m,p]                         # a comparison a score: the largest stay in registers
""")

LARGEST = cascade("largest-of-a-row", """
    I[r,j] = top(X[r,d], KEEP)
""")

SORTING_NETWORK = cascade("sorting-network", """
    T[r,0,d]   = X[r,d]
    T[r,s+1,d] = max(T[r,s,d], T[r,s,P[s,d]])        # S stages; of each pair one keeps the larger, one the smaller
    Y[r,d]     = T[r,S,d]
""")

MOVED_NUMBERS = cascade("moved-numbers", """
    Y[r,d] = X[r,d]
""")

GATHERED_ROWS = cascade("gathered-rows", """
    Y[r,d] = X[I[r],d]
""")

MERGED_PARTS = cascade("merged-parts", """
    GM[r]   max= L[r,s]                              # logarithms of the sums of s partial softmaxes
    W[r,s]  = exp(L[r,s] - GM[r])
    SW[r]   = W[r,s]
    SX[r,d] = W[r,s] * X[r,s,d]
    Y[r,d]  = SX[r,d] / SW[r]
""")
