"""A transformer layer as cascades: attention in one, two or three passes, and everything beside it.

Attention: texts of FuseMax (MICRO'24), cascades 4 and 5 and section III; the 2-pass text renders the paper's words. The
batch rank is left out: accelerators repeat the cascade per sequence. No 1/sqrt(E) scaling, as in the paper. Queries are
the last P positions of M keys in the causal forms; G query heads share one key/value head in the grouped-query forms.

Linear attention sums the product K V over the keys once, instead of a weight per query and key: Katharopoulos et al.
(ICML 2020); feature map exp, as in Performer's positive features (Choromanski et al., ICLR 2021). The chunked causal
form (Hua et al., ICML 2022; Sun et al., RetNet, 2023) carries the sum from chunk to chunk: C0 keys, P0 = C0 queries.

Products, norms, activations, gating, rotation: r rows (tokens, or tokens x heads), d elements of a row, k and n the
depth and width of a product; j is the width of the second product of the perceptron, whose hidden units are used up as
they appear. Epsilons are the usual 1e-5; they do not change what is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade

ATTENTION_3PASS = cascade("attention-3pass", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    GM[h,p]   max= QK[h,m,p]                     # pass 1: global maximum
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])         # pass 2: numerator ...
    SD[h,p]   = SN[h,m,p]                        #         ... and denominator
    A[h,m,p]  = SN[h,m,p] / SD[h,p]              # pass 3: normalise, apply to V
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")

ATTENTION_3PASS_DEFERRED = cascade("attention-3pass-deferred", """
    QK[h,m,p]  = Q[h,p,e] * K[h,m,e]
    GM[h,p]    max= QK[h,m,p]                    # pass 1: global maximum
    SN[h,m,p]  = exp(QK[h,m,p] - GM[h,p])        # pass 2: numerator ...
    SD[h,p]    = SN[h,m,p]                       #         ... denominator ...
    SNV[h,p,f] = SN[h,m,p] * V[h,m,f]            #         ... and numerator times V
    AV[h,p,f]  = SNV[h,p,f] / SD[h,p]            # F divisions a query instead of M
""")

ATTENTION_2PASS = cascade("attention-2pass", """
    BK[h,m1,m0,e]  = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]  = V[h,m1*M0+m0,f]
    QK[h,m1,m0,p]  = Q[h,p,e] * BK[h,m1,m0,e]            # pass 1: statistics of each tile
    LM[h,m1,p]     max= QK[h,m1,m0,p]
    SLN[h,m1,m0,p] = exp(QK[h,m1,m0,p] - LM[h,m1,p])
    SLD[h,m1,p]    = SLN[h,m1,m0,p]
    GM[h,p]        max= LM[h,m1,p]                       # over tiles only: M1 elements
    PLM[h,m1,p]    = exp(LM[h,m1,p] - GM[h,p])           # what each tile is worth
    SD[h,p]        = SLD[h,m1,p] * PLM[h,m1,p]
    A[h,m1,m0,p]   = SLN[h,m1,m0,p] * PLM[h,m1,p] / SD[h,p]   # pass 2: correct, apply to V
    AV[h,p,f]      = A[h,m1,m0,p] * BV[h,m1,m0,f]
""")

ATTENTION_1PASS = cascade("attention-1pass", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RM[h,0,p]       = -inf                       # running state before the first tile
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]   # one tile of M0 keys
    LM[h,m1,p]      max= QK[h,m1,m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])   # what the earlier tiles are now worth
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]       # after the last tile
""")

ATTENTION_3PASS_CAUSAL = cascade("attention-3pass-causal", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e] if m <= p + M - P else -inf   # queries are the last P of M positions
    GM[h,p]   max= QK[h,m,p] if m <= p + M - P else -inf
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p]) if m <= p + M - P else 0
    SD[h,p]   = SN[h,m,p] if m <= p + M - P else 0
    A[h,m,p]  = SN[h,m,p] / SD[h,p] if m <= p + M - P else 0
    AV[h,p,f] = A[h,m,p] * V[h,m,f] if m <= p + M - P else 0
