/* Mathematical functions that a compiler puts into vector registers: no branches, no tables, no calls of a library, no conversions that
 * trap. f_ is float, d_ is double. Errors are at most 2 ulp, or what stands beside a function. NaN, infinities, the sign of zero and
 * subnormals are as in C's math library. Polynomials are minimax (Remez), their coefficients rounded one by one from the lowest power. */
#include <stddef.h>
#include <stdint.h>
#define INLINE static inline __attribute__((always_inline))
#define f_fma __builtin_fmaf
#define d_fma __builtin_fma

/* What both letters have. A NaN among two numbers is the smaller one and the larger one, as in NumPy; round goes to even.
 * log_ends gives a logarithm its ends: NaN below `at`, -infinity there, infinity and NaN from a. */
#define FOR_BOTH(f, type, bits_type, s)                                                                 \
    INLINE bits_type f##_bits(type x) { bits_type b; __builtin_memcpy(&b, &x, sizeof b); return b; }    \
    INLINE type f##_of(bits_type b) { type x; __builtin_memcpy(&x, &b, sizeof x); return x; }           \
    INLINE type f##_abs(type a) { return __builtin_fabs##s(a); }                                        \
    INLINE type f##_sqrt(type a) { return __builtin_sqrt##s(a); }                                       \
    INLINE type f##_floor(type a) { return __builtin_floor##s(a); }                                     \
    INLINE type f##_ceil(type a) { return __builtin_ceil##s(a); }                                       \
    INLINE type f##_round(type a) { return __builtin_rint##s(a); }                                      \
    INLINE type f##_smaller(type a, type b) { return ((a < b) | (a != a)) ? a : b; }                    \
    INLINE type f##_larger(type a, type b) { return ((a > b) | (a != a)) ? a : b; }                     \
    INLINE type f##_log_ends(type y, type a, type at) {                                                 \
        y = a < __builtin_inf##s() ? y : a;                                                             \
        y = a < at ? __builtin_nan##s("") : y;                                                          \
        return a == at ? -__builtin_inf##s() : y;                                                       \
    }
FOR_BOTH(f, float, uint32_t, f)
FOR_BOTH(d, double, uint64_t, )

/* exp, 0.9 ulp: x = n log 2 + r. Adding 1.5 * 2^23 rounds x / log 2 to the whole number n and leaves n in the low bits, plus a bias that
 * the constant carries, so that shifts make powers of two. With a NaN the power is arbitrary and the result NaN. */
