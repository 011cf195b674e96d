// A minimal binary16: rounded to nearest even in one step, from float or double. Not NVIDIA's header.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulator {

static inline unsigned short to_half(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    const unsigned short sign = (unsigned short)((bits >> 48) & 0x8000u);
    const double size = std::fabs(x);
    if (size != size) return sign | 0x7e00u;
    if (size >= 65520.0) return sign | 0x7c00u;
    if (size < 0x1p-14) return sign | (unsigned short)std::nearbyint(size * 0x1p24);  // subnormal; a carry gives the smallest normal
    memcpy(&bits, &size, 8);
    const int exponent = (int)(bits >> 52) - 1023;
    const uint64_t mantissa = bits & 0xfffffffffffffull, rest = mantissa & 0x3ffffffffffull, tie = 0x20000000000ull;
    unsigned short half = (unsigned short)(((exponent + 15) << 10) | (mantissa >> 42));
    if (rest > tie || (rest == tie && (half & 1))) half++;
    return sign | half;
}

static inline float from_half(unsigned short half) {
    const unsigned sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31, mantissa = half & 1023;
    if (!exponent) return (sign ? -1.f : 1.f) * (float)mantissa * 0x1p-24f;
    const unsigned bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (mantissa << 13);
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

}  // namespace emulator

struct __half_raw { unsigned short x; };
struct __half {
    unsigned short x_;
    __half() = default;
    __half(const __half_raw& raw) : x_(raw.x) {}
    __half(double v) : x_(emulator::to_half(v)) {}
    __half(float v) : __half((double)v) {}
    __half(int v) : __half((double)v) {}
    __half(unsigned v) : __half((double)v) {}
    __half(long v) : __half((double)v) {}
    __half(unsigned long v) : __half((double)v) {}
    __half(long long v) : __half((double)v) {}
    __half(unsigned long long v) : __half((double)v) {}
    __half(short v) : __half((double)v) {}
    __half(unsigned short v) : __half((double)v) {}
    operator float() const { return emulator::from_half(x_); }
    operator __half_raw() const { return __half_raw{x_}; }
};
typedef __half half;

static inline __half operator+(__half a, __half b) { return __half(float(a) + float(b)); }
static inline __half operator-(__half a, __half b) { return __half(float(a) - float(b)); }
static inline __half operator*(__half a, __half b) { return __half(float(a) * float(b)); }
static inline __half operator/(__half a, __half b) { return __half(float(a) / float(b)); }
static inline __half operator-(__half a) { return __half_raw{(unsigned short)(a.x_ ^ 0x8000u)}; }
static inline __half& operator+=(__half& a, __half b) { return a = a + b; }
static inline __half& operator-=(__half& a, __half b) { return a = a - b; }
static inline __half& operator*=(__half& a, __half b) { return a = a * b; }
static inline __half& operator/=(__half& a, __half b) { return a = a / b; }
static inline bool operator<(__half a, __half b) { return float(a) < float(b); }
static inline bool operator>(__half a, __half b) { return float(a) > float(b); }
static inline bool operator<=(__half a, __half b) { return float(a) <= float(b); }
static inline bool operator>=(__half a, __half b) { return float(a) >= float(b); }
static inline bool operator==(__half a, __half b) { return float(a) == float(b); }
static inline bool operator!=(__half a, __half b) { return float(a) != float(b); }

static inline __half __float2half(float v) { return __half(v); }
static inline __half __float2half_rn(float v) { return __half(v); }
static inline __half __double2half(double v) { return __half(v); }
static inline float __half2float(__half h) { return float(h); }
static inline unsigned short __half_as_ushort(__half h) { return h.x_; }
static inline __half __ushort_as_half(unsigned short v) { return __half_raw{v}; }
static inline bool __hisnan(__half h) { return (h.x_ & 0x7fffu) > 0x7c00u; }
static inline int __hisinf(__half h) { return (h.x_ & 0x7fffu) == 0x7c00u ? (h.x_ >> 15 ? -1 : 1) : 0; }
