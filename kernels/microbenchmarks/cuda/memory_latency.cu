// Latency and bandwidth that need exact loads: a chain of pointers (global memory or shared), and shared memory reads.
// `next` holds a permutation of one cycle, made on the host with the stride and footprint to measure.

extern "C" __global__ void pointer_chase(const int* next, int* out, int turns) {
    int place = threadIdx.x;
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) place = next[place];
    out[threadIdx.x] = place;
}

#define WORDS 2048

extern "C" __global__ void shared_chase(const int* next, int* out, int turns) {
    __shared__ int chain[WORDS];
    for (int word = threadIdx.x; word < WORDS; word += blockDim.x) chain[word] = next[word];
    __syncthreads();
    int place = threadIdx.x % WORDS;
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) place = chain[place];
    out[blockIdx.x * blockDim.x + threadIdx.x] = place;
}