INLINE float f_exp_reduced(float x, float n) { /* exp(r) */
    const float r = f_fma(n, 0x1.05c61p-29f, f_fma(n, -0x1.62e43p-1f, x));
    float p = 0x1.6ab8ccp-10f; p = f_fma(p, r, 0x1.123d7p-7f); p = f_fma(p, r, 0x1.55585ap-5f); p = f_fma(p, r, 0x1.55548cp-3f);
    return f_fma(f_fma(f_fma(p, r, 0x1.fffffcp-2f), r, 1.0f), r, 1.0f);
}
INLINE float f_exp_sum(float x, float low) { /* of x + low, where low is tiny; 2^n in two factors, halves of the exponent, for both ends */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    const float magic = 0x1.8p23f + 2 * 127, z = f_fma(x, 0x1.715476p+0f, magic), y = f_exp_reduced(x, z - magic);
    const uint32_t half = f_bits(z) << 22 & 0x7F800000, rest = (f_bits(z) << 23) - half;
    return f_fma(y, low, y) * f_of(half) * f_of(rest);
}
INLINE float f_exp(float x) { return f_exp_sum(x, 0.0f); }
INLINE float f_exp_negative(float x) { /* of x <= 0: no overflow, so one factor can be a constant */
    x = x < -104.0f ? -104.0f : x;
    const float magic = 0x1.8p23f + 127 + 64, z = f_fma(x, 0x1.715476p+0f, magic);
    return f_exp_reduced(x, z - magic) * f_of(f_bits(z) << 23) * 0x1p-64f;
}
/* The same in double, 0.9 ulp, of x + low, times 2^-down; r is kept in two parts. */
INLINE double d_exp_tail(double r) { /* (exp(r) - 1 - r) / r^2 */
    double p = 0x1.1f1f543a5f854p-29; p = d_fma(p, r, 0x1.af5d2ba8b17d1p-26); p = d_fma(p, r, 0x1.27e5084c773bap-22);
    p = d_fma(p, r, 0x1.71ddf931084p-19); p = d_fma(p, r, 0x1.a01a0197db60ep-16); p = d_fma(p, r, 0x1.a01a01af998ecp-13);
    p = d_fma(p, r, 0x1.6c16c16c177f6p-10); p = d_fma(p, r, 0x1.111111110f71cp-7); p = d_fma(p, r, 0x1.5555555555558p-5);
    return d_fma(d_fma(p, r, 0x1.5555555555559p-3), r, 0.5);
}
INLINE double d_exp_scaled(double x, double low, int down) {
    x = x > 711.0 ? 711.0 : x;
    x = x < -746.0 ? -746.0 : x;
    const double magic = 0x1.8p52 + 2 * 1023, z = d_fma(x, 0x1.71547652b82fep+0, magic), n = z - magic;
    const double high = d_fma(n, -0x1.62e42fefa39efp-1, x), r_low = d_fma(n, -0x1.abc9e3b39803fp-56, low), r = high + r_low;
    const uint64_t bits = d_bits(z) - (uint64_t)down, half = bits << 51 & 0x7FF0000000000000, rest = (bits << 52) - half;
    return (1.0 + (high + d_fma(r * r, d_exp_tail(r), r_low))) * d_of(half) * d_of(rest);
}
INLINE double d_exp_sum(double x, double low) { return d_exp_scaled(x, low, 0); }
INLINE double d_exp(double x) { return d_exp_sum(x, 0.0); }
INLINE double d_exp_negative(double x) { return d_exp(x); }
/* A quarter of expm1, so that it overflows no earlier than sinh: 2^n (exp(r) - 1) + (2^n - 1), the largest parts added first */
INLINE double d_expm1_quarter(double x) {
    x = x > 710.6 ? 710.6 : x;
    x = x < -40.0 ? -40.0 : x;
    const double magic = 0x1.8p52 + 1023 - 2, z = d_fma(x, 0x1.71547652b82fep+0, magic), n = z - magic, scale = d_of(d_bits(z) << 52);
    const double high = d_fma(n, -0x1.62e42fefa39efp-1, x), low = n * -0x1.abc9e3b39803fp-56, r = high + low;
    return d_fma(scale, d_fma(r * r, d_exp_tail(r), low), d_fma(scale, high, scale - 0.25));
}
INLINE double d_expm1(double x) { return d_abs(x) < 0x1p-60 ? x : 4.0 * d_expm1_quarter(x); }

