"""Tensor algebra outside transformers: convolution, pooling, decompositions, graphs, experts, dynamic programming.

Ranks keep the letters of each paper. Sparse operands are lists of coordinates (e edges or nonzeros): what is read there
is gathered, what is written there scattered and reduced. Reads outside an input are kept away by conditions, as padding
is. Sources stand in the comment of each text's first line.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

CONVOLUTION = cascade("convolution", """
    Y[k,p,q] = X[c,STRIDE*p+DIL*r,STRIDE*q+DIL*s] * W[k,c,r,s]   # letters of Timeloop (Parashar et al., ISPASS 2019)
""")

CONVOLUTION_PADDED = cascade("convolution-padded", """
    PX[c,u,v] = X[c,u-PAD,v-PAD] if PAD <= u < PAD+XH and PAD <= v < PAD+XW else 0   # zeros around XH x XW elements
    Y[k,p,q]  = PX[c,STRIDE*p+DIL*r,STRIDE*q+DIL*s] * W[k,c,r,s]
""")

MAX_POOL = cascade("max-pool", """
    Y[c,p,q] max= X[c,STRIDE*p+r,STRIDE*q+s]          # windows of R x S that may overlap
""")

MTTKRP = cascade("mttkrp", """
    C[i,r] = T[i,j,k] * B[j,r] * A[k,r]               # TeAAL (MICRO'23): both factors at each element
""")

MTTKRP_FACTORED = cascade("mttkrp-factored", """
    S[i,j,r] = T[i,j,k] * A[k,r]                      # TeAAL (MICRO'23): one factor after the other
    C[i,r]   = S[i,j,r] * B[j,r]
""")

SDDMM = cascade("sddmm", """
    AB[e] = A[ROW[e],k] * B[COL[e],k]                 # Nisa et al. (HiPC 2018): a product at the elements of S
    Z[e]  = S[e] * AB[e]
""")

GCN = cascade("gcn", """
    H[n,f]      = X[n,d] * W[d,f]                     # Kipf and Welling (ICLR 2017), equation 2
    A[DST[e],f] += C[e] * H[SRC[e],f]                 # C: 1/sqrt of the degrees of both ends
    Y[n,f]      = max(A[n,f], 0)
""")

GAT = cascade("gat", """
    H[n,h,f]      = X[n,d] * W[h,d,f]                 # Velickovic et al. (ICLR 2018), equations 1 to 4, per head
    HS[n,h]       = H[n,h,f] * AS[h,f]
    HD[n,h]       = H[n,h,f] * AD[h,f]
    S[e,h]        = HS[SRC[e],h] + HD[DST[e],h]
    L[e,h]        = max(S[e,h], 0.2 * S[e,h])         # leaky ReLU
    GM[DST[e],h]  max= L[e,h]                         # softmax over the edges that end at a node: pass 1
    SN[e,h]       = exp(L[e,h] - GM[DST[e],h])        # pass 2
    SD[DST[e],h]  += SN[e,h]
    A[e,h]        = SN[e,h] / SD[DST[e],h]            # pass 3
    AH[DST[e],h,f] += A[e,h] * H[SRC[e],h,f]
    Y[n,h,f]      = max(AH[n,h,f], 0)                 # the paper's ELU, as it is where it is not negative
""")

MIXTURE_OF_EXPERTS = cascade("mixture-of-experts", """
    L[t,x]   = X[t,d] * WR[d,x]                       # Mixtral (arXiv 2401.04088), section 2.1: x experts, KEEP a token
    I[t,k]   = top(L[t,x], KEEP)
    GM[t]    max= L[t,I[t,k]]                         # softmax over the experts that are kept
    SN[t,k]  = exp(L[t,I[t,k]] - GM[t])
    SD[t]    = SN[t,k]
    A[t,k]   = SN[t,k] / SD[t]
    H1[t,k,n] = X[t,d] * W1[I[t,k],d,n]
    H3[t,k,n] = X[t,d] * W3[I[t,k],d,n]
    H[t,k,n] = silu(H1[t,k,n]) * H3[t,k,n]
    O[t,k,j] = H[t,k,n] * W2[I[t,k],n,j]
    Y[t,j]   = A[t,k] * O[t,k,j]
""")

VITERBI = cascade("viterbi", """
    S[0,j]     = PI[j]                                # Viterbi (1967), in logarithms: i states before, j after
    C[t,i,j]   = S[t,i] + A[i,j]
    LM[t,j]    max= C[t,i,j]
    BP[t,j,k]  = top(C[t,i,j], 1)                     # where the best path came from
    S[t+1,j]   = LM[t,j] + B[t,j]                     # B: how well state j explains what was seen
    Z[j]       = S[T,j]
""")
