// What Python calls by way of ctypes: dlrm/kernels/text_library.py says the same.

#pragma once

#include <cstdint>

constexpr int32_t DLRM_TEXT_INTERFACE = 3;

// Answers: read, or why not.
constexpr int32_t DLRM_TEXT_READ = 0;
constexpr int32_t DLRM_TEXT_FIELDS = 1;  // A row has more or fewer fields.
constexpr int32_t DLRM_TEXT_ROWS = 2;    // There are more or fewer rows.
constexpr int32_t DLRM_TEXT_NUMBER = 3;  // A number is spelled in another way.
constexpr int32_t DLRM_TEXT_MEMORY = 4;

struct DlrmText {
    const unsigned char* data;  // Whole rows: the last byte is a line end.
    int64_t size;
    int64_t num_rows;
    int32_t num_fields;  // Of every row.
    int32_t num_nulls;
    const unsigned char* nulls;    // Texts that stand for a missing number, too,
    const int32_t* null_offsets;   // and where each begins: num_nulls + 1 of them.
    unsigned char separator;
};

// One of `numbers` (NaN where empty) and `codes`, with room for all rows.
struct DlrmColumn {
    int32_t field;
    double* numbers;
    int32_t* codes;
};
