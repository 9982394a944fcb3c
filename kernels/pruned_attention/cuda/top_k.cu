// The tokens with the largest importance, exactly: a radix select finds the k-th value, 8 bits at a time, as SpAtten's
// quick-select does with pivots; then one pass keeps everything above it and the first of the equal ones, in order.
//
// One block per row of IMPORTANCE [rows, tokens]; KEPT [rows, kept] receives ascending indices. Counts are integers and
// places come from prefix sums, so the result does not depend on timing. No value may be NaN.

#define THREADS 512
#define WARPS (THREADS / 32)
#define DIGITS 256
#define ALL_LANES 0xffffffffu

// Unsigned integers in the order of the values; -0 is 0.
__device__ unsigned ordered(float value) {
    int bits = __float_as_int(value + 0.0f);
    return bits < 0 ? ~(unsigned)bits : (unsigned)bits | 0x80000000u;
}

// How many lanes of the warp below this one say yes; `total`: of all lanes.
__device__ int rank_in_warp(bool yes, int* total) {
    unsigned mask = __ballot_sync(ALL_LANES, yes);
    *total = __popc(mask);
    return __popc(mask & ((1u << threadIdx.x % 32) - 1));
}

// How many threads of the block below this one say yes; `total`: of all threads. Every thread must call it.
__device__ int rank_in_block(bool yes, int* total) {
    __shared__ int counts[WARPS];
    int in_warp, rank = rank_in_warp(yes, &in_warp);
    if (threadIdx.x % 32 == 0) counts[threadIdx.x / 32] = in_warp;
    __syncthreads();
    *total = 0;
    for (int warp = 0; warp < WARPS; ++warp) {
        if (warp < threadIdx.x / 32) rank += counts[warp];
        *total += counts[warp];
    }
    __syncthreads();  // before the next call overwrites the counts
    return rank;
}

// How many tokens have each digit (8 bits from `shift`), among those that agree with `prefix` above it.
__device__ void count_digits(int* counts, const float* row, int tokens, unsigned prefix, int shift) {
    for (int digit = threadIdx.x; digit < DIGITS; digit += THREADS) counts[digit] = 0;
    __syncthreads();
    for (int first = 0; first < tokens; first += THREADS) {
        int token = first + threadIdx.x;
        unsigned key = token < tokens ? ordered(row[token]) : 0;
        bool counted = token < tokens && (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8));
        unsigned digit = counted ? key >> shift & (DIGITS - 1) : DIGITS;
        unsigned same = __match_any_sync(ALL_LANES, digit);  // one addition for all lanes with this digit
        if (counted && __ffs(same) - 1 == threadIdx.x % 32) atomicAdd(&counts[digit], __popc(same));
    }
    __syncthreads();
}

// The digit of the k-th largest key, and how many keys with larger digits there are: the first warp looks for them.
__device__ void find_digit(const int* counts, int k, int* digit, int* above) {
    if (threadIdx.x >= 32) return;
    const int OWN = DIGITS / 32;
    int lane = threadIdx.x, highest = DIGITS - 1 - lane * OWN, own = 0;
    for (int i = 0; i < OWN; ++i) own += counts[highest - i];
    int up_to_here = own;
    for (int distance = 1; distance < 32; distance *= 2) {
        int before = __shfl_up_sync(ALL_LANES, up_to_here, distance);
        if (lane >= distance) up_to_here += before;
    }
    int larger = up_to_here - own;
    if (larger >= k || up_to_here < k) return;
    int i = 0;
    while (larger + counts[highest - i] < k) larger += counts[highest - i++];
    *digit = highest - i;
    *above = larger;
}

extern "C" __global__ void __launch_bounds__(THREADS) top_k(const float* IMPORTANCE, int* KEPT, int tokens, int kept) {
    __shared__ int counts[DIGITS], digit, above;
    const float* row = IMPORTANCE + (long long)blockIdx.x * tokens;
    KEPT += (long long)blockIdx.x * kept;
    unsigned kth = 0;
    int ties = kept;  // of the keys that agree with the k-th so far, how many stay
    for (int shift = 24; shift >= 0; shift -= 8) {
        count_digits(counts, row, tokens, kth, shift);
        find_digit(counts, ties, &digit, &above);
        __syncthreads();
        kth |= (unsigned)digit << shift;
        ties -= above;
    }
    int written = 0, equal = 0;
    for (int first = 0; first < tokens; first += THREADS) {
        int token = first + threadIdx.x, all_equal, all_staying;
        unsigned key = token < tokens ? ordered(row[token]) : 0;
        bool same = token < tokens && key == kth;
        int before = equal + rank_in_block(same, &all_equal);
        bool stays = token < tokens && (key > kth || (same && before < ties));
        int slot = written + rank_in_block(stays, &all_staying);
        if (stays) KEPT[slot] = token;
        written += all_staying;
        equal += all_equal;
    }
}
