"""The two-layer perceptron: two products with a nonlinearity between them, fused over the hidden rank.

Ranks: r rows, k inputs, n hidden units, j outputs. Gated feed-forward layers of real models are in `transformer`.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

PERCEPTRON = cascade("perceptron", """
    Z[r,n] = X[r,k] * W1[k,n]
    A[r,n] = max(Z[r,n], 0)
    Y[r,j] = A[r,n] * W2[n,j]                 # a hidden unit is used up as it appears
""")
