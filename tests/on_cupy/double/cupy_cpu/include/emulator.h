// Put before every CUDA source that CuPy compiles, so that g++ accepts it and the CPU runs it, block by block.
//
// The threads of a block run one after the other; in a source with barriers or warp operations they are fibers, which are switched where
// they wait. No header of CUDA is used.
#pragma once
#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <math.h>
#include <sys/mman.h>
#include <tuple>
#include <type_traits>
#include <utility>
#if !defined(__x86_64__)
#error "the CPU double of CuPy switches fibers on x86-64 only"
#endif

// -- the language -----------------------------------------------------------------------------------------------------

#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __host__
#define __device__
#define __global__
#define __constant__
#define __managed__
#define __shared__ alignas(16) static
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
#include "cuda_bf16.h"
#include "cuda_fp16.h"

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

// -- one block after the other ------------------------------------------------------------------------------------------

namespace emulator {

constexpr unsigned MAX_THREADS = 1024, LANES = 32;
constexpr size_t STACK = 128 << 10;  // bytes of a fiber

struct Fiber {
    void* stack_pointer;
    uint3 thread;
    bool is_done;
};
struct Failure { const char* message; };

static uint3 thread_index, block_index, block_size, grid_size;
static char* shared_memory;  // dynamic
static void (*kernel)(void**);
static void** kernel_arguments;
static const char* failure;

static bool uses_fibers;
static Fiber* fibers;
static void* scheduler;  // its stack pointer
static unsigned threads, current, alive;
static unsigned long progress;  // counts whatever lets a waiting fiber go on

static unsigned arrived, generation;                           // of the barrier of the block
static unsigned alive_lanes[LANES], waiting_for[MAX_THREADS];  // of the warps: masks; 0: not waiting
static unsigned long long exchanged[MAX_THREADS];

static __attribute__((naked, noinline)) void switch_stacks(void** save, void* to) {
    asm volatile(
        "pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15; movq %rsp,(%rdi); movq %rsi,%rsp;"
        "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret");
}

static void yield_to_scheduler() { switch_stacks(&fibers[current].stack_pointer, scheduler); }

static void fail(const char* message) {
    if (!uses_fibers) throw Failure{message};
    failure = message;
    for (;;) yield_to_scheduler();
}

static bool is_alone() {
    if (uses_fibers) return false;
    if (threads > 1) fail("barrier or warp operation in a source where none was seen (hidden in an included header or macro?)");
    return true;
}

static void block_barrier() {
    if (is_alone()) return;
    const unsigned before = generation;
    if (++arrived >= alive) {
        arrived = 0, ++generation, ++progress;
        return;
    }
    while (before == generation) yield_to_scheduler();
}

// Lets the lanes of a mask go on when all of them that are alive wait.
static void release_warp(unsigned warp, unsigned mask) {
    const unsigned needed = mask & alive_lanes[warp];
    for (unsigned lane = 0; lane < LANES; lane++)
        if ((needed >> lane & 1) && waiting_for[warp * LANES + lane] != mask) return;
    for (unsigned lane = 0; lane < LANES; lane++)
        if (needed >> lane & 1) waiting_for[warp * LANES + lane] = 0;
    ++progress;
}

static void warp_barrier(unsigned mask) {
    if (is_alone()) return;
    const unsigned own = current, warp = own / LANES;
    if (!(mask >> (own % LANES) & 1)) fail("warp operation whose mask leaves out the calling lane");
    waiting_for[own] = mask;
    release_warp(warp, mask);
    while (waiting_for[own]) yield_to_scheduler();
}

template <class T>
static T exchange(unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) <= 8, "shuffles of more than 8 bytes are not emulated");
    if (is_alone()) return value;
    const unsigned own = current;
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof(T));
    exchanged[own] = bits;
    warp_barrier(mask);
    T result;
    memcpy(&result, &exchanged[source < threads ? source : own], sizeof(T));
    warp_barrier(mask);
    return result;
}

