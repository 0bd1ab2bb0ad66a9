// Delimited text to columns: numbers, and texts as codes with a dictionary.
//
// Only what is plain is read: no quotes, every row of as many fields, numbers as
// decimal digits spell them. For anything else the answer is a refusal, and the caller
// takes a slower parser that says what is wrong.

#include "text_columns.h"
#include "texts.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace {

using namespace dlrm_text;

struct Cell {
    const Byte* start;
    uint32_t size;
};

constexpr int64_t kRowsAtOnce = 1024;  // Columns' tables stay in cache meanwhile.
constexpr int64_t kStep = 64;

// Where one of two bytes stands among 64; `high` gathers the top bits.
inline uint64_t places_of(const Byte* at, Byte one, Byte other, bool& high) {
#if defined(__SSE2__)
    const __m128i ones = _mm_set1_epi8(static_cast<char>(one));
    const __m128i others = _mm_set1_epi8(static_cast<char>(other));
    uint64_t mask = 0;
    uint32_t tops = 0;
    for (int part = 0; part < 4; ++part) {
        const __m128i bytes =
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * part));
        const __m128i hits =
            _mm_or_si128(_mm_cmpeq_epi8(bytes, ones), _mm_cmpeq_epi8(bytes, others));
        tops |= static_cast<uint32_t>(_mm_movemask_epi8(bytes));
        mask |= static_cast<uint64_t>(static_cast<uint32_t>(_mm_movemask_epi8(hits)))
                << (16 * part);
    }
    high |= tops != 0;
    return mask;
#else
    uint64_t mask = 0;
    Byte tops = 0;
    for (int place = 0; place < kStep; ++place) {
        const bool hit = at[place] == one || at[place] == other;
        mask |= static_cast<uint64_t>(hit) << place;
        tops |= at[place];
    }
    high |= (tops & 0x80) != 0;
    return mask;
#endif
}

// Calls `visit` with the places of 64 bytes at a time, and where those start.
template <typename Visit>
bool over_places(const Byte* data, int64_t size, Byte one, Byte other, bool& high,
                 Visit visit) {
    for (int64_t start = 0; start < size; start += kStep) {
        Byte tail[kStep] = {};  // Neither byte is ever zero.
        const Byte* at = data + start;
        if (size - start < kStep) {
            std::memcpy(tail, at, static_cast<size_t>(size - start));
            at = tail;
        }
        if (!visit(places_of(at, one, other, high), start)) return false;
    }
    return true;
}

// Whole numbers of up to 15 digits and decimals of as many are exact in a double, and
// so is one division by a power of ten up to 22 (Clinger, "How to read floating point
// numbers accurately", 1990). The rest is for the library.
constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
constexpr uint32_t kExactDigits = 15;

bool slow_number(Cell cell, double& number) {
    for (uint32_t place = 0; place < cell.size; ++place) {
        const Byte byte = cell.start[place];
        const bool plain = (byte >= '0' && byte <= '9') || byte == '.' || byte == '-' ||
                           byte == '+' || byte == 'e' || byte == 'E';
        if (!plain) return false;
    }
    const char* first = reinterpret_cast<const char*>(cell.start);
    const auto found = std::from_chars(first, first + cell.size, number);
    return found.ec == std::errc() && found.ptr == first + cell.size &&
           std::isfinite(number);
}

bool number_of(Cell cell, double& number) {
    if (cell.size == 0) {
        number = std::nan("");
        return true;
    }
    const bool negative = cell.start[0] == '-';
    const uint32_t first = negative ? 1 : 0;
    if (cell.size - first == 0 || cell.size - first > kExactDigits + 1) {
        return slow_number(cell, number);
    }
    uint64_t whole = 0;
    uint32_t digits = 0, behind = 0;
    bool has_point = false;
    for (uint32_t place = first; place < cell.size; ++place) {
        const Byte byte = cell.start[place];
        const uint32_t digit = static_cast<uint32_t>(byte) - '0';
        if (digit < 10) {
            whole = whole * 10 + digit;
            ++digits;
            behind += has_point;
        } else if (byte == '.' && !has_point) {
            has_point = true;
        } else {
            return slow_number(cell, number);
        }
    }
    if (digits == 0 || digits > kExactDigits) return slow_number(cell, number);
    const double size = static_cast<double>(whole) / kPowers[behind];
    number = negative ? -size : size;
    return true;
}

