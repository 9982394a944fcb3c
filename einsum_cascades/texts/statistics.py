"""Variance, normalisation and similarity of rows: the same numbers in one, two or three passes.

Ranks: r rows, d elements of a row. Welford's running form (Technometrics 4(3), 1962) keeps the mean so far and the
squares around it, and so needs neither a second pass nor the difference of two large sums. The plain layer norm and
the RMS norm of a model are in `transformer`.
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
