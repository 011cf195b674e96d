// Sorting by the host, in libcupycpu.so: stable, NaN last.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>
#define THRUST_VERSION 0
extern "C" int cupycpu_sort(int dtype, void* data, int64_t* order, const ptrdiff_t* shape, int ndim);

static inline void sort_by_host(int dtype, void* data, int64_t* order, const std::vector<ptrdiff_t>& shape) {
    if (cupycpu_sort(dtype, data, order, shape.data(), (int)shape.size())) throw std::runtime_error("sorting this dtype is not emulated");
}
static inline void thrust_sort(int dtype, void* data, size_t*, const std::vector<ptrdiff_t>& shape, intptr_t, void*) {
    sort_by_host(dtype, data, nullptr, shape);
}
static inline void thrust_argsort(int dtype, size_t* order, void* data, void*, const std::vector<ptrdiff_t>& shape, intptr_t, void*) {
    sort_by_host(dtype, data, (int64_t*)order, shape);
}
static inline void thrust_lexsort(int, size_t*, void*, size_t, size_t, intptr_t, void*) {
    throw std::runtime_error("lexsort is not emulated");
}
