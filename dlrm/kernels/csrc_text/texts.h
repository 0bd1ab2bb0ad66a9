// Texts as bytes: their hashes, and tables that find them.

#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace dlrm_text {

using Byte = unsigned char;

constexpr int32_t kEmpty = -1;

// The hash of dlrm/data/transforms/hashing.py for texts of at most 256 bytes.
inline uint64_t splitmix64(uint64_t number) {
    uint64_t mixed = number + 0x9E3779B97F4A7C15ull;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBull;
    return mixed ^ (mixed >> 31);
}

// Secret, so that nobody can write a file whose texts all fall into one place. What
// comes out is in order of first use, whatever the secret.
inline uint64_t secret() {
    static const uint64_t value = [] {
        std::random_device source;
        return (static_cast<uint64_t>(source()) << 32 | source()) | 1;
    }();
    return value;
}

inline uint64_t mixed(uint64_t left, uint64_t right) {
    const unsigned __int128 product =
        static_cast<unsigned __int128>(left ^ secret()) * (right ^ 0x9E3779B97F4A7C15ull);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t word_at(const Byte* at, uint32_t size, const Byte* stop) {
    uint64_t word = 0;
    if (stop - at >= 8) {
        std::memcpy(&word, at, 8);
        return size >= 8 ? word : word & ((1ull << (8 * size)) - 1);
    }
    std::memcpy(&word, at, size < 8 ? size : 8);
    return word;
}

// A text of up to 8 bytes is its own key; of a longer one it is a hash.
inline uint64_t key_of(const Byte* start, uint32_t size, const Byte* stop) {
    uint64_t key = word_at(start, size, stop);
    for (uint32_t place = 8; place < size; place += 8) {
        key = mixed(key, word_at(start + place, size - place, stop));
    }
    return key;
}

// A place of a table with a power of two of them; texts that meet move on by one.
struct Slot {
    uint64_t key = 0;
    uint32_t size = 0;
    int32_t code = kEmpty;
};

inline void grow(std::vector<Slot>& slots) {
    std::vector<Slot> old(slots.size() * 2);
    old.swap(slots);
    const size_t mask = slots.size() - 1;
    for (const Slot& slot : old) {
        if (slot.code == kEmpty) continue;
        size_t place = mixed(slot.key, slot.size) & mask;
        while (slots[place].code != kEmpty) place = (place + 1) & mask;
        slots[place] = slot;
    }
}

}  // namespace dlrm_text
