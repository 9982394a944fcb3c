// The 1-pass cascade (FlashAttention-2) with mma.sync.m16n8k16: QK, LM, RM, SLN, SLD, PRM, SLNV, RD, RNV per tile of M0
// keys; AV = RNV / RD after the last one. A block keeps P0 queries, a warp P0 / WARPS rows of them in registers.
//
// Q, AV [B, H, P, D], K, V [B, G, M, D], contiguous; one block per tile of P0 queries, tile by tile of a head.
// LENGTHS [B] or null: keys of each batch entry, at most M. CAUSAL: query p sees keys m <= p + M - P. Queries without a key get zeros. The values of a tile are on
// their way while its scores are computed, the next keys while the values are added.

#include "instructions.cuh"

#define P0 128
#define QUAD 4  // lanes that share a row of a product; PTX ISA, fragments of m16n8k16
#define MINUS_INFINITY __int_as_float(0xff800000)

struct Yes {
    static constexpr bool value = true;
};
struct No {
    static constexpr bool value = false;
};

// A row is chunks of 16 bytes, permuted so that 8 rows of one column lie in different banks.
template <int D>
DEVICE int place(int row, int chunk) {
    return row * D + (chunk ^ (row & 7)) * 8;
}

template <int D, int M0, int THREADS>
DEVICE void fetch_tile(unsigned short* tile, const unsigned short* rows, int first, int keys) {
#pragma unroll
    for (int i = 0; i < M0 * D / 8 / THREADS; ++i) {
        int row = (i * THREADS + threadIdx.x) / (D / 8), chunk = (i * THREADS + threadIdx.x) % (D / 8);
        bool inside = first + row < keys;
        copy_async(&tile[place<D>(row, chunk)], rows + (long long)(inside ? first + row : 0) * D + chunk * 8,
                   inside ? 16 : 0);
    }
}

template <int D, int M0, int WARPS, class Type>
struct Rows {
    static constexpr int TILES = P0 / WARPS / 16;  // of 16 rows each; a lane holds rows lane / 4 and lane / 4 + 8
    unsigned q[TILES][D / 16][4];
    float RM[TILES][2], RD[TILES][2], RNV[TILES][D / 8][4];

    DEVICE void begin(const unsigned short* Q, int p, int P) {
        int column = threadIdx.x % QUAD * 2;
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                int row = p + 16 * tile + 8 * half;
                RM[tile][half] = MINUS_INFINITY;
                RD[tile][half] = 0.0f;
#pragma unroll
                for (int part = 0; part < D / 8; ++part) {
                    const unsigned short* pair = Q + (long long)row * D + 8 * part + column;
                    q[tile][part / 2][half + part % 2 * 2] = row < P ? *(const unsigned*)pair : 0u;
                    RNV[tile][part][2 * half] = RNV[tile][part][2 * half + 1] = 0.0f;
                }
            }
        }
    }

    DEVICE void score(float (&QK)[TILES][M0 / 8][4], const unsigned short* BK) {
        int lane = threadIdx.x % 32;
#pragma unroll
        for (int e = 0; e < D / 16; ++e) {
#pragma unroll
            for (int m = 0; m < M0 / 16; ++m) {
                unsigned b[4];
                load_matrices(b, &BK[place<D>(16 * m + lane / 16 * 8 + lane % 8, 2 * e + lane / 8 % 2)]);
#pragma unroll
                for (int tile = 0; tile < TILES; ++tile) {
                    Type::product(QK[tile][2 * m], q[tile][e], b[0], b[1]);
                    Type::product(QK[tile][2 * m + 1], q[tile][e], b[2], b[3]);
                }
            }
        }
    }

    // QK becomes SLN; earlier tiles are worth PRM. RD holds the sum of this lane's columns only.
    DEVICE void rescale(float (&QK)[TILES][M0 / 8][4], float scale_log2) {
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float LM = MINUS_INFINITY, SLD = 0.0f;
#pragma unroll
                for (int i = 0; i < M0 / 8 * 2; ++i) LM = fmaxf(LM, QK[tile][i / 2][2 * half + i % 2]);
                LM = fmaxf(LM, __shfl_xor_sync(0xffffffff, LM, 1));
                LM = fmaxf(LM, __shfl_xor_sync(0xffffffff, LM, 2));
                float maximum = fmaxf(RM[tile][half], LM * scale_log2);
                float shift = maximum == MINUS_INFINITY ? 0.0f : maximum;  // nothing seen yet
                float PRM = exp2_approximate(RM[tile][half] - shift);
#pragma unroll
                for (int i = 0; i < M0 / 8 * 2; ++i) {
                    float& SLN = QK[tile][i / 2][2 * half + i % 2];
                    SLN = exp2_approximate(SLN * scale_log2 - shift);
                    SLD += SLN;
                }
                RM[tile][half] = maximum;
                RD[tile][half] = RD[tile][half] * PRM + SLD;
#pragma unroll
                for (int i = 0; i < D / 8 * 2; ++i) RNV[tile][i / 2][2 * half + i % 2] *= PRM;
            }
        }
    }

    // The accumulators of two products of 8 keys are, rounded, the left operand of one of 16 keys.
    DEVICE void add_values(const float (&SLN)[TILES][M0 / 8][4], const unsigned short* BV) {
        int lane = threadIdx.x % 32;
#pragma unroll
        for (int m = 0; m < M0 / 16; ++m) {
            unsigned a[TILES][4];
#pragma unroll
            for (int i = 0; i < TILES * 4; ++i) {
                const float* pair = &SLN[i / 4][2 * m + i % 4 / 2][i % 2 * 2];
                a[i / 4][i % 4] = Type::pair(pair[0], pair[1]);
            }
#pragma unroll
            for (int f = 0; f < D / 16; ++f) {
                unsigned b[4];
                load_matrices_transposed(b, &BV[place<D>(16 * m + lane % 16, 2 * f + lane / 16)]);
#pragma unroll
                for (int tile = 0; tile < TILES; ++tile) {
                    Type::product(RNV[tile][2 * f], a[tile], b[0], b[1]);
                    Type::product(RNV[tile][2 * f + 1], a[tile], b[2], b[3]);
                }
            }
        }
    }

    DEVICE void end(unsigned short* AV, int p, int P) {
        int column = threadIdx.x % QUAD * 2;
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float sum = RD[tile][half];
                sum += __shfl_xor_sync(0xffffffff, sum, 1);
                sum += __shfl_xor_sync(0xffffffff, sum, 2);
                float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
                int row = p + 16 * tile + 8 * half;
                if (row >= P) continue;
#pragma unroll
                for (int part = 0; part < D / 8; ++part) {
                    const float* pair = &RNV[tile][part][2 * half];
                    *(unsigned*)(AV + (long long)row * D + 8 * part + column) =
                        Type::pair(pair[0] * factor, pair[1] * factor);
                }
            }
        }
    }
};

