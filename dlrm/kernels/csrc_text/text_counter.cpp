// Distinct texts and how often each occurs, in order of first use.

#include <exception>
#include <memory>

#include "texts.h"

namespace {

using namespace dlrm_text;

constexpr int64_t kTextsAtOnce = 1024;

class Counter {
public:
    Counter() : slots_(4096), offsets_(1, 0) {}

    void add(const int64_t* offsets, const Byte* bytes, int64_t count,
             const int64_t* counts, int32_t* numbers) {
        const Byte* stop = bytes + offsets[count];
        for (int64_t start = 0; start < count; start += kTextsAtOnce) {
            const int64_t size = count - start < kTextsAtOnce ? count - start : kTextsAtOnce;
            add_some(offsets + start, bytes, stop, size, counts + start, numbers + start);
        }
    }

    int64_t num_texts() const { return static_cast<int64_t>(counts_.size()); }
    int64_t num_bytes() const { return static_cast<int64_t>(bytes_.size()); }

    void copy(int64_t* offsets, Byte* bytes, int64_t* counts) const {
        std::memcpy(offsets, offsets_.data(), offsets_.size() * sizeof(int64_t));
        if (!bytes_.empty()) std::memcpy(bytes, bytes_.data(), bytes_.size());
        if (!counts_.empty()) {
            std::memcpy(counts, counts_.data(), counts_.size() * sizeof(int64_t));
        }
    }

private:
    void add_some(const int64_t* offsets, const Byte* bytes, const Byte* stop,
                  int64_t count, const int64_t* counts, int32_t* numbers) {
        uint64_t keys[kTextsAtOnce], hashes[kTextsAtOnce];
        while (3 * (counts_.size() + static_cast<size_t>(count)) > 2 * slots_.size()) {
            grow(slots_);
        }
        for (int64_t text = 0; text < count; ++text) {
            const auto size = static_cast<uint32_t>(offsets[text + 1] - offsets[text]);
            keys[text] = key_of(bytes + offsets[text], size, stop);
            hashes[text] = mixed(keys[text], size);
            __builtin_prefetch(&slots_[hashes[text] & (slots_.size() - 1)]);
        }
        for (int64_t text = 0; text < count; ++text) {
            const Byte* start = bytes + offsets[text];
            const auto size = static_cast<uint32_t>(offsets[text + 1] - offsets[text]);
            numbers[text] = number_of(start, size, keys[text], hashes[text]);
            counts_[numbers[text]] += counts[text];
        }
    }

    int32_t number_of(const Byte* start, uint32_t size, uint64_t key, uint64_t hash) {
        const size_t mask = slots_.size() - 1;
        for (size_t place = hash & mask;; place = (place + 1) & mask) {
            Slot& slot = slots_[place];
            if (slot.code == kEmpty) {
                slot = {key, size, static_cast<int32_t>(counts_.size())};
                bytes_.insert(bytes_.end(), start, start + size);
                offsets_.push_back(static_cast<int64_t>(bytes_.size()));
                counts_.push_back(0);
                return slot.code;
            }
            if (slot.key == key && slot.size == size &&
                (size <= 8 || std::memcmp(&bytes_[offsets_[slot.code]], start, size) == 0)) {
                return slot.code;
            }
        }
    }

    std::vector<Slot> slots_;
    std::vector<int64_t> offsets_;
    std::vector<Byte> bytes_;
    std::vector<int64_t> counts_;
};

}  // namespace

extern "C" {

void* dlrm_counter_new() try {
    return std::make_unique<Counter>().release();
} catch (const std::exception&) {
    return nullptr;
}

int32_t dlrm_counter_add(void* counter, const int64_t* offsets,
                         const unsigned char* bytes, int64_t count,
                         const int64_t* counts, int32_t* numbers) try {
    static_cast<Counter*>(counter)->add(offsets, bytes, count, counts, numbers);
    return 0;
} catch (const std::exception&) {
    return 1;
}

void dlrm_counter_sizes(const void* counter, int64_t* num_texts, int64_t* num_bytes) {
    *num_texts = static_cast<const Counter*>(counter)->num_texts();
    *num_bytes = static_cast<const Counter*>(counter)->num_bytes();
}

void dlrm_counter_copy(const void* counter, int64_t* offsets, unsigned char* bytes,
                       int64_t* counts) {
    static_cast<const Counter*>(counter)->copy(offsets, bytes, counts);
}

void dlrm_counter_free(void* counter) { delete static_cast<Counter*>(counter); }

}  // extern "C"