/* log, 1 ulp: a = 2^e (1 + m), 1 + m in (3/4, 3/2], so that nothing cancels. Bits of floats subtracted give -e where an exponent stands. */
INLINE float f_log_sum(float m, float minus_e) { /* log1p(m) + e log 2; minus_e comes times 2^23 */
    float p = -0x1.797082p-5f; p = f_fma(p, m, 0x1.b20d24p-4f); p = f_fma(p, m, -0x1.0e96b2p-3f); p = f_fma(p, m, 0x1.287764p-3f);
    p = f_fma(p, m, -0x1.54d682p-3f); p = f_fma(p, m, 0x1.996708p-3f); p = f_fma(p, m, -0x1.000082p-2f);
    p = f_fma(p, m, 0x1.5555acp-2f); p = f_fma(p, m, -0.5f);
    return f_fma(minus_e, -0x1.62e43p-24f, f_fma(m * m, p, m));
}
INLINE uint32_t f_minus_e(float u) { return (f_bits(1.5f) - f_bits(u)) & 0xFF800000; }
INLINE float f_log(float a) {
    const _Bool tiny = a < 0x1p-126f;
    const float b = tiny ? a * 0x1p23f : a;
    const uint32_t minus_e = f_minus_e(b);
    const float m = f_of(f_bits(b) + minus_e) - 1.0f;
    return f_log_ends(f_log_sum(m, (float)(int32_t)(minus_e + (tiny ? 23u << 23 : 0u))), a, 0.0f);
}
/* log1p, 1.15 ulp: e is that of 1 + a, and m = a 2^-e - (1 - 2^-e) has the digits of a that 1 + a loses. With -e for e, -0.0 gives -0.0. */
INLINE float f_log1p(float a) {
    const uint32_t minus_e = f_minus_e(1.0f + a);
    const float m = f_of(f_bits(a) + minus_e) - f_fma(-0.25f, f_of(f_bits(4.0f) + minus_e), 1.0f);
    return f_log_ends(f_log_sum(m, (float)(int32_t)minus_e), a, -1.0f);
}
INLINE float f_log1p_unit(float a) { /* of a in [0, 1]: one polynomial, about the middle, where it loses least */
    const float t = a - 0.5f;
    float p = -0x1.a82f74p-9f; p = f_fma(p, t, 0x1.c50bep-8f); p = f_fma(p, t, -0x1.4ec03ap-7f); p = f_fma(p, t, 0x1.11008p-6f);
    p = f_fma(p, t, -0x1.d97a68p-6f); p = f_fma(p, t, 0x1.a28448p-5f); p = f_fma(p, t, -0x1.7de114p-4f);
    p = f_fma(p, t, 0x1.6f0d78p-3f); p = f_fma(p, t, -0x1.833704p-2f);
    return f_fma(a * a, p, a);
}
/* The same in double, 1 ulp: log1p(m) = 2 s + s^3 (2/3 + z series(z)), s = m / (2 + m), z = s^2 */
INLINE double d_log_series(double z) {
    double p = 0x1.0175acea31bf8p-3; p = d_fma(p, z, 0x1.dad2f3f0d7966p-4); p = d_fma(p, z, 0x1.113a02da97c03p-3);
    p = d_fma(p, z, 0x1.3b129923f0b96p-3); p = d_fma(p, z, 0x1.745d1bc297393p-3); p = d_fma(p, z, 0x1.c71c71bc787b3p-3);
    return d_fma(d_fma(p, z, 0x1.2492492498d3bp-2), z, 0x1.9999999999968p-2);
}
INLINE double d_log_sum(double m, double minus_e) { /* e times the first 42 bits of log 2 is exact, its sum with m in two parts */
    const double s = m / (2.0 + m), z = s * s, square = 0.5 * m * m, rest = z * d_fma(z, d_log_series(z), 0x1.5555555555555p-1);
    const double high = minus_e * -0x1.62e42fefa38p-1, sum = high + m, low = m - (sum - high);
    return sum + (low - (square - d_fma(s, square + rest, minus_e * -0x1.ef35793c7673p-45)));
}
INLINE uint64_t d_minus_e(double u) { return (d_bits(1.5) - d_bits(u)) & 0xFFF0000000000000; }
INLINE float f_number(uint32_t minus_e) { return (float)((int32_t)minus_e >> 23); }
INLINE double d_number(uint64_t minus_e) { /* AVX2 has no such conversion; the low bits of 2^52 are one */
    return d_of(0x4330000000000000 + ((minus_e + (1ull << 63)) >> 52)) - (0x1p52 + 2048.0);
}
INLINE double d_log(double a) {
    const _Bool tiny = a < 0x1p-1022;
    const double b = tiny ? a * 0x1p54 : a;
    const uint64_t minus_e = d_minus_e(b);
    return d_log_ends(d_log_sum(d_of(d_bits(b) + minus_e) - 1.0, d_number(minus_e) + (tiny ? 54.0 : 0.0)), a, 0.0);
}
INLINE double d_log1p(double a) {
    const uint64_t minus_e = d_minus_e(1.0 + a);
    const double m = d_of(d_bits(a) + minus_e) - d_fma(-0.25, d_of(d_bits(4.0) + minus_e), 1.0);
    return d_log_ends(d_log_sum(m, d_number(minus_e)), a, -1.0);
}
INLINE double d_log1p_unit(double a) { return d_log1p(a); }

