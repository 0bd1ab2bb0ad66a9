// CRC-32 as zlib counts it, sixteen bytes at a time by carry-less multiplication.
//
// V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction", Intel, 2009. A CRC is the remainder, by P of degree 32, of the bytes as a
// polynomial over GF(2), in which what d bits follow counts times x^d. So 128 bits may
// be taken away if the same remainder is added to the 128 bits that stand d bits on:
// their upper half times (x^(d + 64) mod P) and their lower half times (x^d mod P), of
// degree 94 at most. In the end 128 bits have the remainder of all, and a table of bytes
// takes it from there.
//
// Bits are reflected: the first bit of a file, the lowest of its byte, is the highest
// power. A word of 32 bits has x^0 as its highest bit.

#include <array>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr uint32_t kPolynomial = 0xEDB88320;  // P without x^32, reflected.

constexpr uint32_t times_x(uint32_t word) {
    return word >> 1 ^ (word & 1 ? kPolynomial : 0);
}

constexpr std::array<uint32_t, 256> table_of_bytes() {
    std::array<uint32_t, 256> table{};
    for (uint32_t byte = 0; byte < table.size(); ++byte) {
        uint32_t word = byte;
        for (int bit = 0; bit < 8; ++bit) word = times_x(word);
        table[byte] = word;
    }
    return table;
}

constexpr std::array<uint32_t, 256> kTable = table_of_bytes();

// These go on with the register of a CRC, which is the complement of its value.
uint32_t by_bytes(uint32_t crc, const unsigned char* data, int64_t size) {
    for (; size > 0; --size) crc = crc >> 8 ^ kTable[(crc ^ *data++) & 0xFF];
    return crc;
}

#if defined(__x86_64__)

#define DLRM_FOLDS __attribute__((target("pclmul,sse4.1")))

constexpr int64_t kWord = sizeof(__m128i);
constexpr int64_t kLanes = 4;  // As many products as hide how long one takes.

// x^power mod P as a factor: a polynomial of degree under 64 in a reflected word.
constexpr int64_t factor(int power) {
    uint32_t word = 1u << 31;
    for (; power > 0; --power) word = times_x(word);
    return static_cast<int64_t>(static_cast<uint64_t>(word) << 32);
}

// The factors that move 128 bits on by some bits. The product of two reflected words of
// 64 bits lies one bit too low in 128, which is once more times x: hence one power less.
template <int kBits>
DLRM_FOLDS inline __m128i factors() {
    constexpr int64_t upper = factor(kBits + 64 - 1), lower = factor(kBits - 1);
    return _mm_set_epi64x(lower, upper);  // The first bytes are the upper half.
}

DLRM_FOLDS inline __m128i folded(__m128i word, __m128i by, __m128i onto) {
    const __m128i upper = _mm_clmulepi64_si128(word, by, 0x00);
    const __m128i lower = _mm_clmulepi64_si128(word, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(upper, lower), onto);
}

DLRM_FOLDS inline __m128i word_at(const unsigned char* data) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
}

DLRM_FOLDS uint32_t by_folds(uint32_t crc, const unsigned char* data, int64_t size) {
    if (size < kLanes * kWord) return by_bytes(crc, data, size);
    const unsigned char* const stop = data + size;
    __m128i lanes[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
        lanes[lane] = word_at(data + lane * kWord);
    }
    lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(static_cast<int>(crc)));
    data += kLanes * kWord;
    const __m128i far = factors<8 * kLanes * kWord>(), near = factors<8 * kWord>();
    for (; stop - data >= kLanes * kWord; data += kLanes * kWord) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
            lanes[lane] = folded(lanes[lane], far, word_at(data + lane * kWord));
        }
    }
    __m128i rest = lanes[0];
    for (int64_t lane = 1; lane < kLanes; ++lane) rest = folded(rest, near, lanes[lane]);
    for (; stop - data >= kWord; data += kWord) rest = folded(rest, near, word_at(data));
    unsigned char bytes[kWord];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), rest);
    return by_bytes(by_bytes(0, bytes, kWord), data, stop - data);
}

#endif

}  // namespace

extern "C" {

// Says whether `dlrm_crc32` is of use: elsewhere zlib's tables are faster than this one.
int32_t dlrm_crc32_is_fast() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#else
    return 0;
#endif
}

// Continues a CRC over more bytes; only for who was told that it is of use.
uint32_t dlrm_crc32(uint32_t value, const unsigned char* data, int64_t size) {
#if defined(__x86_64__)
    return ~by_folds(~value, data, size);
#else
    return ~by_bytes(~value, data, size);
#endif
}

}  // extern "C"