template <class... A, size_t... I>
static void call_with(void (*f)(A...), void** arguments, std::index_sequence<I...>) {
    f(*reinterpret_cast<std::remove_cv_t<std::remove_reference_t<A>>*>(arguments[I])...);
}
template <class... A>
static void call(void (*f)(A...), void** arguments) {
    call_with(f, arguments, std::index_sequence_for<A...>{});
}

static void run_fiber() {
    kernel(kernel_arguments);
    const unsigned warp = current / LANES;
    fibers[current].is_done = true;
    --alive, ++progress;
    if (alive && arrived >= alive) arrived = 0, ++generation;
    alive_lanes[warp] &= ~(1u << (current % LANES));
    for (unsigned lane = 0; lane < LANES; lane++) {
        const unsigned mask = waiting_for[warp * LANES + lane];
        if (alive_lanes[warp] >> lane & 1 && mask) release_warp(warp, mask);
    }
    for (;;) yield_to_scheduler();
}

template <class F>
static void for_each_index(const unsigned* sizes, F f) {
    for (unsigned z = 0; z < sizes[2] && !failure; z++)
        for (unsigned y = 0; y < sizes[1] && !failure; y++)
            for (unsigned x = 0; x < sizes[0] && !failure; x++) f(uint3{x, y, z});
}

static void run_block_of_fibers(char* stacks, const unsigned* block) {
    alive = threads, arrived = generation = 0, progress = 0;
    for (unsigned warp = 0; warp < LANES; warp++) {
        const unsigned first = warp * LANES, lanes = threads > first ? threads - first : 0;
        alive_lanes[warp] = lanes >= LANES ? ~0u : (1u << lanes) - 1;
    }
    unsigned n = 0;
    for_each_index(block, [&](uint3 index) {
        void** top = (void**)(stacks + (n + 1) * STACK - 16);
        *top = (void*)&run_fiber;
        waiting_for[n] = 0;
        fibers[n++] = {top - 6, index, false};  // below it six registers are popped
    });
    while (alive && !failure) {
        const unsigned long before = progress;
        for (current = 0; current < threads && !failure; current++) {
            if (fibers[current].is_done) continue;
            thread_index = fibers[current].thread;
            switch_stacks(&scheduler, fibers[current].stack_pointer);
        }
        if (!failure && alive && progress == before) failure = "deadlock: a barrier or warp operation that not all its threads reach";
    }
}

// Runs a kernel. A source without barriers needs no fibers. Returns 1 and a message where it fails.
static int launch(void (*thunk)(void**), void** arguments, const unsigned* grid, const unsigned* block, unsigned shared, bool has_barriers,
                  char* message, size_t length) {
    grid_size = {grid[0], grid[1], grid[2]}, block_size = {block[0], block[1], block[2]};
    kernel = thunk, kernel_arguments = arguments, failure = nullptr;
    threads = block[0] * block[1] * block[2], uses_fibers = has_barriers && threads > 1;
    static char* stacks = nullptr;
    if (uses_fibers && !stacks) {
        void* memory = mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) return snprintf(message, length, "no memory for fibers"), 1;
        stacks = (char*)memory;
    }
    const size_t rounded = (shared + 127) & ~127u;
    shared_memory = shared ? (char*)aligned_alloc(128, rounded) : nullptr;
    fibers = uses_fibers ? new Fiber[threads] : nullptr;
    try {
        for_each_index(grid, [&](uint3 index) {
            block_index = index;
            if (shared) memset(shared_memory, 0xCB, rounded);
            current = 0;
            if (uses_fibers) run_block_of_fibers(stacks, block);
            else for_each_index(block, [&](uint3 thread) { thread_index = thread, kernel(kernel_arguments); });
        });
    } catch (const Failure& e) { failure = e.message; }
    delete[] fibers;
    free(shared_memory);
    if (failure) snprintf(message, length, "%s", failure);
    return failure != nullptr;
}

}  // namespace emulator

