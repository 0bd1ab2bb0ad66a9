// Hashes of texts, and dictionaries in their order.

#include <algorithm>
#include <array>
#include <exception>
#include <numeric>

#include "texts.h"

namespace {

using namespace dlrm_text;

constexpr int32_t kBuckets = 256;
constexpr int32_t kLongest = 256;  // Longer texts have a hash that is not here.

uint64_t hash_of(const Byte* at, int64_t size, const Byte* stop) {
    uint64_t hash = splitmix64(static_cast<uint64_t>(size));
    for (int64_t left = size; left > 0; left -= 8, at += 8) {
        const auto part = static_cast<uint32_t>(left < 8 ? left : 8);
        hash = splitmix64(hash ^ word_at(at, part, stop));
    }
    return hash;
}

}  // namespace

extern "C" {

void dlrm_text_hash(const int64_t* offsets, const unsigned char* bytes, int64_t count,
                    uint64_t* hashes) {
    const Byte* stop = bytes + offsets[count];
    for (int64_t text = 0; text < count; ++text) {
        const int64_t first = offsets[text];
        hashes[text] = hash_of(bytes + first, offsets[text + 1] - first, stop);
    }
}

// Puts texts in the order of the first byte of their hashes, those of one byte as they
// came. `starts` says where each byte's begin; `codes` are rewritten to the new places.
int32_t dlrm_text_order(const int32_t* offsets, const unsigned char* bytes,
                        int64_t count, int32_t* codes, int64_t num_codes,
                        int32_t* starts, int32_t* new_offsets,
                        unsigned char* new_bytes) try {
    const Byte* stop = bytes + offsets[count];
    std::vector<Byte> buckets(static_cast<size_t>(count));
    std::array<int32_t, kBuckets + 1> sizes{};
    for (int64_t text = 0; text < count; ++text) {
        const int32_t first = offsets[text], size = offsets[text + 1] - first;
        if (size > kLongest) return 2;
        const uint64_t hash = hash_of(bytes + first, size, stop);
        buckets[text] = static_cast<Byte>(hash >> 56);
        ++sizes[buckets[text] + 1];
    }
    std::partial_sum(sizes.begin(), sizes.end(), starts);
    std::vector<int32_t> place(static_cast<size_t>(count)), old(place.size());
    std::copy(starts, starts + kBuckets, sizes.begin());
    for (int64_t text = 0; text < count; ++text) {
        place[text] = sizes[buckets[text]]++;
        old[place[text]] = static_cast<int32_t>(text);
    }
    int32_t done = 0;
    for (int64_t text = 0; text < count; ++text) {
        const int32_t first = offsets[old[text]];
        const int32_t size = offsets[old[text] + 1] - first;
        new_offsets[text] = done;
        std::memcpy(new_bytes + done, bytes + first, static_cast<size_t>(size));
        done += size;
    }
    new_offsets[count] = done;
    for (int64_t row = 0; row < num_codes; ++row) codes[row] = place[codes[row]];
    return 0;
} catch (const std::exception&) {
    return 1;
}

}  // extern "C"