// Texts of one column by number, in order of first use.
class Dictionary {
public:
    Dictionary() : slots_(kFirstSlots) {}

    void codes_of(const Cell* cells, int64_t count, const Byte* stop, int32_t* codes) {
        uint64_t keys[kRowsAtOnce], hashes[kRowsAtOnce];
        // At most `count` more: no table grows between a hash and its use.
        while (2 * (texts_.size() + static_cast<size_t>(count)) > slots_.size()) grow(slots_);
        for (int64_t row = 0; row < count; ++row) {
            keys[row] = key_of(cells[row].start, cells[row].size, stop);
            hashes[row] = mixed(keys[row], cells[row].size);
            __builtin_prefetch(&slots_[hashes[row] & (slots_.size() - 1)]);
        }
        for (int64_t row = 0; row < count; ++row) {
            codes[row] = code_of(cells[row], keys[row], hashes[row]);
        }
    }

    const std::vector<Cell>& texts() const { return texts_; }

private:
    static constexpr size_t kFirstSlots = 4096;

    int32_t code_of(Cell cell, uint64_t key, uint64_t hash) {
        const size_t mask = slots_.size() - 1;
        for (size_t place = hash & mask;; place = (place + 1) & mask) {
            Slot& slot = slots_[place];
            if (slot.code == kEmpty) {
                slot = {key, cell.size, static_cast<int32_t>(texts_.size())};
                texts_.push_back(cell);
                return slot.code;
            }
            if (slot.key == key && slot.size == cell.size &&
                (cell.size <= 8 || same(texts_[slot.code], cell))) {
                return slot.code;
            }
        }
    }

    static bool same(Cell one, Cell other) {
        return std::memcmp(one.start, other.start, one.size) == 0;
    }

    std::vector<Slot> slots_;
    std::vector<Cell> texts_;
};

struct Columns {
    std::vector<std::unique_ptr<Dictionary>> dictionaries;
};

class Reader {
public:
    Reader(const DlrmText& text, const DlrmColumn* columns, int32_t num_columns,
           Columns& found)
        : text_(text), stop_(text.data + text.size), columns_(columns),
          num_columns_(num_columns), found_(found),
          slot_of_field_(text.num_fields, -1),
          cells_(static_cast<size_t>(num_columns) * kRowsAtOnce) {
        found.dictionaries.resize(num_columns);
        for (int32_t column = 0; column < num_columns; ++column) {
            slot_of_field_[columns[column].field] = column;
            if (columns[column].codes != nullptr) {
                found.dictionaries[column] = std::make_unique<Dictionary>();
            }
        }
    }

    int32_t read(bool& has_high_bytes) {
        const Byte* field = text_.data;
        int32_t number = 0;
        auto visit = [&](uint64_t mask, int64_t start) {
            for (; mask != 0; mask &= mask - 1) {
                const Byte* border = text_.data + start + __builtin_ctzll(mask);
                if (number >= text_.num_fields) return refuse(DLRM_TEXT_FIELDS);
                const bool is_end = *border == '\n';
                const int32_t slot = slot_of_field_[number];
                if (slot >= 0) take(slot, field, border, is_end);
                ++number;
                field = border + 1;
                if (!is_end) continue;
                if (number != text_.num_fields) return refuse(DLRM_TEXT_FIELDS);
                number = 0;
                if (++waiting_ == kRowsAtOnce && !convert()) return false;
            }
            return true;
        };
        bool high = false;
        if (!over_places(text_.data, text_.size, text_.separator, '\n', high, visit)) {
            return refusal_;
        }
        if (number != 0 || field != stop_) return DLRM_TEXT_FIELDS;
        if (!convert()) return refusal_;
        has_high_bytes = high;
        return done_ == text_.num_rows ? DLRM_TEXT_READ : DLRM_TEXT_ROWS;
    }

private:
    void take(int32_t slot, const Byte* first, const Byte* last, bool is_end) {
        // Where carriage returns stand at all, they stand before line ends.
        if (is_end && last > first && last[-1] == '\r') --last;
        cells_[slot * kRowsAtOnce + waiting_] = {first, static_cast<uint32_t>(last - first)};
    }

