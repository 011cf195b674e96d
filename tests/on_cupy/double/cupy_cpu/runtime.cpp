// libcupycpu.so: host bodies of the calls to CUDA's runtime and driver that CuPy makes. There is one device, whose memory is the host's;
// streams and events are always done, and nothing runs concurrently. All symbols begin with cupycpu_, so that none is taken for CUDA's.
#include "cupy_cuda_common.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <numeric>
#include <string>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))
#define RUNTIME(name) EXPORTED cudaError_t cupycpu_##name
#define DRIVER(name) EXPORTED int cupycpu_cu##name

typedef cudaError_t Result;
typedef std::map<char*, size_t> Blocks;  // sizes by address
static std::mutex memory_mutex, launch_mutex;
static Blocks device_blocks, host_blocks;
static thread_local std::string last_message;
static thread_local int last_code = 0;

static const size_t RED_ZONE = 64;                         // bytes behind every block, which no kernel may write to
enum { POISON = 0xCB, CANARY = 0xA5, FREED = 0xDD };       // what memory is filled with
static const size_t MEMORY = (size_t)8 << 30;              // of the device
static const int INVALID_VALUE = 1, INVALID_IMAGE = 200, NOT_FOUND = 500, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801;

struct Statistics { long long launches, d2h, h2d, d2d, d2h_bytes, h2d_bytes, syncs, live_bytes, peak_bytes, out_of_bounds; };
static Statistics statistics;
EXPORTED Statistics* cupycpu_statistics() { return &statistics; }

static int fail(int code, const std::string& message) {
    last_message = message;
    return last_code = code;
}
EXPORTED Result cupycpu_unsupported(const char* name) { return (Result)fail(NOT_SUPPORTED, std::string(name) + " is not emulated"); }

// -- memory -----------------------------------------------------------------------------------------------------------

static bool is_within(const Blocks& blocks, const void* p) {
    std::lock_guard<std::mutex> guard(memory_mutex);
    auto next = blocks.upper_bound((char*)p);
    if (next == blocks.begin()) return false;
    --next;
    return (char*)p < next->first + std::max<size_t>(next->second, 1);
}
static bool is_on_device(const void* p) { return is_within(device_blocks, p); }

// Memory that no kernel has written to is never 0, and what is written past its end shows.
static Result allocate(void** p, size_t n) {
    std::lock_guard<std::mutex> guard(memory_mutex);
    *p = nullptr;
    if (n > MEMORY || statistics.live_bytes + n > MEMORY) return cudaErrorMemoryAllocation;
    if (posix_memalign(p, 512, n + RED_ZONE)) return cudaErrorMemoryAllocation;
    memset(*p, POISON, n);
    memset((char*)*p + n, CANARY, RED_ZONE);
    device_blocks[(char*)*p] = n;
    statistics.live_bytes += n;
    statistics.peak_bytes = std::max(statistics.peak_bytes, statistics.live_bytes);
    return cudaSuccess;
}

static void check_red_zone(char* p, size_t n) {
    for (size_t i = 0; i < RED_ZONE; i++) {
        if ((unsigned char)p[n + i] == CANARY) continue;
        statistics.out_of_bounds++;
        fprintf(stderr, "a kernel wrote %zu byte(s) past the end of a block of %zu bytes\n", i + 1, n);
        memset(p + n, CANARY, RED_ZONE);
        return;
    }
}
EXPORTED long long cupycpu_check_red_zones() {
    std::lock_guard<std::mutex> guard(memory_mutex);
    for (auto& block : device_blocks) check_red_zone(block.first, block.second);
    return statistics.out_of_bounds;
}

static Result release(void* p) {
    if (!p) return cudaSuccess;
    std::lock_guard<std::mutex> guard(memory_mutex);
    auto block = device_blocks.find((char*)p);
    if (block == device_blocks.end()) return (Result)fail(INVALID_VALUE, "cudaFree of what is no block of the device");
    check_red_zone((char*)p, block->second);
    memset(p, FREED, block->second);
    statistics.live_bytes -= block->second;
    device_blocks.erase(block);
    free(p);
    return cudaSuccess;
}

static Result copy(void* to, const void* from, size_t n, cudaMemcpyKind kind) {
    if (!n) return cudaSuccess;
    const bool to_device = is_on_device(to), from_device = is_on_device(from);
    const bool expects_to = (int)kind == 1 || (int)kind == 3, expects_from = (int)kind == 2 || (int)kind == 3;
    if ((expects_to && !to_device) || (expects_from && !from_device)) return (Result)fail(INVALID_VALUE, "cudaMemcpy in the wrong direction");
    if (from_device && !to_device) statistics.d2h++, statistics.d2h_bytes += n;
    if (!from_device && to_device) statistics.h2d++, statistics.h2d_bytes += n;
    if (from_device && to_device) statistics.d2d++;
    memmove(to, from, n);
    return cudaSuccess;
}