""")

ATTENTION_1PASS_CAUSAL = cascade("attention-1pass-causal", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RM[h,0,p]       = -inf
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e] if m1*M0+m0 <= p + M1*M0 - P else -inf
    LM[h,m1,p]      max= QK[h,m1,m0,p] if m1*M0+m0 <= p + M1*M0 - P else -inf
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p]) if m1*M0+m0 <= p + M1*M0 - P else 0
    SLD[h,m1,p]     = SLN[h,m1,m0,p] if m1*M0+m0 <= p + M1*M0 - P else 0
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f] if m1*M0+m0 <= p + M1*M0 - P else 0
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
""")

ATTENTION_3PASS_GQA = cascade("attention-3pass-gqa", """
    QK[h,m,p] = Q[h,p,e] * K[h//G,m,e]           # G query heads read one key/value head
    GM[h,p]   max= QK[h,m,p]
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]
    AV[h,p,f] = A[h,m,p] * V[h//G,m,f]
""")

ATTENTION_1PASS_GQA = cascade("attention-1pass-gqa", """
    RM[h,0,p]       = -inf
    RD[h,0,p]       = 0
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * K[h//G,m1*M0+m0,e]
    LM[h,m1,p]      max= QK[h,m1,m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * V[h//G,m1*M0+m0,f]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
""")

LINEAR_ATTENTION = cascade("linear-attention", """
    FK[h,m,e] = exp(K[h,m,e])
    KV[h,e,f] = FK[h,m,e] * V[h,m,f]          # all keys in E x F numbers
    SK[h,e]   = FK[h,m,e]
    FQ[h,p,e] = exp(Q[h,p,e])
    NV[h,p,f] = FQ[h,p,e] * KV[h,e,f]
    SD[h,p]   = FQ[h,p,e] * SK[h,e]
    AV[h,p,f] = NV[h,p,f] / SD[h,p]
""")

LINEAR_ATTENTION_CHUNKED = cascade("linear-attention-chunked", """
    RKV[h,0,e,f]       = 0
    BQ[h,c1,p0,e]      = Q[h,c1*P0+p0,e]
    BK[h,c1,c0,e]      = K[h,c1*C0+c0,e]
    BV[h,c1,c0,f]      = V[h,c1*C0+c0,f]
    QK[h,c1,c0,p0]     = BQ[h,c1,p0,e] * BK[h,c1,c0,e] if c0 <= p0 else 0    # inside the chunk
    LAV[h,c1,p0,f]     = QK[h,c1,c0,p0] * BV[h,c1,c0,f] if c0 <= p0 else 0
    PAV[h,c1,p0,f]     = BQ[h,c1,p0,e] * RKV[h,c1,e,f]                       # all earlier chunks
    LKV[h,c1,e,f]      = BK[h,c1,c0,e] * BV[h,c1,c0,f]
    RKV[h,c1+1,e,f]    = RKV[h,c1,e,f] + LKV[h,c1,e,f]
    AV[h,c1*P0+p0,f]   = LAV[h,c1,p0,f] + PAV[h,c1,p0,f]
""")

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

RELU_SQUARED = cascade("relu-squared", """
    S[r,d] = max(X[r,d], 0)                          # So et al., Primer (arXiv 2109.08668)
    Y[r,d] = S[r,d] * S[r,d]
""")

