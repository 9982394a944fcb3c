"""Sequence models whose state does not grow: linear attention with decay, delta rules, state spaces, RWKV, Titans.

Also what stands around a recurrence in the layers of today's hybrids: convolution, gates, norms with a gate.

Those that hold an E x F matrix per head are written with the letters of attention (Q, K, V; h, m, e, f), so that they
stand where attention stands: m is the position, S the state before it, query m reads the state after key m. Chunked
forms cut positions into M1 chunks of M0 keys and P0 = M0 queries (and I0 = M0 rows that are eliminated); CS is the sum
of log decays so far inside the chunk. Steps go on from a state S0, which M more tokens make SM; decoding runs them with
M = 1. G value heads read one head of queries and keys where a text says h//G. Convolutions, gates and norms have r rows
(tokens, or tokens x heads) of d elements. Sources stand in the comment of each text's first line.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

LINEAR_ATTENTION_GATED = cascade("linear-attention-gated", """
    S[h,0,e,f]   = 0                                  # Yang et al., gated linear attention (arXiv 2312.06635)
    KV[h,m,e,f]  = K[h,m,e] * V[h,m,f]
    S[h,m+1,e,f] = G[h,m,e] * S[h,m,e,f] + KV[h,m,e,f]   # each row of the state decays by a gate of its own
    AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
""")

MAMBA = cascade("mamba", """
    H[0,d,n]   = 0                                    # Gu and Dao (arXiv 2312.00752), algorithm 2: selective scan (S6)
    DA[l,d,n]  = exp(DT[l,d] * A[d,n])                # decay of this step
    DX[l,d]    = DT[l,d] * X[l,d]
    H[l+1,d,n] = DA[l,d,n] * H[l,d,n] + DX[l,d] * B[l,n]
    CH[l,d]    = C[l,n] * H[l+1,d,n]
    Y[l,d]     = CH[l,d] + SKIP[d] * X[l,d]
