// Random numbers are not emulated: every entry throws, which CuPy is patched to translate.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <sys/types.h>
enum RandGenerators { CURAND_XOR_WOW, CURAND_MRG32k3a, CURAND_PHILOX_4x32_10 };
struct rk_binomial_state { char unused; };
struct curandState { char unused; };
struct curandStateMRG32k3a { char unused; };
struct curandStatePhilox4_32_10_t { char unused; };

[[noreturn]] static inline void no_random() { throw std::runtime_error("cupy.random is not emulated: pass NumPy's numbers to cupy.asarray"); }
static inline void init_curand_generator(int, intptr_t, uint64_t, ssize_t, intptr_t) { no_random(); }
// Sets of overloads, since CuPy takes the addresses of these functions too
#define NO(name, ...) \
    static inline void name(int, intptr_t, ssize_t, intptr_t, ssize_t, intptr_t, ##__VA_ARGS__) { no_random(); }
NO(beta, intptr_t, intptr_t)
NO(binomial, intptr_t, intptr_t, intptr_t)
NO(exponential)
NO(geometric, intptr_t)
NO(hypergeometric, intptr_t, intptr_t, intptr_t)
NO(interval_32, uint32_t, uint32_t)
NO(interval_64, uint64_t, uint64_t)
NO(logseries, intptr_t)
NO(poisson, intptr_t)
NO(random_uniform)
NO(random_uniform_float)
NO(raw)
NO(standard_gamma, intptr_t)
NO(standard_normal)
NO(standard_normal_float)
#undef NO