SIGMOID_GATE = cascade("sigmoid-gate", """
    Y[r,d] = X[r,d] / (1 + exp(-Z[r,d]))             # the output gate of attention (Qiu et al., arXiv 2505.06708)
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

PARALLEL_RESIDUAL = cascade("parallel-residual", """
    Y[r,d] = X[r,d] + A[r,d] + F[r,d]                # attention and feed-forward side by side
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

PERCEPTRON = cascade("perceptron", """
    Z[r,n] = X[r,k] * W1[k,n]
    A[r,n] = max(Z[r,n], 0)
    Y[r,j] = A[r,n] * W2[n,j]                 # a hidden unit is used up as it appears
""")

LLAMA_LAYER = cascade("llama-layer", """
    SX[p]            = X[p,d] * X[p,d]                   # RMS norm, pass 1 over d
    RX[p]            = sqrt(SX[p] / D + 0.00001)
    N[p,d]           = X[p,d] / RX[p] * GX[d]            # pass 2
    QP[h,g,p,j,i]    = N[p,d] * WQ[h,g,d,j,i]            # h heads of keys, g queries each; j halves of i elements
    KP[h,p,j,i]      = N[p,d] * WK[h,d,j,i]
    V[h,p,f]         = N[p,d] * WV[h,d,f]
    Q[h,g,p,c,i]     = QP[h,g,p,j,i] * ROT[p,j,c,i]      # rotary: ROT[p,:,:,i] is (cos, sin; -sin, cos) of p and i
    K[h,p,c,i]       = KP[h,p,j,i] * ROT[p,j,c,i]
    RM[h,g,0,p]      = -inf                              # causal attention in one pass over the keys
    RD[h,g,0,p]      = 0
    RNV[h,g,0,p,f]   = 0
    QK[h,g,m1,m0,p]  = Q[h,g,p,c,i] * K[h,m1*M0+m0,c,i] if m1*M0+m0 <= p else -inf
    LM[h,g,m1,p]     max= QK[h,g,m1,m0,p] if m1*M0+m0 <= p else -inf
    RM[h,g,m1+1,p]   = max(RM[h,g,m1,p], LM[h,g,m1,p]) if m1*M0 <= p else RM[h,g,m1,p]
    SLN[h,g,m1,m0,p] = exp(QK[h,g,m1,m0,p] - RM[h,g,m1+1,p]) if m1*M0+m0 <= p else 0
    SLD[h,g,m1,p]    = SLN[h,g,m1,m0,p] if m1*M0+m0 <= p else 0
    SLNV[h,g,m1,p,f] = SLN[h,g,m1,m0,p] * V[h,m1*M0+m0,f] if m1*M0+m0 <= p else 0
    PRM[h,g,m1,p]    = exp(RM[h,g,m1,p] - RM[h,g,m1+1,p]) if m1*M0 <= p else 1
    RD[h,g,m1+1,p]   = PRM[h,g,m1,p] * RD[h,g,m1,p] + SLD[h,g,m1,p] if m1*M0 <= p else RD[h,g,m1,p]
    RNV[h,g,m1+1,p,f] = PRM[h,g,m1,p] * RNV[h,g,m1,p,f] + SLNV[h,g,m1,p,f] if m1*M0 <= p else RNV[h,g,m1,p,f]
    AV[h,g,p,f]      = RNV[h,g,M1,p,f] / RD[h,g,M1,p]
    O[p,d]           = AV[h,g,p,f] * WO[h,g,f,d]
    Y[p,d]           = X[p,d] + O[p,d]
    SY[p]            = Y[p,d] * Y[p,d]                   # the second norm
    RY[p]            = sqrt(SY[p] / D + 0.00001)
    NY[p,d]          = Y[p,d] / RY[p] * GY[d]
    GATE[p,n]        = NY[p,d] * WG[d,n]
    UP[p,n]          = NY[p,d] * WU[d,n]
    A[p,n]           = GATE[p,n] / (1 + exp(-GATE[p,n])) * UP[p,n]
    DOWN[p,d]        = A[p,n] * WD[n,d]
    Z[p,d]           = Y[p,d] + DOWN[p,d]
""")

ALL_REDUCE = cascade("all-reduce", """
    Y[r,d] = X[x,r,d]                                # the sum over the devices x, on every one of them
""")

ACTIVATIONS: Mapping[str, Cascade] = MappingProxyType(
    {"gelu": GELU, "gelu-tanh": GELU, "silu": SILU, "relu": RELU, "relu2": RELU_SQUARED}
)
GATED: Mapping[str, Cascade] = MappingProxyType(
    {"gelu": GATED_GELU, "gelu-tanh": GATED_GELU, "silu": GATED_SILU, "relu": GATED_RELU}
)
