// A minimal bfloat16. Not NVIDIA's header.
#pragma once
#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
    unsigned short x_;
    __nv_bfloat16() = default;
    __nv_bfloat16(float v) {
        uint32_t bits;
        memcpy(&bits, &v, 4);
        const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
        x_ = is_nan ? (unsigned short)0x7fffu : (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
    }
    __nv_bfloat16(double v) : __nv_bfloat16((float)v) {}
    __nv_bfloat16(int v) : __nv_bfloat16((float)v) {}
    operator float() const {
        const uint32_t bits = (uint32_t)x_ << 16;
        float v;
        memcpy(&v, &bits, 4);
        return v;
    }
};

static inline bool operator==(__nv_bfloat16 a, __nv_bfloat16 b) { return float(a) == float(b); }
static inline bool operator<(__nv_bfloat16 a, __nv_bfloat16 b) { return float(a) < float(b); }
static inline __nv_bfloat16 __float2bfloat16(float v) { return __nv_bfloat16(v); }
static inline float __bfloat162float(__nv_bfloat16 v) { return float(v); }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.x_; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) {
    __nv_bfloat16 result;
    result.x_ = v;
    return result;
}
static inline bool __hisnan(__nv_bfloat16 v) { return (v.x_ & 0x7fffu) > 0x7f80u; }
static inline int __hisinf(__nv_bfloat16 v) { return (v.x_ & 0x7fffu) == 0x7f80u ? (v.x_ >> 15 ? -1 : 1) : 0; }
