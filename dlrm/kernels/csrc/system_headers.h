// Every header from outside that a body needs. They come before the instruction set is
// switched: an inline function of theirs compiled for AVX-512 could be the copy that the
// linker keeps for a machine that has none.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>