// QK = -inf where the query does not see the key.
template <int M0, bool CAUSAL, int TILES>
DEVICE void mask(float (&QK)[TILES][M0 / 8][4], int p, int m, int offset, int keys) {
#pragma unroll
    for (int i = 0; i < TILES * M0 / 8 * 4; ++i) {
        int tile = i / (M0 / 8 * 4), part = i / 4 % (M0 / 8), element = i % 4;
        int row = p + 16 * tile + element / 2 * 8, key = m + 8 * part + element % 2;
        if (key >= keys || (CAUSAL && key > row + offset)) QK[tile][part][element] = MINUS_INFINITY;
    }
}

template <int D, int M0, int WARPS, class Type, bool CAUSAL>
DEVICE void attention(const unsigned short* Q, const unsigned short* K, const unsigned short* V, unsigned short* AV,
                      const int* LENGTHS, float scale_log2, int P, int M, int heads, int group) {
    __shared__ __align__(16) unsigned short BK[M0 * D], BV[M0 * D];
    using State = Rows<D, M0, WARPS, Type>;
    int tiles = (P + P0 - 1) / P0, head = blockIdx.x / tiles, batch = head / heads, offset = M - P;
    int p1 = CAUSAL ? tiles - 1 - blockIdx.x % tiles : blockIdx.x % tiles;  // long rows of tiles start first
    int p = p1 * P0 + threadIdx.x / 32 * (P0 / WARPS) + threadIdx.x % 32 / QUAD, column = threadIdx.x % QUAD * 2;
    long long key_head = (long long)batch * (heads / group) + head % heads / group;
    K += key_head * M * D;
    V += key_head * M * D;
    int keys = LENGTHS ? min(max(LENGTHS[batch], 0), M) : M;
    int last_key = CAUSAL ? min(keys, max(p1 * P0 + P0 + offset, 0)) : keys;
    int whole = (CAUSAL ? min(keys, max(p1 * P0 + offset + 1, 0)) : keys) / M0, last = (last_key + M0 - 1) / M0;

    State rows;
    rows.begin(Q + (long long)head * P * D, p, P);
    if (last > 0) fetch_tile<D, M0, 32 * WARPS>(BK, K, 0, keys);

    auto turn = [&](int m1, auto masked) {
        copies_done();
        __syncthreads();  // the keys are there, and nobody reads the values before any more
        fetch_tile<D, M0, 32 * WARPS>(BV, V, m1 * M0, keys);
        float QK[State::TILES][M0 / 8][4] = {};
        rows.score(QK, BK);
        if (masked.value) mask<M0, CAUSAL, State::TILES>(QK, p, m1 * M0 + column, offset, keys);
        rows.rescale(QK, scale_log2);
        copies_done();
        __syncthreads();  // the values are there, and nobody reads the keys any more
        if (m1 + 1 < last) fetch_tile<D, M0, 32 * WARPS>(BK, K, (m1 + 1) * M0, keys);
        rows.add_values(QK, BV);
    };
#pragma unroll 1
    for (int m1 = 0; m1 < whole; ++m1) turn(m1, No{});
#pragma unroll 1
    for (int m1 = whole; m1 < last; ++m1) turn(m1, Yes{});
    rows.end(AV + (long long)head * P * D, p, P);
}

#define PARAMETERS                                                                                                  \
    const unsigned short *Q, const unsigned short *K, const unsigned short *V, unsigned short *AV, const int *LENGTHS, \
        float scale_log2, int P, int M, int heads, int group
#define ARGUMENTS Q, K, V, AV, LENGTHS, scale_log2, P, M, heads, group

extern "C" __global__ void __launch_bounds__(128) attention_fp16_d64(PARAMETERS) {
    attention<64, 32, 4, Fp16, false>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) attention_fp16_d64_causal(PARAMETERS) {
    attention<64, 32, 4, Fp16, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) attention_bf16_d64(PARAMETERS) {
    attention<64, 32, 4, Bf16, false>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(128) attention_bf16_d64_causal(PARAMETERS) {
    attention<64, 32, 4, Bf16, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(256) attention_fp16_d128(PARAMETERS) {
    attention<128, 64, 8, Fp16, false>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(256) attention_fp16_d128_causal(PARAMETERS) {
    attention<128, 64, 8, Fp16, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(256) attention_bf16_d128(PARAMETERS) {
    attention<128, 64, 8, Bf16, false>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(256) attention_bf16_d128_causal(PARAMETERS) {
    attention<128, 64, 8, Bf16, true>(ARGUMENTS);
}
