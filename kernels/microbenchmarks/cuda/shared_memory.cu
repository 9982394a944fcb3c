// Bandwidth of shared memory. Every turn of a loop loads LOADS times in each thread, from places LOADS apart.
//
// shared_read_rate: 16 bytes a lane, lanes side by side, so no two in one bank at a time. shared_conflict_rate: 4 bytes
// a lane, lanes `stride` words apart, so that gcd(stride, 32) of them wait for one bank.

#include "instructions.cuh"

#define LOADS 8
#define WORDS 8192  // 32 KiB, a power of two

DEVICE void fill(float* words, const float* in) {
    for (int word = threadIdx.x; word < WORDS; word += blockDim.x) words[word] = in[word];
    __syncthreads();
}

extern "C" __global__ void shared_read_rate(const float* in, float* out, int turns) {
    __shared__ __align__(16) float words[WORDS];
    float4 x[LOADS] = {};
    float sum = 0.0f;
    fill(words, in);
    int place = threadIdx.x * 4;
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int i = 0; i < LOADS; ++i) x[i] = shared_words(words + (place + i * WORDS / LOADS) % WORDS);
    }
    for (int i = 0; i < LOADS; ++i) sum += x[i].x + x[i].y + x[i].z + x[i].w;
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

extern "C" __global__ void shared_conflict_rate(const float* in, float* out, int turns, int stride) {
    __shared__ float words[WORDS];
    float x[LOADS] = {}, sum = 0.0f;
    fill(words, in);
    int place = threadIdx.x * stride;
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int i = 0; i < LOADS; ++i) x[i] = shared_word(words + (place + i * WORDS / LOADS) % WORDS);
    }
    for (int i = 0; i < LOADS; ++i) sum += x[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
