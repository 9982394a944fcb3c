"""Attention with other scores, other normalisations or other orders: what models have made of softmax attention.

Ranks as in `attention`: h heads, p queries, m keys (m1 tiles of M0), e and f depths of keys and values. No 1/sqrt(E)
scaling. Texts that normalise are in three passes over the keys, as papers write them, unless their name says otherwise;
`cascadesim rewrite NAME --to defer-division --to split:m=M0 --to online` gives the forms with fewer. Masks come from
the workload. Sources stand in the comment of each text's first line.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

ATTENTION_SIGMOID = cascade("attention-sigmoid", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]              # Ramapuram et al. (arXiv 2409.04431)
    A[h,m,p]  = sigmoid(QK[h,m,p] - log(M))      # the bias -log(M) keeps weights near 1/M: no sum over the keys
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")

ATTENTION_RELU = cascade("attention-relu", """
    QK[h,m,p]  = Q[h,p,e] * K[h,m,e]             # Wortsman et al. (arXiv 2309.08586)
    A[h,m,p]   = max(QK[h,m,p], 0)
    SNV[h,p,f] = A[h,m,p] * V[h,m,f]
    AV[h,p,f]  = SNV[h,p,f] / M                  # divided by the number of keys
""")

ATTENTION_SOFTCAP = cascade("attention-softcap", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]              # Gemma 2 (arXiv 2408.00118), section 2: capped at 50
    SC[h,m,p] = 50 * tanh(QK[h,m,p] * 0.02)
    GM[h,p]   max= SC[h,m,p]                     # pass 1
    SN[h,m,p] = exp(SC[h,m,p] - GM[h,p])         # pass 2
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]              # pass 3
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")

ATTENTION_SINKS = cascade("attention-sinks", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]              # gpt-oss (arXiv 2508.10925): a learned score per head, no value
    LM[h,p]   max= QK[h,m,p]                     # pass 1
    GM[h,p]   = max(LM[h,p], SINK[h])
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])         # pass 2
    LD[h,p]   = SN[h,m,p]
    SD[h,p]   = LD[h,p] + exp(SINK[h] - GM[h,p]) # the sink takes its share and gives nothing
    A[h,m,p]  = SN[h,m,p] / SD[h,p]              # pass 3
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")

ATTENTION_SINKS_1PASS = cascade("attention-sinks-1pass", """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]             # gpt-oss (arXiv 2508.10925), with the running state of FuseMax
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RM[h,0,p]       = SINK[h]                    # the sink is the first key: it is the maximum so far ...
    RD[h,0,p]       = 1                          # ... counts once ...
    RNV[h,0,p,f]    = 0                          # ... and has no value
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]
    LM[h,m1,p]      max= QK[h,m1,m0,p]
    RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])
    SLN[h,m1,m0,p]  = exp(QK[h,m1,m0,p] - RM[h,m1+1,p])
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
    PRM[h,m1,p]     = exp(RM[h,m1,p] - RM[h,m1+1,p])
    SPD[h,m1,p]     = PRM[h,m1,p] * RD[h,m1,p]
    RD[h,m1+1,p]    = SPD[h,m1,p] + SLD[h,m1,p]
    SPNV[h,m1,p,f]  = PRM[h,m1,p] * RNV[h,m1,p,f]
    RNV[h,m1+1,p,f] = SPNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
""")

ATTENTION_ALIBI = cascade("attention-alibi", """
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]              # Press et al. (ICLR 2022): a penalty per step of distance
    B[h,m]    = SLOPE[h] * POS[m]                # -slope*p is the same for all keys: softmax does not see it
    S[h,m,p]  = QK[h,m,p] + B[h,m]
    GM[h,p]   max= S[h,m,p]                      # pass 1
    SN[h,m,p] = exp(S[h,m,p] - GM[h,p])          # pass 2
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]              # pass 3
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
""")

ATTENTION_DIFFERENTIAL = cascade("attention-differential", """
    QK1[h,m,p] = Q[2*h,p,e] * K[2*h,m,e]         # Ye et al. (arXiv 2410.05258): a pair of score matrices per head
    QK2[h,m,p] = Q[2*h+1,p,e] * K[2*h+1,m,e]
    GM1[h,p]   max= QK1[h,m,p]                   # pass 1
    GM2[h,p]   max= QK2[h,m,p]
    SN1[h,m,p] = exp(QK1[h,m,p] - GM1[h,p])      # pass 2
    SN2[h,m,p] = exp(QK2[h,m,p] - GM2[h,p])
    SD1[h,p]   = SN1[h,m,p]
    SD2[h,p]   = SN2[h,m,p]
    W2[h,p]    = LAMBDA[] / SD2[h,p]
    A[h,m,p]   = SN1[h,m,p] / SD1[h,p] - SN2[h,m,p] * W2[h,p]   # pass 3: what both attend to cancels
    AV[h,p,f]  = A[h,m,p] * V[h,m,f]
