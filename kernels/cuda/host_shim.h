// Runs CUDA C++ on a CPU, for tests: every thread of a block is a fiber, one block at a time, fibers in turn.
//
// A fiber runs until a barrier or an instruction of its whole warp; the last one to arrive does the instruction for all
// lanes. Every second block starts its fibers from the last thread, so that a missing barrier shows in one of the two.
// What instructions.cuh names is in host_instructions.h. Not modelled: caches, memory order, divergence within a warp.

#define HOST_SHIM

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define DEVICE inline

using std::max;
using std::min;

struct Dim {
    unsigned x, y, z;
};
static Dim gridDim, blockDim, blockIdx, threadIdx;

namespace shim {

constexpr int LANES = 32, STACK_BYTES = 1 << 16, SLOT_BYTES = 64;

struct Meeting {  // threads that wait for each other; `turn` counts the times that all have arrived
    int expected = 0, arrived = 0, turn = 0;
};
struct Warp : Meeting {
    alignas(16) char in[LANES][SLOT_BYTES], out[LANES][SLOT_BYTES];
};
struct Copy {
    void* to;
    const void* from;
    int bytes;
};
struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    std::vector<Copy> copies;
    const Meeting* waits_for = nullptr;
    int since = 0;
    bool ended = false;
};

static ucontext_t scheduler;
static std::vector<Fiber> fibers;
static std::vector<Warp> warps;
static Meeting block;
static void (*body)(void**);
static void** arguments;

inline Fiber& self() { return fibers[threadIdx.x]; }
inline Warp& warp() { return warps[threadIdx.x / LANES]; }

inline void all_here(Meeting& meeting) {
    meeting.arrived = 0;
    ++meeting.turn;
}

// `last`: what the last one to arrive does before the others go on.
template <class Last>
void meet(Meeting& meeting, Last last) {
    if (++meeting.arrived == meeting.expected) {
        last();
        all_here(meeting);
        return;
    }
    Fiber& fiber = self();
    fiber.waits_for = &meeting;
    fiber.since = meeting.turn;
    swapcontext(&fiber.context, &scheduler);
}

// An instruction of the whole warp: all lanes' `in` -> all lanes' results.
template <class Out, class In, class Instruction>
Out of_warp(const In& in, Instruction instruction) {
    static_assert(sizeof(In) <= SLOT_BYTES && sizeof(Out) <= SLOT_BYTES);
    Warp& all = warp();
    int lane = threadIdx.x % LANES;
    std::memcpy(all.in[lane], &in, sizeof(In));
    meet(all, [&] {
        In given[LANES] = {};
        for (int i = 0; i < all.expected; ++i) std::memcpy(&given[i], all.in[i], sizeof(In));
        for (int i = 0; i < all.expected; ++i) {
            Out result = instruction(given, i);
            std::memcpy(all.out[i], &result, sizeof(Out));
        }
    });
    Out result;
    std::memcpy(&result, all.out[lane], sizeof(Out));
    return result;
}

inline void leave(Meeting& meeting) {
    if (--meeting.expected > 0 && meeting.arrived == meeting.expected) all_here(meeting);
}

inline void run_fiber() {
    body(arguments);
    self().ended = true;
    leave(block);
}

inline bool can_run(const Fiber& fiber) {
    return !fiber.ended && !(fiber.waits_for && fiber.waits_for->turn == fiber.since);
}

// False if threads are left that wait for others which never arrive.
inline bool run_block(bool backwards) {
    int threads = blockDim.x;
    block = Meeting{threads};
    for (int w = 0; w < (int)warps.size(); ++w)
        static_cast<Meeting&>(warps[w]) = Meeting{min(LANES, threads - w * LANES)};
    for (Fiber& fiber : fibers) {
        fiber.ended = false;
        fiber.waits_for = nullptr;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK_BYTES;
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < threads; ++i) {
            unsigned thread = backwards ? threads - 1 - i : i;
            if (!can_run(fibers[thread])) continue;
            threadIdx = {thread, 0, 0};
            any = true;
            swapcontext(&scheduler, &fibers[thread].context);
        }
    }
    return std::all_of(fibers.begin(), fibers.end(), [](const Fiber& fiber) { return fiber.ended; });
}

template <class... Parameters, size_t... I>
void call(void (*kernel)(Parameters...), void** given, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<Parameters>*>(given[I])...);
}

// 0: done; 1: threads of a block wait for each other in vain.
inline int launch(void (*kernel)(void**), void** given, Dim grid, unsigned threads) {
    gridDim = grid;
    blockDim = {threads, 1, 1};
    body = kernel;
    arguments = given;
    fibers = std::vector<Fiber>(threads);
    warps = std::vector<Warp>((threads + LANES - 1) / LANES);
    for (unsigned number = 0; number < grid.x * grid.y * grid.z; ++number) {
        blockIdx = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
        if (!run_block(number % 2)) return 1;
    }
    return 0;
}

template <class... Parameters>
constexpr size_t count(void (*)(Parameters...)) {
    return sizeof...(Parameters);
}

inline float as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline unsigned as_bits(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

}  // namespace shim

inline void __syncthreads() {
    shim::meet(shim::block, [] {});
}
inline void __syncwarp() {
    shim::meet(shim::warp(), [] {});
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return shim::of_warp<T>(value, [mask](const T* all, int lane) { return all[lane ^ mask]; });
}
template <class T>
T __shfl_up_sync(unsigned, T value, int distance) {
    return shim::of_warp<T>(value, [=](const T* all, int lane) { return all[lane - (lane < distance ? 0 : distance)]; });
}
inline unsigned __ballot_sync(unsigned, bool yes) {
    return shim::of_warp<unsigned>(yes, [](const bool* all, int) {
        unsigned mask = 0;
        for (int i = 0; i < shim::LANES; ++i) mask |= unsigned(all[i]) << i;
        return mask;
    });
}
inline unsigned __match_any_sync(unsigned, unsigned value) {
    int lanes = shim::warp().expected;
    return shim::of_warp<unsigned>(value, [lanes](const unsigned* all, int lane) {
        unsigned mask = 0;
        for (int i = 0; i < lanes; ++i) mask |= unsigned(all[i] == all[lane]) << i;
        return mask;
    });
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(bits); }
inline float __int_as_float(int bits) { return shim::as_float(bits); }
inline int __float_as_int(float value) { return shim::as_bits(value); }
template <class T>
T atomicAdd(T* to, T value) {
    T before = *to;
    *to += value;
    return before;
}

// What a test calls: pointers to the arguments, blocks, threads of a block.
#define HOST_ENTRY(kernel)                                                                                        \
    extern "C" int host_##kernel(void** given, unsigned x, unsigned y, unsigned z, unsigned threads) {            \
        auto once = [](void** each) { shim::call(kernel, each, std::make_index_sequence<shim::count(kernel)>{}); }; \
        return shim::launch(once, given, {x, y, z}, threads);                                                     \
    }