    bool convert() {
        if (done_ + waiting_ > text_.num_rows) return refuse(DLRM_TEXT_ROWS);
        for (int32_t column = 0; column < num_columns_; ++column) {
            const Cell* cells = &cells_[static_cast<size_t>(column) * kRowsAtOnce];
            if (columns_[column].codes != nullptr) {
                found_.dictionaries[column]->codes_of(cells, waiting_, stop_,
                                                      columns_[column].codes + done_);
                continue;
            }
            double* numbers = columns_[column].numbers + done_;
            for (int64_t row = 0; row < waiting_; ++row) {
                if (number_of(cells[row], numbers[row])) continue;
                if (!is_null(cells[row])) return refuse(DLRM_TEXT_NUMBER);
                numbers[row] = std::nan("");
            }
        }
        done_ += waiting_;
        waiting_ = 0;
        return true;
    }

    bool refuse(int32_t answer) {
        refusal_ = answer;
        return false;
    }

    bool is_null(Cell cell) const {
        for (int32_t null = 0; null < text_.num_nulls; ++null) {
            const int32_t first = text_.null_offsets[null];
            const uint32_t size =
                static_cast<uint32_t>(text_.null_offsets[null + 1] - first);
            if (size == cell.size &&
                std::memcmp(text_.nulls + first, cell.start, size) == 0) {
                return true;
            }
        }
        return false;
    }

    const DlrmText& text_;
    const Byte* stop_;
    const DlrmColumn* columns_;
    int32_t num_columns_;
    Columns& found_;
    std::vector<int32_t> slot_of_field_;
    std::vector<Cell> cells_;
    int64_t waiting_ = 0;
    int64_t done_ = 0;
    int32_t refusal_ = DLRM_TEXT_READ;
};

}  // namespace

extern "C" {

int32_t dlrm_text_interface() { return DLRM_TEXT_INTERFACE; }

int32_t dlrm_text_read(const DlrmText* text, const DlrmColumn* columns,
                       int32_t num_columns, int32_t* has_high_bytes, void** found) {
    *found = nullptr;
    try {
        auto result = std::make_unique<Columns>();
        bool high = false;
        const int32_t answer =
            Reader(*text, columns, num_columns, *result).read(high);
        *has_high_bytes = high;
        *found = result.release();
        return answer;
    } catch (const std::exception&) {
        return DLRM_TEXT_MEMORY;
    }
}

void dlrm_text_sizes(const void* found, int32_t column, int64_t* num_texts,
                     int64_t* num_bytes) {
    const auto& texts = static_cast<const Columns*>(found)->dictionaries[column]->texts();
    *num_texts = static_cast<int64_t>(texts.size());
    *num_bytes = 0;
    for (const Cell& text : texts) *num_bytes += text.size;
}

void dlrm_text_copy(const void* found, int32_t column, int32_t* offsets,
                    unsigned char* bytes) {
    const auto& texts = static_cast<const Columns*>(found)->dictionaries[column]->texts();
    int32_t done = 0;
    for (const Cell& text : texts) {
        *offsets++ = done;
        std::memcpy(bytes + done, text.start, text.size);
        done += static_cast<int32_t>(text.size);
    }
    *offsets = done;
}

int64_t dlrm_text_lines(const unsigned char* data, int64_t size, int32_t* has_blank) {
    int64_t count = 0;
    uint64_t before = 1, blank = 0;  // A line starts where the text does.
    bool high = false;
    over_places(data, size, '\n', '\n', high, [&](uint64_t mask, int64_t) {
        count += __builtin_popcountll(mask);
        blank |= mask & (mask << 1 | before);
        before = mask >> 63;
        return true;
    });
    *has_blank = blank != 0;
    return count;
}

void dlrm_text_free(void* found) { delete static_cast<Columns*>(found); }

}  // extern "C"
