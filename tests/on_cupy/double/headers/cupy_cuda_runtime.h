// CUDA's runtime as CuPy calls it, from libcupycpu.so, whose symbols begin with cupycpu_: none can be taken for CUDA's own.
#ifndef INCLUDE_GUARD_STUB_CUPY_CUDA_RUNTIME_H
#define INCLUDE_GUARD_STUB_CUPY_CUDA_RUNTIME_H
#include "cupy_cuda_common.h"
static const bool hip_environment = false;

#define HAS(type, name, ...) extern "C" type name(__VA_ARGS__) __asm__("cupycpu_" #name);
#define CALL(name, ...) HAS(cudaError_t, name, __VA_ARGS__)
HAS(const char*, cudaGetErrorName, cudaError_t)
HAS(const char*, cudaGetErrorString, cudaError_t)
CALL(cudaGetLastError)
CALL(cudaDriverGetVersion, int*)
CALL(cudaRuntimeGetVersion, int*)
CALL(cudaGetDevice, int*)
CALL(cudaSetDevice, int)
CALL(cudaGetDeviceCount, int*)
CALL(cudaGetDeviceProperties, cudaDeviceProp*, int)
CALL(cudaDeviceGetAttribute, int*, cudaDeviceAttr, int)
CALL(cudaDeviceGetPCIBusId, char*, int, int)
CALL(cudaDeviceSynchronize)
CALL(cudaDeviceCanAccessPeer, int*, int, int)
CALL(cudaMalloc, void**, size_t)
CALL(cudaMallocAsync, void**, size_t, cudaStream_t)
CALL(cudaFree, void*)
CALL(cudaFreeAsync, void*, cudaStream_t)
CALL(cudaHostAlloc, void**, size_t, unsigned)
CALL(cudaFreeHost, void*)
CALL(cudaMemGetInfo, size_t*, size_t*)
CALL(cudaMemcpy, void*, const void*, size_t, cudaMemcpyKind)
CALL(cudaMemcpyAsync, void*, const void*, size_t, cudaMemcpyKind, cudaStream_t)
CALL(cudaMemset, void*, int, size_t)
CALL(cudaMemsetAsync, void*, int, size_t, cudaStream_t)
CALL(cudaPointerGetAttributes, cudaPointerAttributes*, const void*)
CALL(cudaStreamCreate, cudaStream_t*)
CALL(cudaStreamCreateWithFlags, cudaStream_t*, unsigned)
CALL(cudaStreamCreateWithPriority, cudaStream_t*, unsigned, int)
CALL(cudaStreamDestroy, cudaStream_t)
CALL(cudaStreamSynchronize, cudaStream_t)
CALL(cudaStreamQuery, cudaStream_t)
CALL(cudaStreamWaitEvent, cudaStream_t, cudaEvent_t, unsigned)
CALL(cudaStreamIsCapturing, cudaStream_t, cudaStreamCaptureStatus*)
CALL(cudaEventCreate, cudaEvent_t*)
CALL(cudaEventCreateWithFlags, cudaEvent_t*, unsigned)
CALL(cudaEventDestroy, cudaEvent_t)
CALL(cudaEventRecord, cudaEvent_t, cudaStream_t)
CALL(cudaEventQuery, cudaEvent_t)
CALL(cudaEventSynchronize, cudaEvent_t)

// Not emulated: a call fails and its message names the function.
extern "C" cudaError_t cupycpu_unsupported(const char* name);
#define NO(name)                            \
    template <class... A>                   \
    static inline cudaError_t name(A...) {  \
        return cupycpu_unsupported(#name);  \
    }
NO(cudaCreateSurfaceObject) NO(cudaCreateTextureObject) NO(cudaDestroySurfaceObject) NO(cudaDestroyTextureObject)
NO(cudaDeviceDisablePeerAccess) NO(cudaDeviceEnablePeerAccess) NO(cudaDeviceGetByPCIBusId) NO(cudaDeviceGetDefaultMemPool)
NO(cudaDeviceGetLimit) NO(cudaDeviceGetMemPool) NO(cudaDeviceSetLimit) NO(cudaDeviceSetMemPool) NO(cudaEventElapsedTime)
NO(cudaFreeArray) NO(cudaGetChannelDesc) NO(cudaGetTextureObjectResourceDesc) NO(cudaGetTextureObjectTextureDesc)
NO(cudaGraphDebugDotPrint) NO(cudaGraphDestroy) NO(cudaGraphExecDestroy) NO(cudaGraphInstantiate) NO(cudaGraphLaunch) NO(cudaGraphUpload)
NO(cudaHostRegister) NO(cudaHostUnregister) NO(cudaIpcCloseMemHandle) NO(cudaIpcGetEventHandle) NO(cudaIpcGetMemHandle)
NO(cudaIpcOpenEventHandle) NO(cudaIpcOpenMemHandle) NO(cudaLaunchHostFunc) NO(cudaMalloc3DArray) NO(cudaMallocArray)
NO(cudaMallocFromPoolAsync) NO(cudaMallocManaged) NO(cudaMemAdvise) NO(cudaMemPoolCreate) NO(cudaMemPoolDestroy)
NO(cudaMemPoolGetAttribute) NO(cudaMemPoolSetAttribute) NO(cudaMemPoolTrimTo) NO(cudaMemPrefetchAsync) NO(cudaMemcpy2D)
NO(cudaMemcpy2DAsync) NO(cudaMemcpy2DFromArray) NO(cudaMemcpy2DFromArrayAsync) NO(cudaMemcpy2DToArray) NO(cudaMemcpy2DToArrayAsync)
NO(cudaMemcpy3D) NO(cudaMemcpy3DAsync) NO(cudaMemcpyPeer) NO(cudaMemcpyPeerAsync) NO(cudaStreamAddCallback) NO(cudaStreamBeginCapture)
NO(cudaStreamEndCapture) NO(cudaStreamGetFlags) NO(cudaStreamGetPriority)
#undef NO
#undef CALL
#undef HAS

static inline cudaExtent make_cudaExtent(size_t w, size_t h, size_t d) { return cudaExtent{w, h, d}; }
static inline cudaPitchedPtr make_cudaPitchedPtr(void* p, size_t pitch, size_t x, size_t y) { return cudaPitchedPtr{pitch, p, x, y}; }
static inline cudaPos make_cudaPos(size_t x, size_t y, size_t z) { return cudaPos{x, y, z}; }
#endif
