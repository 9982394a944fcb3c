"""Statistics of rows, the same numbers in one, two or three passes: softmax, variance, normalisation, similarity.

Ranks: r rows, d elements of a row; the running forms iterate element by element, `rewrites.split` gives tiles. Softmax
and log-sum-exp with a running maximum: Milakov and Gimelshein (arXiv 1805.02867). Welford's running variance
(Technometrics 4(3), 1962) keeps the mean so far and the squares around it, and so needs neither a second pass nor the
difference of two large sums. The two toys are the smallest cascades that differ in passes, FuseMax (MICRO'24), cascades
1 and 2: they compute the same number, and the second defers the product past the sum and walks A's fiber once.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

VARIANCE_2PASS = cascade("variance-2pass", """
    SX[r]   = X[r,d]                          # pass 1: mean
    MU[r]   = SX[r] / D
    C[r,d]  = X[r,d] - MU[r]                  # pass 2: squares around it
    SC[r]   = C[r,d] * C[r,d]
    VAR[r]  = SC[r] / D
""")

VARIANCE_1PASS = cascade("variance-1pass", """
    SX[r]   = X[r,d]
    SXX[r]  = X[r,d] * X[r,d]                 # cancels where the mean is large
    MU[r]   = SX[r] / D
    VAR[r]  = SXX[r] / D - MU[r] * MU[r]
""")

VARIANCE_WELFORD = cascade("variance-welford", """
    N[0]      = 0
    MU[r,0]   = 0
    SC[r,0]   = 0
    N[d+1]    = N[d] + 1                      # elements so far
    C[r,d]    = X[r,d] - MU[r,d]
    MU[r,d+1] = MU[r,d] + C[r,d] / N[d+1]
    SC[r,d+1] = SC[r,d] + C[r,d] * (X[r,d] - MU[r,d+1])
    VAR[r]    = SC[r,D] / D
""")

LAYER_NORM_WELFORD = cascade("layer-norm-welford", """
    N[0]      = 0
    MU[r,0]   = 0
    SC[r,0]   = 0
    N[d+1]    = N[d] + 1
    C[r,d]    = X[r,d] - MU[r,d]              # pass 1: running mean and squares
    MU[r,d+1] = MU[r,d] + C[r,d] / N[d+1]
    SC[r,d+1] = SC[r,d] + C[r,d] * (X[r,d] - MU[r,d+1])
    SD[r]     = sqrt(SC[r,D] / D + 0.00001)
    Y[r,d]    = (X[r,d] - MU[r,D]) / SD[r] * G[d] + B[d]   # pass 2: normalise
""")

COSINE_SIMILARITY = cascade("cosine-similarity", """
    XY[r]  = X[r,d] * Y[r,d]
    XX[r]  = X[r,d] * X[r,d]
    YY[r]  = Y[r,d] * Y[r,d]
    COS[r] = XY[r] / sqrt(XX[r] * YY[r])      # the division waits for all three sums: one pass
""")


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


TOY_TWO_PASS = cascade("toy-two-pass", """
    Y = A[k] * B[k]
    Z = Y * A[k]            # needs the finished Y with every element of A again
""")

TOY_ONE_PASS = cascade("toy-one-pass", """
    Y = A[k] * B[k]
    X = A[k]                # rides along
    Z = Y * X
""")
