// The two macros of CuPy's complex headers; there is no Thrust here.
#pragma once
#define THRUST_NAMESPACE_BEGIN namespace thrust {
#define THRUST_NAMESPACE_END }