""")

ATTENTION_UNIFIED_MAX = cascade("attention-unified-max", """
    QK[h,m,p]  = Q[h,p,e] * K[h,m,e]             # FlashDecoding++ (Hong et al., MLSys 2024), section 3
    SN[h,m,p]  = exp(QK[h,m,p] - PHI[])          # one number for all rows, known beforehand, instead of their maxima
    SD[h,p]    = SN[h,m,p]
    SNV[h,p,f] = SN[h,m,p] * V[h,m,f]
    AV[h,p,f]  = SNV[h,p,f] / SD[h,p]
""")

ATTENTION_FLASH_DECODING = cascade("attention-flash-decoding", """
    BK[h,m1,m0,e]  = K[h,m1*M0+m0,e]             # Dao et al., Flash-Decoding (2023): M1 splits of the keys side by side
    BV[h,m1,m0,f]  = V[h,m1*M0+m0,f]
    QK[h,m1,m0,p]  = Q[h,p,e] * BK[h,m1,m0,e]
    LM[h,m1,p]     max= QK[h,m1,m0,p]
    SLN[h,m1,m0,p] = exp(QK[h,m1,m0,p] - LM[h,m1,p])
    SLD[h,m1,p]    = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f] = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
    GM[h,p]        max= LM[h,m1,p]               # then M1 results a query are combined
    PLM[h,m1,p]    = exp(LM[h,m1,p] - GM[h,p])
    SD[h,p]        = SLD[h,m1,p] * PLM[h,m1,p]
    SNV[h,p,f]     = SLNV[h,m1,p,f] * PLM[h,m1,p]
    AV[h,p,f]      = SNV[h,p,f] / SD[h,p]
""")

ATTENTION_2PASS_ONLINE = cascade("attention-2pass-online", """
    RM[h,0,p]   = -inf                           # Milakov and Gimelshein (arXiv 1805.02867), applied to V
    RD[h,0,p]   = 0
    QK[h,m,p]   = Q[h,p,e] * K[h,m,e]
    RM[h,m+1,p] = max(RM[h,m,p], QK[h,m,p])      # pass 1: running maximum and denominator
    PRM[h,m,p]  = exp(RM[h,m,p] - RM[h,m+1,p])
    SLN[h,m,p]  = exp(QK[h,m,p] - RM[h,m+1,p])
    RD[h,m+1,p] = PRM[h,m,p] * RD[h,m,p] + SLN[h,m,p]
    SN[h,m,p]   = exp(QK[h,m,p] - RM[h,M,p])     # pass 2: the exponentials again, now final
    A[h,m,p]    = SN[h,m,p] / RD[h,M,p]
    AV[h,p,f]   = A[h,m,p] * V[h,m,f]
""")

ATTENTION_3PASS_MAP_REDUCE = cascade("attention-3pass-map-reduce", """
    QKE[h,e,m,p] = Q[h,p,e] * K[h,m,e]           # FuseMax (MICRO'24), cascade 4, as e-graphs rewrite it:
    QK[h,m,p]    = QKE[h,e,m,p]                  # one operator a line, maps and reductions apart
    GM[h,p]      max= QK[h,m,p]                  # pass 1
    QKD[h,m,p]   = QK[h,m,p] - GM[h,p]           # pass 2
    SN[h,m,p]    = exp(QKD[h,m,p])
    SD[h,p]      = SN[h,m,p]
    A[h,m,p]     = SN[h,m,p] / SD[h,p]           # pass 3
    AVM[h,m,p,f] = A[h,m,p] * V[h,m,f]
    AV[h,p,f]    = AVM[h,m,p,f]
