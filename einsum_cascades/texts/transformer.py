"""Everything in a transformer layer besides attention, as cascades: products, norms, activations, gating, rotation.

Ranks as the operations of a model bind them: r rows (tokens, or tokens x heads), d elements of a row, k and n the
depth and width of a product; j is the width of the second product of the perceptron, whose hidden units are used up as
they appear. Epsilons are the usual 1e-5; they do not change what is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cascadesim.einsum_cascades.models.layers import Activation
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade

LINEAR = cascade("linear", """
    Z[r,n] = A[r,k] * W[k,n]                         # the bias is added as the result leaves: not counted
""")

LAYER_NORM = cascade("layer-norm", """
    SX[r]   = X[r,d]                                 # pass 1: mean
    MU[r]   = SX[r] / D
    C[r,d]  = X[r,d] - MU[r]                         # pass 2: variance of what is left
    SC[r]   = C[r,d] * C[r,d]
    SD[r]   = sqrt(SC[r] / D + 0.00001)
    N[r,d]  = C[r,d] / SD[r]                         # pass 3: normalise
    Y[r,d]  = N[r,d] * G[d] + B[d]
""")

RMS_NORM = cascade("rms-norm", """
    SX[r]   = X[r,d] * X[r,d]                        # pass 1: mean square
    RMS[r]  = sqrt(SX[r] / D + 0.00001)
    N[r,d]  = X[r,d] / RMS[r]                        # pass 2: normalise
    Y[r,d]  = N[r,d] * G[d]
""")

RELU = cascade("relu", """
    Y[r,d] = max(X[r,d], 0)
""")

GELU = cascade("gelu", """
    U[r,d] = X[r,d] * (1.5957691216057308 + 0.07135481627159535 * X[r,d] * X[r,d])   # 2 sqrt(2/pi) (x + 0.044715 x^3)
    Y[r,d] = X[r,d] / (1 + exp(-U[r,d]))             # = x (1 + tanh(U/2)) / 2, with one exponential
""")

SILU = cascade("silu", """
    Y[r,d] = X[r,d] / (1 + exp(-X[r,d]))
""")

GATED_GELU = cascade("gated-gelu", """
    U[r,d] = X[r,d] * (1.5957691216057308 + 0.07135481627159535 * X[r,d] * X[r,d])
    S[r,d] = X[r,d] / (1 + exp(-U[r,d]))
    Y[r,d] = S[r,d] * UP[r,d]
""")

GATED_SILU = cascade("gated-silu", """
    S[r,d] = X[r,d] / (1 + exp(-X[r,d]))
    Y[r,d] = S[r,d] * UP[r,d]
""")

GATED_RELU = cascade("gated-relu", """
    S[r,d] = max(X[r,d], 0)
    Y[r,d] = S[r,d] * UP[r,d]
""")

ROTARY = cascade("rotary", """
    Y1[r,d] = X1[r,d] * COS[r,d] - X2[r,d] * SIN[r,d]     # d runs over half a head: pairs of elements rotate
    Y2[r,d] = X2[r,d] * COS[r,d] + X1[r,d] * SIN[r,d]
""")

RESIDUAL_ADD = cascade("residual-add", """
    Y[r,d] = X[r,d] + A[r,d]
""")

GATED_RESIDUAL = cascade("gated-residual", """
    Y[r,d] = X[r,d] + G[d] * A[r,d]                  # the gate comes from the conditioning (adaLN)
""")

SCALED_ADD = cascade("scaled-add", """
    Y[r,d] = ACC[r,d] + W[r] * X[r,d]                # one expert's output, weighted by the router
""")

SOFTMAX_ROUTER = cascade("softmax-router", """
    GM[r]   max= X[r,d]                              # d runs over the experts
    SN[r,d] = exp(X[r,d] - GM[r])
    SD[r]   = SN[r,d]
    A[r,d]  = SN[r,d] / SD[r]                        # picking the largest moves no data: not counted
""")

ACTIVATIONS: Mapping[Activation, Cascade] = MappingProxyType(
    {"gelu": GELU, "gelu-tanh": GELU, "silu": SILU, "relu": RELU}
)
GATED: Mapping[Activation, Cascade] = MappingProxyType(
    {"gelu": GATED_GELU, "gelu-tanh": GATED_GELU, "silu": GATED_SILU, "relu": GATED_RELU}
)


PERCEPTRON = cascade("perceptron", """
    Z[r,n] = X[r,k] * W1[k,n]
    A[r,n] = max(Z[r,n], 0)
    Y[r,j] = A[r,n] * W2[n,j]                 # a hidden unit is used up as it appears
""")
