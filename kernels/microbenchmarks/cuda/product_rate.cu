// Rate of mma.sync.m16n8k16 on CHAINS independent accumulators: 4096 FLOP per warp, chain and turn. On Hopper and
// Blackwell this is the matrix unit without its wide instructions, which attention with mma.sync is bound by.

#include "instructions.cuh"

#define CHAINS 8
#define PRODUCT_WORDS 6  // registers of a lane: 4 of the left operand, 2 of the right one

// BOTH: beside each product an exponential in every lane, of a chain of its own: on Hopper 2 clocks of an SM beside 1.5,
// which hide each other as far as the schedulers let them.
template <class Type, bool BOTH>
DEVICE void product_rate(const unsigned* in, float* out, int turns) {
    unsigned a[4], b[2];
    float c[CHAINS][4] = {}, x[CHAINS] = {}, sum = 0.0f;
    in += threadIdx.x % 32 * PRODUCT_WORDS;
    for (int i = 0; i < 4; ++i) a[i] = in[i];
    for (int i = 0; i < 2; ++i) b[i] = in[4 + i];
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int chain = 0; chain < CHAINS; ++chain) {
            Type::product(c[chain], a, b[0], b[1]);
            if (BOTH) x[chain] = exp2_approximate(-x[chain]);  // settles at 0.64
        }
    }
    for (int i = 0; i < CHAINS * 4; ++i) sum += c[i / 4][i % 4];
    for (int i = 0; i < CHAINS; ++i) sum += x[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

extern "C" __global__ void product_rate_fp16(const unsigned* in, float* out, int turns) {
    product_rate<Fp16, false>(in, out, turns);
}
extern "C" __global__ void product_rate_bf16(const unsigned* in, float* out, int turns) {
    product_rate<Bf16, false>(in, out, turns);
}
extern "C" __global__ void product_and_exponential_rate(const unsigned* in, float* out, int turns) {
    product_rate<Fp16, true>(in, out, turns);
}