static Result fill(void* p, int value, size_t n) {
    if (n && !is_on_device(p)) return (Result)fail(INVALID_VALUE, "cudaMemset of what is not on the device");
    memset(p, value, n);
    return cudaSuccess;
}

RUNTIME(cudaMalloc)(void** p, size_t n) { return allocate(p, n); }
RUNTIME(cudaMallocAsync)(void** p, size_t n, cudaStream_t) { return allocate(p, n); }
RUNTIME(cudaFree)(void* p) { return release(p); }
RUNTIME(cudaFreeAsync)(void* p, cudaStream_t) { return release(p); }
RUNTIME(cudaHostAlloc)(void** p, size_t n, unsigned) {
    if (!(*p = malloc(std::max<size_t>(n, 1)))) return cudaErrorMemoryAllocation;
    memset(*p, POISON, n);
    std::lock_guard<std::mutex> guard(memory_mutex);
    host_blocks[(char*)*p] = n;
    return cudaSuccess;
}
RUNTIME(cudaFreeHost)(void* p) {
    std::lock_guard<std::mutex> guard(memory_mutex);
    host_blocks.erase((char*)p);
    free(p);
    return cudaSuccess;
}
RUNTIME(cudaMemGetInfo)(size_t* available, size_t* total) { return *total = MEMORY, *available = MEMORY - statistics.live_bytes, cudaSuccess; }
RUNTIME(cudaMemcpy)(void* to, const void* from, size_t n, cudaMemcpyKind kind) { return statistics.syncs++, copy(to, from, n, kind); }
RUNTIME(cudaMemcpyAsync)(void* to, const void* from, size_t n, cudaMemcpyKind kind, cudaStream_t) { return copy(to, from, n, kind); }
RUNTIME(cudaMemset)(void* p, int value, size_t n) { return fill(p, value, n); }
RUNTIME(cudaMemsetAsync)(void* p, int value, size_t n, cudaStream_t) { return fill(p, value, n); }
RUNTIME(cudaPointerGetAttributes)(cudaPointerAttributes* a, const void* p) {
    const bool on_device = is_on_device(p), on_host = !on_device && is_within(host_blocks, p);
    *a = {on_device ? 2 : on_host ? 1 : 0, on_device || on_host ? 0 : -2, on_device ? (void*)p : nullptr, on_device ? nullptr : (void*)p};
    return cudaSuccess;
}

// -- the device, errors, streams, events ------------------------------------------------------------------------------

EXPORTED const char* cupycpu_cudaGetErrorName(Result e) {
    return (int)e == 2 ? "cudaErrorMemoryAllocation" : (int)e == NOT_SUPPORTED ? "cudaErrorNotSupported" : "cudaErrorUnknown";
}
EXPORTED const char* cupycpu_cudaGetErrorString(Result e) {
    return (int)e == last_code && last_code ? last_message.c_str() : (int)e == 2 ? "out of memory" : "error";
}
RUNTIME(cudaGetLastError)() { return cudaSuccess; }
RUNTIME(cudaDriverGetVersion)(int* v) { return *v = CUDA_VERSION, cudaSuccess; }
RUNTIME(cudaRuntimeGetVersion)(int* v) { return *v = CUDA_VERSION, cudaSuccess; }
RUNTIME(cudaGetDevice)(int* device) { return *device = 0, cudaSuccess; }
RUNTIME(cudaSetDevice)(int device) { return device ? cudaErrorInvalidValue : cudaSuccess; }
RUNTIME(cudaGetDeviceCount)(int* n) { return *n = 1, cudaSuccess; }
RUNTIME(cudaDeviceSynchronize)() { return statistics.syncs++, cudaSuccess; }
RUNTIME(cudaDeviceCanAccessPeer)(int* can, int, int) { return *can = 0, cudaSuccess; }
RUNTIME(cudaDeviceGetPCIBusId)(char* text, int n, int) { return snprintf(text, n, "0000:00:00.0"), cudaSuccess; }
RUNTIME(cudaDeviceGetAttribute)(int* value, cudaDeviceAttr attribute, int) {
    static const std::map<int, int> values = {
        {1, 1024},   {2, 1024},   {3, 1024},   {4, 64},   {5, 2147483647},  // threads of a block, its sizes, blocks of a grid
        {6, 65535},  {7, 65535},  {8, 49152},  {9, 65536},                   // blocks of a grid, shared and constant memory
        {10, 32},    {12, 65536}, {16, 2},     {39, 2048}, {75, 9},          // lanes, registers, multiprocessors, their threads, major
        {81, 233472}, {82, 65536}, {97, 232448},
    };
    auto found = values.find((int)attribute);
    *value = found == values.end() ? 0 : found->second;
    return cudaSuccess;
}
RUNTIME(cudaGetDeviceProperties)(cudaDeviceProp* p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "the CPU double of CuPy (no GPU)");
    p->major = 9, p->warpSize = 32, p->multiProcessorCount = 2, p->maxThreadsPerBlock = 1024, p->maxThreadsPerMultiProcessor = 2048;
    p->totalGlobalMem = MEMORY, p->sharedMemPerBlock = 49152, p->regsPerBlock = 65536, p->totalConstMem = 65536;
    return cudaSuccess;
}

