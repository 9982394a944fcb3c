// The instructions of instructions.cuh on a CPU, for a whole warp at a time, with the fragments of the PTX ISA.
//
// Copies to shared memory happen when they are waited for, not before. Rows of matrices that lie in the same banks are
// counted. Not modelled: other bank conflicts, the rounding inside products and ex2.approx.

#include <cstdint>

namespace shim {

static int bank_conflicts;

// 16-bit types: values of bits, and bits of values rounded to nearest even.
inline float bf16_value(unsigned bits) { return as_float(bits << 16); }
inline unsigned bf16_bits(float value) {
    unsigned bits = as_bits(value);
    return std::isnan(value) ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline float fp16_value(unsigned bits) {
    unsigned exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                                : std::ldexp(float(exponent ? mantissa + 1024 : mantissa), max(int(exponent), 1) - 25);
    return bits & 0x8000 ? -size : size;
}
inline unsigned fp16_bits(float value) {
    unsigned sign = as_bits(value) >> 16 & 0x8000;
    float size = std::fabs(value);
    if (std::isnan(value)) return 0x7e00;
    if (size >= 65520.0f) return sign | 0x7c00;
    int exponent = max(size > 0 ? std::ilogb(size) : -14, -14);
    unsigned steps = unsigned(std::nearbyint(std::ldexp(size, 10 - exponent)));  // 1024 to 2048; below 1024: subnormal
    return sign | ((exponent + 14) * 1024 + steps);
}

// Fragments of m16n8k16 (PTX ISA): register r of a lane holds two neighbours of a row of A, or of a column of B.
template <float value(unsigned)>
void product(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    struct Operands {
        unsigned a[4], b[2];
        float c[4];
    } mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
    struct Result {
        float c[4];
    };
    auto half = [](unsigned word, int k) { return value(word >> k % 2 * 16 & 0xffff); };
    Result result = of_warp<Result>(mine, [half](const Operands* lanes, int lane) {
        Result found;
        for (int i = 0; i < 4; ++i) {
            int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            float sum = lanes[lane].c[i];
            for (int k = 0; k < 16; ++k)
                sum += half(lanes[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k) *
                       half(lanes[column * 4 + k % 8 / 2].b[k / 8], k);
            found.c[i] = sum;
        }
        return found;
    });
    std::memcpy(c, result.c, sizeof(c));
}

// The 8 rows of a matrix, of 16 bytes each, are loaded at once if they lie in different eighths of the 32 banks.
inline int conflicts(const void* const* rows) {
    int found = 0;
    for (int i = 0; i < LANES; i += 8) {
        unsigned used = 0;
        for (int r = i; r < i + 8; ++r) {
            unsigned eighth = 1u << reinterpret_cast<uintptr_t>(rows[r]) / 16 % 8;
            found += (used & eighth) != 0;
            used |= eighth;
        }
    }
    return found;
}

inline void load_matrices(unsigned (&to)[4], const void* row, bool transposed) {
    struct Words {
        unsigned of[4];
    };
    auto element = [](const void* from, int column) { return unsigned(((const unsigned short*)from)[column]); };
    Words words = of_warp<Words>(row, [=](const void* const* rows, int lane) {
        Words found;
        int r = lane / 4, c = lane % 4 * 2;
        if (lane == 0) bank_conflicts += conflicts(rows);
        for (int i = 0; i < 4; ++i)
            found.of[i] = transposed ? element(rows[8 * i + c], r) | element(rows[8 * i + c + 1], r) << 16
                                     : element(rows[8 * i + r], c) | element(rows[8 * i + r], c + 1) << 16;
        return found;
    });
    std::memcpy(to, words.of, sizeof(to));
}

}  // namespace shim

DEVICE float exp2_approximate(float x) { return exp2f(x); }
struct Fp16 {
    static constexpr auto product = shim::product<shim::fp16_value>;
    static unsigned pair(float low, float high) { return shim::fp16_bits(low) | shim::fp16_bits(high) << 16; }
};
struct Bf16 {
    static constexpr auto product = shim::product<shim::bf16_value>;
    static unsigned pair(float low, float high) { return shim::bf16_bits(low) | shim::bf16_bits(high) << 16; }
};
DEVICE void load_matrices(unsigned (&to)[4], const void* row) { shim::load_matrices(to, row, false); }
DEVICE void load_matrices_transposed(unsigned (&to)[4], const void* row) { shim::load_matrices(to, row, true); }
struct float4 {
    float x, y, z, w;
};
DEVICE float shared_word(const float* from) { return *from; }
DEVICE float4 shared_words(const float* from) { return {from[0], from[1], from[2], from[3]}; }
DEVICE void copy_async(void* to, const void* from, int bytes) { shim::self().copies.push_back({to, from, bytes}); }
DEVICE void copies_done() {
    for (const shim::Copy& copy : shim::self().copies) {
        std::memset(copy.to, 0, 16);
        std::memcpy(copy.to, copy.from, copy.bytes);
    }
    shim::self().copies.clear();
}

// Since the last call.
extern "C" int host_bank_conflicts() { return std::exchange(shim::bank_conflicts, 0); }