INLINE double d_tanh(double x) { /* t / (t + 2), t = expm1(2|x|), with what its sum and its quotient lose; or 1 - 2 / (t + 2) */
    const double size = d_abs(x), t = d_expm1(size > 20.0 ? 40.0 : 2.0 * size), sum = t + 2.0, low = t - (sum - 2.0);
    const _Bool large = t > 2.0;
    const double ratio = (large ? 2.0 : t) / sum, lost = d_fma(-ratio, low, d_fma(-ratio, sum, t));
    return __builtin_copysign(large ? 1.0 - ratio : d_fma(lost, d_fma(-0.5, ratio, 0.5), ratio), x);
}
INLINE double d_sinh(double x) { /* with t = expm1|x| = 4 q: (t + t / (t + 1)) / 2, or t - t / 2 * t / (t + 1) where t is small */
    const double size = d_abs(x), q = d_expm1_quarter(size), ratio = q / (q + 0.25);
    const double y = d_fma(q < 0.125 ? -2.0 * q : 0.5, ratio, q < 0.125 ? 4.0 * q : 2.0 * q);
    return __builtin_copysign(size < 0x1p-60 ? size : y, x);
}
INLINE double d_cosh(double x) {
    const double h = d_exp_scaled(d_abs(x), 0.0, 1);
    return h + 0.25 / h;
}

/* pow: exp of b times log|a|, both in two parts, as are s, z = s^2, w = s^3, c = 2/3 + ... and v = w c, of which log|a| is
 * e log 2 + 2 s + v, the largest added first. A large b stands for infinity, as 1^b is 1. What depends on b alone is a number: where b is
 * the same for all a, gcc puts no condition on it into vectors. */
