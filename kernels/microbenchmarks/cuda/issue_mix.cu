// Rates of the arithmetic pipes, alone and together: exact instruction sequences that no compiler may reorder away.
// One turn of each loop issues, per thread, CHAINS x (the instructions of the mix), on CHAINS independent registers.
// The host divides threads x turns x CHAINS by the time. `asm volatile` keeps the instructions and their number.

#define CHAINS 8

#ifdef HOST_SHIM
#define FMA(x, a, b) x = (x) * (a) + (b)
#define EX2(x) x = exp2f(x)
#else
#define FMA(x, a, b) asm volatile("fma.rn.f32 %0, %0, %1, %2;" : "+f"(x) : "f"(a), "f"(b))
#define EX2(x) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x))
#endif

#define LOAD(x) for (int c = 0; c < CHAINS; ++c) x[c] = in[(threadIdx.x + c) % CHAINS]
#define STORE(x) \
    float sum = 0.0f; \
    for (int c = 0; c < CHAINS; ++c) sum += x[c]; \
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum

extern "C" __global__ void fma_rate(const float* in, float* out, int turns, float a, float b) {
    float x[CHAINS];
    LOAD(x);
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int c = 0; c < CHAINS; ++c) FMA(x[c], a, b);
    }
    STORE(x);
}

extern "C" __global__ void exponential_rate(const float* in, float* out, int turns, float a, float b) {
    float x[CHAINS];
    LOAD(x);
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int c = 0; c < CHAINS; ++c) EX2(x[c]);
    }
    STORE(x);
}

// Four multiply-adds beside each exponential: the exponentials hide completely where the pipes work side by side.
extern "C" __global__ void fma_and_exponential_rate(const float* in, float* out, int turns, float a, float b) {
    float x[CHAINS], y[CHAINS];
    LOAD(x);
    LOAD(y);
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int c = 0; c < CHAINS; ++c) {
            EX2(x[c]);
            FMA(y[c], a, b);
            FMA(y[c], a, b);
            FMA(y[c], a, b);
            FMA(y[c], a, b);
        }
    }
    for (int c = 0; c < CHAINS; ++c) x[c] += y[c];
    STORE(x);
}
