"""Softmax and log-sum-exp of rows, plain and with a running maximum (Milakov and Gimelshein, arXiv 1805.02867).

Ranks: r rows, d elements of a row. The running forms iterate element by element; `rewrites.split` gives tiles.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

SOFTMAX = cascade("softmax", """
    GM[r]   max= X[r,d]                       # pass 1: maximum
    SN[r,d] = exp(X[r,d] - GM[r])             # pass 2: numerator and denominator
    SD[r]   = SN[r,d]
    Y[r,d]  = SN[r,d] / SD[r]                 # pass 3: normalise
""")

SOFTMAX_ONLINE = cascade("softmax-online", """
    RM[r,0]   = -inf
    RD[r,0]   = 0
    RM[r,d+1] = max(RM[r,d], X[r,d])          # pass 1: running maximum and denominator
    SLN[r,d]  = exp(X[r,d] - RM[r,d+1])
    PRM[r,d]  = exp(RM[r,d] - RM[r,d+1])
    RD[r,d+1] = PRM[r,d] * RD[r,d] + SLN[r,d]
    SN[r,d]   = exp(X[r,d] - RM[r,D])         # pass 2: the exponentials again, now final
    Y[r,d]    = SN[r,d] / RD[r,D]
""")

LOG_SUM_EXP = cascade("log-sum-exp", """
    GM[r] max= X[r,d]                         # pass 1
    SD[r] = exp(X[r,d] - GM[r])               # pass 2
    Y[r]  = log(SD[r]) + GM[r]
""")

LOG_SUM_EXP_RUNNING = cascade("log-sum-exp-running", """
    RM[r,0]   = -inf
    RD[r,0]   = 0
    RM[r,d+1] = max(RM[r,d], X[r,d])
    PRM[r,d]  = exp(RM[r,d] - RM[r,d+1])
    RD[r,d+1] = PRM[r,d] * RD[r,d] + exp(X[r,d] - RM[r,d+1])
    Y[r]      = log(RD[r,D]) + RM[r,D]
""")