INLINE float f_log_series(float z) { return f_fma(f_fma(0x1.e8e6fap-3f, z, 0x1.241a44p-2f), z, 0x1.999aap-2f); }
#define POW(f, type, bits_type, smallest, scale, huge, log2, log2_low, thirds, thirds_low)                               \
    INLINE type f##_pow(type a, type b) {                                                                                \
        const type size = f##_abs(a);                                                                                    \
        const _Bool tiny = size < smallest;                                                                              \
        const type scaled = tiny ? size * (type)(1ull << scale) : size;                                                  \
        const bits_type bits = f##_minus_e(scaled);                                                                      \
        const type m = f##_of(f##_bits(scaled) + bits) - 1, minus_e = f##_number(bits) + (tiny ? (type)scale : (type)0); \
        const type t = 2 + m, part = 1 / t, s = m * part, s_low = (f##_fma(-s, t, m) - s * (m - (t - 2))) * part;        \
        const type z = s * s, z_low = f##_fma(s, s, -z) + 2 * s * s_low;                                                 \
        const type w = z * s, w_low = f##_fma(z, s, -w) + f##_fma(z, s_low, z_low * s);                                  \
        const type terms = z * f##_log_series(z), c = thirds + terms, c_low = (thirds - c) + terms + thirds_low;         \
        const type v = w * c, v_low = f##_fma(w, c, -v) + f##_fma(w, c_low, w_low * c);                                  \
        const type e_part = minus_e * -log2, sum1 = e_part + 2 * s, sum2 = sum1 + v;                                     \
        const type rest = (2 * s - (sum1 - e_part)) + (v - (sum2 - sum1)) + (2 * s_low + v_low + minus_e * -log2_low);   \
        const type high = f##_log_ends(sum2 + rest, size, 0), low = rest - (high - sum2);                                \
        const type below = b > huge ? huge : b, times = below < -huge ? -huge : below;                                   \
        const type y = times * high, y_low = f##_fma(times, high, -y) + times * low;                                     \
        const type whole = f##_floor(b) == b ? -(type)0 : (type)__builtin_nan("");                                       \
        const bits_type odd = (bits_type)(f##_floor(b) == b) & (bits_type)(f##_floor(b / 2) != b / 2);                   \
        type power = f##_exp_sum(y, f##_abs(y) < 800 ? y_low : 0);                                                       \
        power = f##_of(f##_bits(power) | (f##_bits(a) & odd << (8 * sizeof a - 1)));                                     \
        power = ((a < 0) & (a > -(type)__builtin_inf())) ? power + whole : power;                                        \
        power = a == 1 ? 1 : power;                                                                                      \
        return b == 0 ? 1 : power;                                                                                       \
    }
POW(f, float, uint32_t, 0x1p-126f, 23, 0x1p127f, 0x1.62e4p-1f, 0x1.7f7d1cp-20f, 0x1.555556p-1f, -0x1.555556p-26f)
POW(d, double, uint64_t, 0x1p-1022, 54, 0x1p1023, 0x1.62e42fefa38p-1, 0x1.ef35793c7673p-45, 0x1.5555555555555p-1, 0x1.5555555555555p-55)

/* float by way of double, 0.501 ulp */
#define BY_DOUBLE(name) INLINE float f_##name(float x) { return (float)d_##name((double)x); }
BY_DOUBLE(expm1) BY_DOUBLE(tanh) BY_DOUBLE(sinh) BY_DOUBLE(cosh)

/* 16 bits, stored rounded to nearest even; NaN stays NaN, and what is too large is infinity */
INLINE float f_of_bfloat(uint16_t h) { return f_of((uint32_t)h << 16); }
INLINE uint16_t bfloat_of(float x) {
    const uint32_t b = f_bits(x), rounded = (b + 0x7FFF + (b >> 16 & 1)) >> 16;
    return (uint16_t)((b & 0x7FFFFFFF) > 0x7F800000 ? b >> 16 | 0x40 : rounded);
}
INLINE float f_of_half(uint16_t h) {
    const uint32_t b = (h & 0x7FFFu) << 13, normal = b + (112u << 23), small = f_bits(f_of(b + (113u << 23)) - 0x1p-14f);
    return f_of((b < 1u << 23 ? small : normal) | (b < 31u << 23 ? 0u : 0x7F800000u) | (h & 0x8000u) << 16);
}
INLINE uint16_t half_of(float x) { /* 2^16 stands for all above; below 2^-14 adding 1/2 rounds to a multiple of 2^-24 */
    const uint32_t size = f_bits(x) & 0x7FFFFFFF, b = size < 0x47800000 ? size : 0x47800000;
    const uint32_t rounded = (b - (112u << 23) + 0xFFF + (b >> 13 & 1)) >> 13, small = f_bits(f_of(b) + 0.5f) - f_bits(0.5f);
    return (uint16_t)((b < 0x38800000 ? small : rounded) | (uint32_t)(size > 0x7F800000) << 9 | (f_bits(x) >> 16 & 0x8000));
}

INLINE ptrdiff_t next_of(ptrdiff_t* a) { return __atomic_fetch_add(a, 1, __ATOMIC_RELAXED); } /* each number goes to one thread */
INLINE int32_t label_of(int64_t a) { /* in 32 bits; what does not fit stays out of every range */
    a = a < INT32_MIN ? INT32_MIN : a;
    return (int32_t)(a > INT32_MAX ? INT32_MAX : a);
}