""")

MAMBA_2_SSD = cascade("mamba-2-ssd", """
    S[h,0,e,f]       = 0                              # Dao and Gu (arXiv 2405.21060), section 6
    CS[h,m1,0]       = 0                              # Q is the paper's C, K its B, V dt*X, G dt*A
    BQ[h,m1,p0,e]    = Q[h//G,m1*P0+p0,e]
    BK[h,m1,m0,e]    = K[h//G,m1*M0+m0,e]
    BV[h,m1,m0,f]    = V[h,m1*M0+m0,f]
    BG[h,m1,m0]      = G[h,m1*M0+m0]
    CS[h,m1,m0+1]    = CS[h,m1,m0] + BG[h,m1,m0]
    QK[h,m1,m0,p0]   = BQ[h,m1,p0,e] * BK[h,m1,m0,e] if m0 <= p0 else 0                   # inside the chunk:
    DR[h,m1,m0,p0]   = exp(CS[h,m1,p0+1] - CS[h,m1,m0+1]) if m0 <= p0 else 0              # decay from key to query
    A[h,m1,m0,p0]    = QK[h,m1,m0,p0] * DR[h,m1,m0,p0] if m0 <= p0 else 0
    LAV[h,m1,p0,f]   = A[h,m1,m0,p0] * BV[h,m1,m0,f] if m0 <= p0 else 0
    DQ[h,m1,p0]      = exp(CS[h,m1,p0+1])                                                 # from earlier chunks:
    QS[h,m1,p0,f]    = BQ[h,m1,p0,e] * S[h,m1,e,f]
    AV[h,m1*P0+p0,f] = DQ[h,m1,p0] * QS[h,m1,p0,f] + LAV[h,m1,p0,f]
    DK[h,m1,m0]      = exp(CS[h,m1,M0] - CS[h,m1,m0+1])                                   # to the next chunk:
    KD[h,m1,m0,e]    = BK[h,m1,m0,e] * DK[h,m1,m0]
    LS[h,m1,e,f]     = KD[h,m1,m0,e] * BV[h,m1,m0,f]
    DS[h,m1]         = exp(CS[h,m1,M0])
    S[h,m1+1,e,f]    = DS[h,m1] * S[h,m1,e,f] + LS[h,m1,e,f]
""")

DELTANET = cascade("deltanet", """
    S[h,0,e,f]   = 0                                  # Schlag et al. (ICML 2021); Yang et al. (arXiv 2406.06484)
    KS[h,m,f]    = K[h,m,e] * S[h,m,e,f]              # what the state holds for this key ...
    D[h,m,f]     = BETA[h,m] * (V[h,m,f] - KS[h,m,f]) # ... is corrected towards its value
    S[h,m+1,e,f] = S[h,m,e,f] + K[h,m,e] * D[h,m,f]
    AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
""")

GATED_DELTANET = cascade("gated-deltanet", """
    S[h,0,e,f]   = 0                                  # Yang, Kautz and Hatamizadeh (arXiv 2412.06464): decay exp(G)
    DG[h,m]      = exp(G[h,m])
    SG[h,m,e,f]  = DG[h,m] * S[h,m,e,f]
    KS[h,m,f]    = K[h,m,e] * SG[h,m,e,f]
    D[h,m,f]     = BETA[h,m] * (V[h,m,f] - KS[h,m,f])
    S[h,m+1,e,f] = SG[h,m,e,f] + K[h,m,e] * D[h,m,f]
    AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
""")

KIMI_DELTA_ATTENTION = cascade("kimi-delta-attention", """
    S[h,0,e,f]   = 0                                  # Kimi Linear (arXiv 2510.26692): each row of the state decays
    DG[h,m,e]    = exp(G[h,m,e])
    SG[h,m,e,f]  = DG[h,m,e] * S[h,m,e,f]
    KS[h,m,f]    = K[h,m,e] * SG[h,m,e,f]
    D[h,m,f]     = BETA[h,m] * (V[h,m,f] - KS[h,m,f])
    S[h,m+1,e,f] = SG[h,m,e,f] + K[h,m,e] * D[h,m,f]
    AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
""")

GATED_DELTANET_CHUNKED = cascade("gated-deltanet-chunked", """
    S[h,0,e,f]           = 0                          # Yang, Kautz and Hatamizadeh (arXiv 2412.06464), section 3.3
    CS[h,m1,0]           = 0
    BQ[h,m1,p0,e]        = Q[h//G,m1*P0+p0,e]
    BK[h,m1,m0,e]        = K[h//G,m1*M0+m0,e]
    BV[h,m1,m0,f]        = V[h,m1*M0+m0,f]
    BB[h,m1,m0]          = BETA[h,m1*M0+m0]
    BG[h,m1,m0]          = G[h,m1*M0+m0]
    CS[h,m1,m0+1]        = CS[h,m1,m0] + BG[h,m1,m0]
    DR[h,m1,m0,p0]       = exp(CS[h,m1,p0+1] - CS[h,m1,m0+1]) if m0 <= p0 else 0
    KK[h,m1,m0,p0]       = BK[h,m1,p0,e] * BK[h,m1,m0,e] if m0 < p0 else 0
    T[h,m1,m0,p0]        = BB[h,m1,p0] * DR[h,m1,m0,p0] * KK[h,m1,m0,p0] if m0 < p0 else 0
    IT[h,m1,0,m0,p0]     = 1 if m0 == p0 else 0       # inverse of 1 + T by elimination, row i0 from all below it
    IT[h,m1,i0+1,m0,p0]  = IT[h,m1,i0,m0,p0] - T[h,m1,i0,p0] * IT[h,m1,i0,m0,i0] if m0 <= i0 < p0 else IT[h,m1,i0,m0,p0]
    VB[h,m1,m0,f]        = BB[h,m1,m0] * BV[h,m1,m0,f]
    DQ[h,m1,p0]          = exp(CS[h,m1,p0+1])
    KB[h,m1,m0,e]        = BB[h,m1,m0] * DQ[h,m1,m0] * BK[h,m1,m0,e]
    U[h,m1,p0,f]         = IT[h,m1,I0,m0,p0] * VB[h,m1,m0,f] if m0 <= p0 else 0
    W[h,m1,p0,e]         = IT[h,m1,I0,m0,p0] * KB[h,m1,m0,e] if m0 <= p0 else 0
    WS[h,m1,p0,f]        = W[h,m1,p0,e] * S[h,m1,e,f]
    D[h,m1,p0,f]         = U[h,m1,p0,f] - WS[h,m1,p0,f]   # the corrections of all keys of the chunk at once
    QK[h,m1,m0,p0]       = BQ[h,m1,p0,e] * BK[h,m1,m0,e] if m0 <= p0 else 0
    A[h,m1,m0,p0]        = QK[h,m1,m0,p0] * DR[h,m1,m0,p0] if m0 <= p0 else 0
    LAV[h,m1,p0,f]       = A[h,m1,m0,p0] * D[h,m1,m0,f] if m0 <= p0 else 0
    QS[h,m1,p0,f]        = BQ[h,m1,p0,e] * S[h,m1,e,f]
    AV[h,m1*P0+p0,f]     = DQ[h,m1,p0] * QS[h,m1,p0,f] + LAV[h,m1,p0,f]
    DK[h,m1,m0]          = exp(CS[h,m1,M0] - CS[h,m1,m0+1])
    KD[h,m1,m0,e]        = BK[h,m1,m0,e] * DK[h,m1,m0]
    LS[h,m1,e,f]         = KD[h,m1,m0,e] * D[h,m1,m0,f]
    DS[h,m1]             = exp(CS[h,m1,M0])
    S[h,m1+1,e,f]        = DS[h,m1] * S[h,m1,e,f] + LS[h,m1,e,f]
""")

RWKV_4 = cascade("rwkv-4", """
    RM[0,d]   = -inf                                  # Peng et al. (arXiv 2305.13048): WKV in its stable form
    RNV[0,d]  = 0
    RD[0,d]   = 0
    KU[t,d]   = K[t,d] + U[d]                         # the current token counts with a bonus
    LM[t,d]   = max(RM[t,d], KU[t,d])
    PLM[t,d]  = exp(RM[t,d] - LM[t,d])
    SLN[t,d]  = exp(KU[t,d] - LM[t,d])
    NV[t,d]   = PLM[t,d] * RNV[t,d] + SLN[t,d] * V[t,d]
    SD[t,d]   = PLM[t,d] * RD[t,d] + SLN[t,d]
    Y[t,d]    = sigmoid(R[t,d]) * NV[t,d] / SD[t,d]
    RMW[t,d]  = RM[t,d] + W[d]                        # earlier tokens fade: W is negative
    RM[t+1,d] = max(RMW[t,d], K[t,d])
    PRM[t,d]  = exp(RMW[t,d] - RM[t+1,d])
    SN[t,d]   = exp(K[t,d] - RM[t+1,d])
    RNV[t+1,d] = PRM[t,d] * RNV[t,d] + SN[t,d] * V[t,d]
    RD[t+1,d] = PRM[t,d] * RD[t,d] + SN[t,d]
""")

TITANS_MEMORY = cascade("titans-memory", """
    MEM[h,0,e,f]   = MEM0[h,e,f]                      # Behrouz et al. (arXiv 2501.00663), section 3.1, linear memory
    MOM[h,0,e,f]   = 0
    KS[h,m,f]      = K[h,m,e] * MEM[h,m,e,f]
    D[h,m,f]       = KS[h,m,f] - V[h,m,f]             # surprise: gradient of the squared error, its 2 in THETA
    TD[h,m,f]      = THETA[h,m] * D[h,m,f]
    MOM[h,m+1,e,f] = ETA[h,m] * MOM[h,m,e,f] - K[h,m,e] * TD[h,m,f]
    KEPT[h,m]      = 1 - ALPHA[h,m]
    MEM[h,m+1,e,f] = KEPT[h,m] * MEM[h,m,e,f] + MOM[h,m+1,e,f]
    AV[h,m,f]      = Q[h,m,e] * MEM[h,m+1,e,f]
""")

MAMBA_2_STEP = cascade("mamba-2-step", """
    S[h,0,e,f]   = S0[h,e,f]                          # Dao and Gu (arXiv 2405.21060), the recurrence of section 2
    DG[h,m]      = exp(G[h,m])
    SG[h,m,e,f]  = DG[h,m] * S[h,m,e,f]
    S[h,m+1,e,f] = SG[h,m,e,f] + K[h//G,m,e] * V[h,m,f]
    AV[h,m,f]    = Q[h//G,m,e] * S[h,m+1,e,f]
    SM[h,e,f]    = S[h,M,e,f]
""")

LINEAR_ATTENTION_STEP = cascade("linear-attention-step", """
    S[h,0,e,f]   = S0[h,e,f]                          # Katharopoulos et al., ICML'20, equations 18 to 20
    KV[h,m,e,f]  = K[h,m,e] * V[h,m,f]
    S[h,m+1,e,f] = S[h,m,e,f] + KV[h,m,e,f]
    AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
    SM[h,e,f]    = S[h,M,e,f]
""")

GATED_DELTANET_STEP = cascade("gated-deltanet-step", """
    S[h,0,e,f]   = S0[h,e,f]                          # Yang, Kautz and Hatamizadeh (arXiv 2412.06464), equation 10
    DG[h,m]      = exp(G[h,m])
    SG[h,m,e,f]  = DG[h,m] * S[h,m,e,f]
    KS[h,m,f]    = K[h//G,m,e] * SG[h,m,e,f]
    D[h,m,f]     = BETA[h,m] * (V[h,m,f] - KS[h,m,f])
    S[h,m+1,e,f] = SG[h,m,e,f] + K[h//G,m,e] * D[h,m,f]
    AV[h,m,f]    = Q[h//G,m,e] * S[h,m+1,e,f]
    SM[h,e,f]    = S[h,M,e,f]
""")

KIMI_DELTA_ATTENTION_STEP = cascade("kimi-delta-attention-step", """
    S[h,0,e,f]   = S0[h,e,f]                          # Kimi Linear (arXiv 2510.26692)
    DG[h,m,e]    = exp(G[h,m,e])
    SG[h,m,e,f]  = DG[h,m,e] * S[h,m,e,f]
    KS[h,m,f]    = K[h,m,e] * SG[h,m,e,f]
    D[h,m,f]     = BETA[h,m] * (V[h,m,f] - KS[h,m,f])
    S[h,m+1,e,f] = SG[h,m,e,f] + K[h,m,e] * D[h,m,f]
    AV[h,m,f]    = Q[h,m,e] * S[h,m+1,e,f]
    SM[h,e,f]    = S[h,M,e,f]
""")

KIMI_DELTA_ATTENTION_CHUNKED = cascade("kimi-delta-attention-chunked", """
    S[h,0,e,f]           = 0                          # Kimi Linear (arXiv 2510.26692), section 3: a decay per channel
    CS[h,m1,0,e]         = 0
    BQ[h,m1,p0,e]        = Q[h,m1*P0+p0,e]
    BK[h,m1,m0,e]        = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]        = V[h,m1*M0+m0,f]
    BB[h,m1,m0]          = BETA[h,m1*M0+m0]
    BG[h,m1,m0,e]        = G[h,m1*M0+m0,e]
    CS[h,m1,m0+1,e]      = CS[h,m1,m0,e] + BG[h,m1,m0,e]
    DQ[h,m1,p0,e]        = exp(CS[h,m1,p0+1,e])
    QD[h,m1,p0,e]        = BQ[h,m1,p0,e] * DQ[h,m1,p0,e]
    KP[h,m1,m0,e]        = BK[h,m1,m0,e] * DQ[h,m1,m0,e]
    KN[h,m1,m0,e]        = BK[h,m1,m0,e] * exp(-CS[h,m1,m0+1,e])
    KK[h,m1,m0,p0]       = KP[h,m1,p0,e] * KN[h,m1,m0,e] if m0 < p0 else 0
    T[h,m1,m0,p0]        = BB[h,m1,p0] * KK[h,m1,m0,p0] if m0 < p0 else 0
    IT[h,m1,0,m0,p0]     = 1 if m0 == p0 else 0       # from here as gated-deltanet-chunked
    IT[h,m1,i0+1,m0,p0]  = IT[h,m1,i0,m0,p0] - T[h,m1,i0,p0] * IT[h,m1,i0,m0,i0] if m0 <= i0 < p0 else IT[h,m1,i0,m0,p0]
    VB[h,m1,m0,f]        = BB[h,m1,m0] * BV[h,m1,m0,f]
    KB[h,m1,m0,e]        = BB[h,m1,m0] * KP[h,m1,m0,e]
    U[h,m1,p0,f]         = IT[h,m1,I0,m0,p0] * VB[h,m1,m0,f] if m0 <= p0 else 0
    W[h,m1,p0,e]         = IT[h,m1,I0,m0,p0] * KB[h,m1,m0,e] if m0 <= p0 else 0
    WS[h,m1,p0,f]        = W[h,m1,p0,e] * S[h,m1,e,f]
    D[h,m1,p0,f]         = U[h,m1,p0,f] - WS[h,m1,p0,f]
    A[h,m1,m0,p0]        = QD[h,m1,p0,e] * KN[h,m1,m0,e] if m0 <= p0 else 0
    LAV[h,m1,p0,f]       = A[h,m1,m0,p0] * D[h,m1,m0,f] if m0 <= p0 else 0
    QS[h,m1,p0,f]        = QD[h,m1,p0,e] * S[h,m1,e,f]
    AV[h,m1*P0+p0,f]     = QS[h,m1,p0,f] + LAV[h,m1,p0,f]
    DK[h,m1,m0,e]        = exp(CS[h,m1,M0,e] - CS[h,m1,m0+1,e])
    KD[h,m1,m0,e]        = BK[h,m1,m0,e] * DK[h,m1,m0,e]
    LS[h,m1,e,f]         = KD[h,m1,m0,e] * D[h,m1,m0,f]
    DS[h,m1,e]           = exp(CS[h,m1,M0,e])
    S[h,m1+1,e,f]        = DS[h,m1,e] * S[h,m1,e,f] + LS[h,m1,e,f]
""")

CAUSAL_CONVOLUTION = cascade("causal-convolution", """
    C[r,d] = X[r,d] * W0[d] + X[r+1,d] * W1[d] + X[r+2,d] * W2[d] + X[r+3,d] * W3[d]       # of width 4, each channel by
    Y[r,d] = C[r,d] / (1 + exp(-C[r,d]))              # itself (Mamba, arXiv 2312.00752); X begins 3 tokens before row 0
""")

CAUSAL_CONVOLUTION_STEP = cascade("causal-convolution-step", """
    C[r,d] = X3[r,d] * W0[d] + X2[r,d] * W1[d] + X1[r,d] * W2[d] + X[r,d] * W3[d]      # X1 to X3: columns that are kept
    Y[r,d] = C[r,d] / (1 + exp(-C[r,d]))
""")

UNIT_NORM = cascade("unit-norm", """
    SX[r]  = X[r,d] * X[r,d]                          # queries and keys of delta rules have length 1
    N[r]   = sqrt(SX[r] + 0.000001)
    Y[r,d] = X[r,d] / N[r]
""")

DELTA_GATES = cascade("delta-gates", """
    BETA[r] = 1 / (1 + exp(-B[r]))                    # r runs over tokens x heads, d over the decays of one head
    G[r,d]  = A[r] * log(1 + exp(X[r,d] + BIAS[d]))   # A = -exp(A_log): Mamba's decay, that gated DeltaNet and KDA take
""")

MAMBA_2_GATES = cascade("mamba-2-gates", """
    DT[r]  = log(1 + exp(T[r] + BIAS[r]))             # Dao and Gu (arXiv 2405.21060): r runs over tokens x heads
    G[r]   = A[r] * DT[r]
    V[r,d] = DT[r] * X[r,d]
""")

GATED_RMS_NORM = cascade("gated-rms-norm", """
    SX[r]   = X[r,d] * X[r,d]                         # gated DeltaNet (arXiv 2412.06464): a norm per head, then a gate
    RMS[r]  = sqrt(SX[r] / D + 0.00001)
    N[r,d]  = X[r,d] / RMS[r]
    GN[r,d] = N[r,d] * G[d]
    Y[r,d]  = GN[r,d] * Z[r,d] / (1 + exp(-Z[r,d]))
""")

MAMBA_2_NORM = cascade("mamba-2-norm", """
    U[r,d]  = AV[r,d] + SKIP[d] * X[r,d]              # Dao and Gu (arXiv 2405.21060): the skip, the gate, then the norm
    C[r,d]  = U[r,d] * Z[r,d] / (1 + exp(-Z[r,d]))
    SC[r]   = C[r,d] * C[r,d]
    RMS[r]  = sqrt(SC[r] / D + 0.00001)
    N[r,d]  = C[r,d] / RMS[r]
    Y[r,d]  = N[r,d] * G[d]
""")