static char* next_handle = (char*)0x1000;
static Result new_stream(cudaStream_t* s) { return *s = (cudaStream_t)(next_handle += 16), cudaSuccess; }
RUNTIME(cudaStreamCreate)(cudaStream_t* s) { return new_stream(s); }
RUNTIME(cudaStreamCreateWithFlags)(cudaStream_t* s, unsigned) { return new_stream(s); }
RUNTIME(cudaStreamCreateWithPriority)(cudaStream_t* s, unsigned, int) { return new_stream(s); }
RUNTIME(cudaStreamDestroy)(cudaStream_t) { return cudaSuccess; }
RUNTIME(cudaStreamSynchronize)(cudaStream_t) { return statistics.syncs++, cudaSuccess; }
RUNTIME(cudaStreamQuery)(cudaStream_t) { return cudaSuccess; }
RUNTIME(cudaStreamWaitEvent)(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
RUNTIME(cudaStreamIsCapturing)(cudaStream_t, cudaStreamCaptureStatus* status) { return *status = (cudaStreamCaptureStatus)0, cudaSuccess; }
RUNTIME(cudaEventCreate)(cudaEvent_t* e) { return *e = (cudaEvent_t)(next_handle += 16), cudaSuccess; }
RUNTIME(cudaEventCreateWithFlags)(cudaEvent_t* e, unsigned) { return cupycpu_cudaEventCreate(e); }
RUNTIME(cudaEventDestroy)(cudaEvent_t) { return cudaSuccess; }
RUNTIME(cudaEventRecord)(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
RUNTIME(cudaEventQuery)(cudaEvent_t) { return cudaSuccess; }
RUNTIME(cudaEventSynchronize)(cudaEvent_t) { return statistics.syncs++, cudaSuccess; }

// -- the driver: modules and launches ---------------------------------------------------------------------------------

DRIVER(GetErrorName)(CUresult e, const char** text) {
    static thread_local std::string name;
    name = (int)e == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_" + std::to_string((int)e);
    return *text = name.c_str(), 0;
}
DRIVER(GetErrorString)(CUresult e, const char** text) { return *text = (int)e == last_code ? last_message.c_str() : "error", 0; }
DRIVER(DevicePrimaryCtxRelease_v2)(int) { return 0; }
DRIVER(CtxGetCurrent)(void** context) { return *context = (void*)0xC0DE, 0; }
DRIVER(CtxSetCurrent)(void*) { return 0; }
DRIVER(CtxGetDevice)(int* device) { return *device = 0, 0; }
DRIVER(StreamGetCtx)(void*, void** context) { return *context = (void*)0xC0DE, 0; }

// A module is a shared object behind the word CUPYCPU and its length. Every one is opened under another spelling of its path, since the
// loader knows libraries by their names.
DRIVER(ModuleLoadData)(void** module, const char* image) {
    if (memcmp(image, "CUPYCPU2", 8)) return fail(INVALID_IMAGE, "this is code for a GPU, which the CPU double of CuPy cannot run");
    unsigned long long size, written = 0;
    memcpy(&size, image + 8, 8);
    const int file = memfd_create("cupycpu_kernel", MFD_CLOEXEC);
    while (file >= 0 && written < size) {
        const ssize_t n = write(file, image + 16 + written, size - written);
        if (n <= 0) break;
        written += n;
    }
    std::string path = "/proc/self/fd";
    {
        std::lock_guard<std::mutex> guard(memory_mutex);
        static unsigned serial = 0;
        for (unsigned rest = ++serial; rest; rest >>= 1) path += rest & 1 ? "/." : "//";
    }
    *module = written == size ? dlopen((path + "/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    const int code = *module ? 0 : fail(INVALID_IMAGE, written == size ? dlerror() : "a kernel could not be written to memory");
    close(file);
    return code;
}
DRIVER(ModuleUnload)(void*) { return 0; }
DRIVER(ModuleGetFunction)(void** function, void* module, const char* name) {
    *function = dlsym(module, (std::string("cupycpu_launch_") + name).c_str());
    const std::string message = std::string("kernel '") + name + "' not found: it must be extern \"C\" or a name expression";
    return *function ? 0 : fail(NOT_FOUND, message);
}

typedef int (*Launch)(void**, const unsigned*, const unsigned*, unsigned, char*, size_t);
DRIVER(LaunchKernel)
(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void*, void** arguments, void**) {
    const bool is_empty = !gx || !gy || !gz || !bx || !by || !bz;
    if (is_empty || (size_t)bx * by * bz > 1024 || bz > 64 || gx > 2147483647u || gy > 65535 || gz > 65535 || shared > 232448)
        return fail(INVALID_VALUE, "invalid sizes of a launch");
    std::lock_guard<std::mutex> guard(launch_mutex);
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    char message[256] = "kernel failed";
    statistics.launches++;
    return ((Launch)function)(arguments, grid, block, shared, message, sizeof message) ? fail(LAUNCH_FAILED, message) : 0;
}
DRIVER(FuncGetAttribute)(int* value, int attribute, void*) { return *value = attribute == 0 ? 1024 : 0, 0; }
DRIVER(FuncSetAttribute)(void*, int, int) { return 0; }
DRIVER(OccupancyMaxPotentialBlockSize)(int* grid, int* block, void*, void*, size_t, int) { return *grid = 2, *block = 256, 0; }
DRIVER(OccupancyMaxActiveBlocksPerMultiprocessor)(int* n, void*, int, size_t) { return *n = 2, 0; }

#define NO(name, ...) \
    DRIVER(name)(__VA_ARGS__) { return fail(NOT_SUPPORTED, "cu" #name " is not emulated"); }
NO(CtxCreate_v2, void**, unsigned, int)
NO(CtxDestroy_v2, void*)
NO(LinkCreate_v2, unsigned, void*, void**, void**)
NO(LinkAddData_v2, void*, int, void*, size_t, const char*, unsigned, void*, void**)
NO(LinkAddFile_v2, void*, int, const char*, unsigned, void*, void**)
NO(LinkComplete, void*, void**, size_t*)
NO(LinkDestroy, void*)
NO(ModuleLoad, void**, char*)
NO(ModuleGetGlobal_v2, void**, size_t*, void*, const char*)
NO(LaunchCooperativeKernel, void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**)

EXPORTED int cupycpu_nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 0, 0; }
EXPORTED const char* cupycpu_nvrtcGetErrorString(int) { return "there is no NVRTC in the CPU double of CuPy"; }
EXPORTED int cupycpu_nvrtcGetNumSupportedArchs(int* n) { return *n = 1, 0; }
EXPORTED int cupycpu_nvrtcGetSupportedArchs(int* a) { return *a = 90, 0; }

// -- sorting, in Thrust's place ----------------------------------------------------------------------------------------

template <class T>
static bool is_less(T a, T b) {  // NaN last
    return b != b ? a == a : a < b;
}

template <class T>
static int sort_rows(T* row, int64_t* order, const ptrdiff_t* shape, int ndim) {
    const ptrdiff_t n = ndim ? shape[ndim - 1] : 1;
    ptrdiff_t rows = 1;
    for (int i = 0; i + 1 < ndim; i++) rows *= shape[i];
    for (; rows--; row += n) {
        if (!order) {
            std::stable_sort(row, row + n, is_less<T>);
            continue;
        }
        std::iota(order, order + n, (int64_t)0);
        std::stable_sort(order, order + n, [row](int64_t a, int64_t b) { return is_less(row[a], row[b]); });
        const std::vector<T> before(row, row + n);
        for (ptrdiff_t i = 0; i < n; i++) row[i] = before[order[i]];
        order += n;
    }
    return 0;
}

EXPORTED int cupycpu_sort(int dtype, void* data, int64_t* order, const ptrdiff_t* shape, int ndim) {
    statistics.launches++;
    switch (dtype) {  // CuPy's numbers
        case 0: return sort_rows((int8_t*)data, order, shape, ndim);
        case 1: case 13: return sort_rows((uint8_t*)data, order, shape, ndim);
        case 4: return sort_rows((int32_t*)data, order, shape, ndim);
        case 6: return sort_rows((int64_t*)data, order, shape, ndim);
        case 9: return sort_rows((float*)data, order, shape, ndim);
        case 10: return sort_rows((double*)data, order, shape, ndim);
        default: return 1;
    }
}
