// Instructions that CUDA C++ has no names for, as inline PTX; host_instructions.h has the same names for a CPU.

#ifdef HOST_SHIM
#include "host_instructions.h"
#else

#define DEVICE __device__ __forceinline__

DEVICE float exp2_approximate(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

// 16-bit types. `product`: c (16 x 8) += a (16 x 16) * b (16 x 8). `pair`: two float32, rounded to nearest even.
struct Fp16 {
    static DEVICE void product(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    static DEVICE unsigned pair(float low, float high) {
        unsigned result;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
        return result;
    }
};

struct Bf16 {
    static DEVICE void product(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    static DEVICE unsigned pair(float low, float high) {
        unsigned result;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
        return result;
    }
};

// Four 8 x 8 matrices of 16-bit elements from shared memory; lane i gives the row i % 8 of matrix i / 8.
DEVICE void load_matrices(unsigned (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row)));
}

DEVICE void load_matrices_transposed(unsigned (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row)));
}

// One word, or four that lie together, of shared memory: a load that no compiler leaves out or joins to another.
DEVICE float shared_word(const float* from) {
    float word;
    asm volatile("ld.volatile.shared.f32 %0, [%1];" : "=f"(word) : "r"((unsigned)__cvta_generic_to_shared(from)));
    return word;
}
DEVICE float4 shared_words(const float* from) {
    float4 words;
    asm volatile("ld.volatile.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(words.x), "=f"(words.y), "=f"(words.z), "=f"(words.w)
                 : "r"((unsigned)__cvta_generic_to_shared(from)));
    return words;
}

// 16 bytes of shared memory, zeros after the first `bytes` of the source. Done after copies_done().
DEVICE void copy_async(void* to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
}

DEVICE void copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#endif
