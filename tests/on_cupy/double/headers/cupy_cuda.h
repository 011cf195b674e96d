#ifndef INCLUDE_GUARD_STUB_CUPY_CUDA_H
#define INCLUDE_GUARD_STUB_CUPY_CUDA_H
#include "cupy_cuda_common.h"
extern "C" {
typedef size_t (*CUoccupancyB2DSize)(int);
}
#endif
