// CUB's algorithms are not emulated: every entry throws, which CuPy is patched to translate.
#pragma once
#include <cstddef>
#include <stdexcept>
#define CUPY_CUB_SUM 0
#define CUPY_CUB_MIN 1
#define CUPY_CUB_MAX 2
#define CUPY_CUB_ARGMIN 3
#define CUPY_CUB_ARGMAX 4
#define CUPY_CUB_CUMSUM 5
#define CUPY_CUB_CUMPROD 6
#define CUPY_CUB_PROD 7
#ifndef CUPY_CUB_VERSION_CODE
#define CUPY_CUB_VERSION_CODE 0
#endif
typedef struct CUstream_st* cudaStream_t;
#define NO(type, name)                   \
    template <class... A>                \
    static inline type name(A&&...) {    \
        throw std::runtime_error(#name " is not emulated"); \
    }
NO(void, cub_device_reduce)
NO(void, cub_device_segmented_reduce)
NO(void, cub_device_scan)
NO(void, cub_device_histogram_range)
NO(void, cub_device_histogram_even)
NO(size_t, cub_device_reduce_get_workspace_size)
NO(size_t, cub_device_segmented_reduce_get_workspace_size)
NO(size_t, cub_device_scan_get_workspace_size)
NO(size_t, cub_device_histogram_range_get_workspace_size)
NO(size_t, cub_device_histogram_even_get_workspace_size)
#undef NO