// -- what kernels call ----------------------------------------------------------------------------------------------------

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_size
#define gridDim emulator::grid_size
#define warpSize 32
#define __syncthreads() emulator::block_barrier()

static inline void __syncwarp(unsigned mask = ~0u) { emulator::warp_barrier(mask); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}

template <class T>
static T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
    const unsigned own = emulator::current;
    return emulator::exchange(mask, v, (own & ~(width - 1u)) + (lane & (width - 1)));
}
template <class T>
static T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32) {
    const unsigned own = emulator::current, other = own ^ lanes;
    return emulator::exchange(mask, v, (other & ~(width - 1u)) <= (own & ~(width - 1u)) ? other : own);
}
template <class T>
static T __shfl_down_sync(unsigned mask, T v, unsigned lanes, int width = 32) {
    const unsigned own = emulator::current;
    return emulator::exchange(mask, v, (own & (width - 1)) + lanes < (unsigned)width ? own + lanes : own);
}
template <class T>
static T __shfl_up_sync(unsigned mask, T v, unsigned lanes, int width = 32) {
    const unsigned own = emulator::current;
    return emulator::exchange(mask, v, (own & (width - 1)) >= lanes ? own - lanes : own);
}

template <class T>
static inline T __ldg(const T* p) {
    return *p;
}
static inline float rsqrt(float x) { return 1.f / sqrtf(x); }
static inline double rsqrt(double x) { return 1. / sqrt(x); }

static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll(v) : 64; }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }

template <class To, class From>
static inline To same_bits(From v) {
    static_assert(sizeof(To) == sizeof(From), "");
    To result;
    memcpy(&result, &v, sizeof v);
    return result;
}
static inline float __int_as_float(int v) { return same_bits<float>(v); }
static inline int __float_as_int(float v) { return same_bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return same_bits<float>(v); }
static inline unsigned __float_as_uint(float v) { return same_bits<unsigned>(v); }
static inline double __longlong_as_double(long long v) { return same_bits<double>(v); }
static inline long long __double_as_longlong(double v) { return same_bits<long long>(v); }
static inline int __double2hiint(double v) { return (int)(__double_as_longlong(v) >> 32); }
static inline int __double2loint(double v) { return (int)__double_as_longlong(v); }
static inline double __hiloint2double(int high, int low) { return __longlong_as_double(((long long)high << 32) | (unsigned)low); }

template <class A, class B>
using Common = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>, std::common_type_t<A, B>>;
template <class A, class B>
constexpr inline Common<A, B> min(A a, B b) {
    using C = Common<A, B>;
    if constexpr (std::is_floating_point_v<C>) return fmin((C)a, (C)b);
    else return (C)a < (C)b ? (C)a : (C)b;
}
template <class A, class B>
constexpr inline Common<A, B> max(A a, B b) {
    using C = Common<A, B>;
    if constexpr (std::is_floating_point_v<C>) return fmax((C)a, (C)b);
    else return (C)a > (C)b ? (C)a : (C)b;
}

// Threads run one after the other: plain reads and writes are atomic.
#define EMULATOR_ATOMIC(name, expression)                                 \
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>> \
    static T name(T* p, std::common_type_t<T> v) {                        \
        const T old = *p;                                                 \
        *p = (expression);                                                \
        return old;                                                       \
    }
EMULATOR_ATOMIC(atomicAdd, old + v)
EMULATOR_ATOMIC(atomicMax, v > old ? v : old)
EMULATOR_ATOMIC(atomicMin, v < old ? v : old)
EMULATOR_ATOMIC(atomicExch, v)
template <class T>
static T atomicCAS(T* p, std::common_type_t<T> compare, std::common_type_t<T> v) {
    const T old = *p;
    if (old == compare) *p = v;
    return old;
}