""")

ATTENTION_2PASS_MAP_REDUCE = cascade("attention-2pass-map-reduce", """
    BK[h,m1,m0,e]     = K[h,m1*M0+m0,e]          # FuseMax (MICRO'24), section III, one operator a line
    BV[h,m1,m0,f]     = V[h,m1*M0+m0,f]
    QKE[h,e,m1,m0,p]  = Q[h,p,e] * BK[h,m1,m0,e]
    QK[h,m1,m0,p]     = QKE[h,e,m1,m0,p]
    LM[h,m1,p]        max= QK[h,m1,m0,p]         # pass 1: of each tile
    QKD[h,m1,m0,p]    = QK[h,m1,m0,p] - LM[h,m1,p]
    SLN[h,m1,m0,p]    = exp(QKD[h,m1,m0,p])
    SLD[h,m1,p]       = SLN[h,m1,m0,p]
    GM[h,p]           max= LM[h,m1,p]            # over tiles only
    LMD[h,m1,p]       = LM[h,m1,p] - GM[h,p]
    PLM[h,m1,p]       = exp(LMD[h,m1,p])
    SPD[h,m1,p]       = SLD[h,m1,p] * PLM[h,m1,p]
    SD[h,p]           = SPD[h,m1,p]
    SPN[h,m1,m0,p]    = SLN[h,m1,m0,p] * PLM[h,m1,p]   # pass 2
    A[h,m1,m0,p]      = SPN[h,m1,m0,p] / SD[h,p]
    AVM[h,m1,m0,p,f]  = A[h,m1,m0,p] * BV[h,m1,m0,f]
    AV[h,p,f]         = AVM[h,m1,m0,p,f]
""")

TRIANGLE_ATTENTION = cascade("triangle-attention", """
    QK[h,i,m,p] = Q[h,i,p,e] * K[h,i,m,e]        # AlphaFold 2 (Jumper et al., Nature 2021), supplement, algorithm 13
    S[h,i,m,p]  = QK[h,i,m,p] + B[h,m,p]         # the bias of a pair is the same in every row i
    GM[h,i,p]   max= S[h,i,m,p]                  # pass 1
    SN[h,i,m,p] = exp(S[h,i,m,p] - GM[h,i,p])    # pass 2
    SD[h,i,p]   = SN[h,i,m,p]
    A[h,i,m,p]  = SN[h,i,m,p] / SD[h,i,p]        # pass 3
    AV[h,i,p,f] = A[h,i,m,p] * V[h,i,m,f]
    Z[h,i,p,f]  = AV[h,i,p,f] * sigmoid(G[h,i,p,f])
""")

MULTI_HEAD_ATTENTION = cascade("multi-head-attention", """
    Q[h,p,e]  = X[p,d] * WQ[h,d,e]               # Vaswani et al. (NeurIPS 2017), section 3.2.2
    K[h,m,e]  = X[m,d] * WK[h,d,e]
    V[h,m,f]  = X[m,d] * WV[h,d,f]
    QK[h,m,p] = Q[h,p,e] * K[h,m,e]
    GM[h,p]   max= QK[h,m,p]                     # pass 1
    SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])         # pass 2
    SD[h,p]   = SN[h,m,p]
    A[h,m,p]  = SN[h,m,p] / SD[h,p]              # pass 3
    AV[h,p,f] = A[h,m,p] * V[h,m,f]
    Z[p,n]    = AV[h,p,f] * WO[h,f,n]
""")

MLA_ABSORBED = cascade("mla-absorbed", """
    QC[h,p,c]  = Q[h,p,e] * WK[h,e,c]            # DeepSeek-V2 (arXiv 2405.04434), section 2.1: WK moves to the queries
    QN[h,m,p]  = QC[h,p,c] * C[m,c]              # one latent vector of C numbers a token, for all heads
    QP[h,m,p]  = QR[h,p,r] * KR[m,r]             # the rotated part of the score, one key for all heads
    QK[h,m,p]  = QN[h,m,p] + QP[h,m,p]
    GM[h,p]    max= QK[h,m,p]                    # pass 1
    SN[h,m,p]  = exp(QK[h,m,p] - GM[h,p])        # pass 2
    SD[h,p]    = SN[h,m,p]
    A[h,m,p]   = SN[h,m,p] / SD[h,p]             # pass 3
    AC[h,p,c]  = A[h,m,p] * C[m,c]
    AV[h,p,f]  = AC[h,p,c] * WV[h,c,f]           # WV moves behind the sum over the keys
""")
