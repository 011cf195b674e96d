/* Checks the functions of the header for compiled losses. `functions STEP NAME BOUND NAME BOUND ...`, bounds in ulp.
 * float functions of one argument: every STEP-th of all 2^32 floats of their domain, against the double functions of the math library;
 * double functions, and those of two arguments: a hundred million points divided by STEP, against its long double functions;
 * stores in 16 bits, read back: as float functions, against a rounding in double; loads: all 65,536. Always all special values or pairs.
 * Prints the largest error of each, where that is, and how many results are wrong altogether: a NaN, an infinity or a sign that should not
 * be there, or should. An error of 0 says that all are rounded correctly. Returns 1 if one is wrong or an error exceeds its bound. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../../arrayloss/engine/c/functions.h"

enum { BLOCK = 4096, SAMPLES = 100000000, THREADS_AT_MOST = 64 };
typedef long double wide;
typedef struct {
    const char *name;
    void (*run)(const void *a, const void *b, void *y); /* a block */
    double (*plain)(double a);                          /* the right value for floats */
    wide (*exact)(wide a, wide b);                      /* for doubles and for pairs of either */
    enum { FLOAT, DOUBLE } kind;
    int arguments;
    double lowest, highest; /* the domain */
} function;
typedef struct { double error, a, b; long wrong; double wrong_a, wrong_b; } worst;

/* What is right. In 16 bits: a value is rounded to `digits` digits of its own exponent, which is at least `smallest`. */
static double rounded(double a, int digits, int smallest, double largest) {
    if (!(fabs(a) < INFINITY)) return a;
    const int e = a == 0.0 ? smallest : ilogb(a) + 1;
    const double unit = ldexp(1.0, (e < smallest ? smallest : e) - digits), y = rint(a / unit) * unit;
    return fabs(y) > largest ? copysign(INFINITY, a) : y;
}
static double half_as(double a) { return rounded(a, 11, -13, 65504.0); }
static double bfloat_as(double a) { return rounded(a, 8, -125, 0x1.FEp127); }
static double loaded(unsigned h, int digits, int bias) {
    const int e = (h & 0x7FFF) >> digits, m = h & ((1 << digits) - 1), top = (0x7FFF >> digits);
    const double y = e == top ? (m ? NAN : INFINITY) : ldexp(e ? m + (1 << digits) : m, (e ? e : 1) - bias - digits);
    return h & 0x8000 ? -y : y;
}
static double of_half_as(double h) { return loaded((unsigned)h, 10, 15); }
static double of_bfloat_as(double h) { return loaded((unsigned)h, 7, 127); }
static wide powl_of(wide a, wide b) { /* powl of glibc is wrong at (-infinity)^(-2^63) */
    return isinf(a) ? (wide)pow((double)a, (double)b) : powl(a, b);
}
static wide smallerl(wide a, wide b) { return a != a || b != b ? a + b : a < b ? a : b; }
static wide largerl(wide a, wide b) { return a != a || b != b ? a + b : a > b ? a : b; }
#define OF_ONE(f) static wide f##_of_one(wide a, wide b) { (void)b; return f(a); }
OF_ONE(expl) OF_ONE(expm1l) OF_ONE(logl) OF_ONE(log1pl) OF_ONE(tanhl) OF_ONE(sinhl) OF_ONE(coshl)
OF_ONE(fabsl) OF_ONE(sqrtl) OF_ONE(floorl) OF_ONE(ceill) OF_ONE(rintl)

/* The functions over a block, put into vectors as in the losses */
#define RUN(f, in, out, call)                                                                  \
    static void run_##f(const void *first, const void *second, void *result) {                 \
        const in *restrict a = first, *restrict b = second;                                    \
        out *restrict y = result;                                                              \
        (void)b;                                                                               \
        _Pragma("omp simd") for (int32_t i = 0; i < BLOCK; i++) y[i] = call;                   \
    }
#define RUN_BOTH(f) RUN(f_##f, float, float, f_##f(a[i])) RUN(d_##f, double, double, d_##f(a[i]))
#define RUN_PAIRS(f) RUN(f_##f, float, float, f_##f(a[i], b[i])) RUN(d_##f, double, double, d_##f(a[i], b[i]))
RUN_BOTH(exp) RUN_BOTH(exp_negative) RUN_BOTH(expm1) RUN_BOTH(log) RUN_BOTH(log1p) RUN_BOTH(log1p_unit) RUN_BOTH(tanh) RUN_BOTH(sinh)
RUN_BOTH(cosh) RUN_BOTH(abs) RUN_BOTH(sqrt) RUN_BOTH(floor) RUN_BOTH(ceil) RUN_BOTH(round)
RUN_PAIRS(pow) RUN_PAIRS(smaller) RUN_PAIRS(larger)
RUN(f_of_half, float, float, f_of_half((uint16_t)a[i])) RUN(f_of_bfloat, float, float, f_of_bfloat((uint16_t)a[i]))
RUN(half_of, float, float, f_of_half(half_of(a[i]))) RUN(bfloat_of, float, float, f_of_bfloat(bfloat_of(a[i])))

#define BOTH_IN(f, right, low, high)                                   \
    {"f_" #f, run_f_##f, right, right##l_of_one, FLOAT, 1, low, high}, \
    {"d_" #f, run_d_##f, right, right##l_of_one, DOUBLE, 1, low, high}
#define BOTH(f, right) BOTH_IN(f, right, -INFINITY, INFINITY)
#define PAIRS(f, right)                                              \
    {"f_" #f, run_f_##f, NULL, right, FLOAT, 2, -INFINITY, INFINITY}, \
    {"d_" #f, run_d_##f, NULL, right, DOUBLE, 2, -INFINITY, INFINITY}
static const function FUNCTIONS[] = {
    BOTH(exp, exp), BOTH_IN(exp_negative, exp, -INFINITY, 0.0), BOTH(expm1, expm1), BOTH(log, log), BOTH(log1p, log1p),
    BOTH_IN(log1p_unit, log1p, 0.0, 1.0), BOTH(tanh, tanh), BOTH(sinh, sinh), BOTH(cosh, cosh), BOTH(abs, fabs), BOTH(sqrt, sqrt),
    BOTH(floor, floor), BOTH(ceil, ceil), BOTH(round, rint), PAIRS(pow, powl_of), PAIRS(smaller, smallerl), PAIRS(larger, largerl),
    {"f_of_half", run_f_of_half, of_half_as, NULL, FLOAT, 1, 0.0, 65535.0},
    {"f_of_bfloat", run_f_of_bfloat, of_bfloat_as, NULL, FLOAT, 1, 0.0, 65535.0},
    {"half_of", run_half_of, half_as, NULL, FLOAT, 1, -INFINITY, INFINITY},
    {"bfloat_of", run_bfloat_of, bfloat_as, NULL, FLOAT, 1, -INFINITY, INFINITY},
};

/* Points. Random bits come from the number of the point, so that every run has the same ones. */
static const double SPECIAL[] = {
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 17.0, 20.0, 22.0, 40.0, 88.0, 88.72283, 88.722839, 88.73, 89.0, 89.415985, 89.42, 103.0,
    103.972084, 104.0, 128.0, 149.0, 150.0, 709.0, 709.782712893384, 709.7827128933841, 710.0, 710.4758600739439, 710.475860073944,
    711.0, 744.4400719213812, 745.1332191019411, 745.1332191019412, 746.0, 1024.0, 1074.0, 1075.0, 1e5, 1e10, 0x1p23, 0x1p24 - 1,
    0x1p24, 0x1p52 + 1, 0x1p53 - 1, 0x1p53, 0x1p54, 0x1p62, 0x1p63, 0x1p64, 1e100, 0x1.FFFFFEp127, 0x1p128, 0x1.FFFFFFFFFFFFFp1023,
    0.25, 0.75, 0.333333333333, 0.70710678, 0.41421356237309503, 0.41421356237309509, 0.34657359, 0.99999994, 1.0000001,
    0x1.FFFFFFFFFFFFFp-1, 0x1.0000000000001p0, 0x1p-10, 0x1p-24, 0x1p-25, 0x1p-53, 0x1p-54, 0x1p-60, 0x1p-61, 0x1p-126, 0x1.8p-127,
    0x1p-149, 0x1p-150, 0x1p-1022, 0x1.8p-1023, 0x1p-1074, INFINITY, NAN,
};
enum { SPECIALS = 2 * (int)(sizeof SPECIAL / sizeof *SPECIAL) };
static double special(int i) { return i % 2 ? -SPECIAL[i / 2] : SPECIAL[i / 2]; }
static uint64_t bits_of(uint64_t i) {
    i += 0x9E3779B97F4A7C15;
    i = (i ^ i >> 30) * 0xBF58476D1CE4E5B9;
    i = (i ^ i >> 27) * 0x94D049BB133111EB;
    return i ^ i >> 31;
}
static double uniform(uint64_t i, double low, double high) { return low + (high - low) * (double)(bits_of(i) >> 11) * 0x1p-53; }
static double magnitude(uint64_t i, double low, double high) { return exp2(floor(uniform(i, low, high))) * uniform(i ^ 1, 1.0, 2.0); }
static double near_one(uint64_t i) { return 1.0 + (bits_of(i) & 1 ? 1.0 : -0.5) * magnitude(i + 2, -54.0, 0.0); }
static double point(uint64_t i, const function *f) {
    const double sign = bits_of(16 * i) & 1 ? -1.0 : 1.0;
    const int kind = i % 4;
    double x = kind == 0   ? d_of(bits_of(16 * i + 1))
               : kind == 1 ? sign * magnitude(16 * i + 2, -70.0, 11.0)
               : kind == 2 ? sign * near_one(16 * i + 4)
                           : uniform(16 * i + 8, -760.0, 760.0);
    if (f->highest == 1.0 && fabs(x) > 1.0) x = uniform(16 * i + 9, 0.0, 1.0);
    return f->highest == 0.0 ? -fabs(x) : f->lowest == 0.0 ? fabs(x) : x;
}
static void pair(uint64_t i, const function *f, double *a, double *b) { /* for pow: results of all sizes, half exponents, modest ones */
    const int is_float = f->kind == FLOAT, kind = i % 4;
    const double reach = is_float ? 110.0 : 760.0, low = is_float ? -149.0 : -1074.0, high = is_float ? 128.0 : 1024.0;
    *a = kind == 0 ? magnitude(16 * i, low, high) : kind == 1 ? near_one(16 * i) : magnitude(16 * i, -20.0, 20.0);
    *b = kind <= 1 ? uniform(16 * i + 8, -reach, reach) / log(*a) : uniform(16 * i + 8, -100.0, 100.0);
    if (kind == 2) *a = bits_of(16 * i + 9) & 1 ? -*a : *a, *b = rint(2.0 * *b) / 2.0;
}

/* The points of a function are numbered: first the special ones, then the others. */
static uint64_t points(const function *f, uint64_t step) {
    const uint64_t all = f->highest == 65535.0 ? 65536 * step : f->kind == FLOAT && f->arguments == 1 ? 1ull << 32 : SAMPLES;
    return SPECIALS * SPECIALS + (all + step - 1) / step;
}
static int in_domain(const function *f, uint64_t i, uint64_t step, double *a, double *b) {
    *b = 0.0;
    if (i < SPECIALS * SPECIALS) {
        *a = special((int)(i / SPECIALS)), *b = special((int)(i % SPECIALS));
        if (f->arguments == 1 && i % SPECIALS) return 0;
    } else {
        i -= SPECIALS * SPECIALS;
        if (f->arguments == 2) pair(i, f, a, b);
        else *a = f->kind == DOUBLE ? point(i, f) : f->highest == 65535.0 ? (double)i : f_of((uint32_t)(i * step));
    }
    if (f->kind == FLOAT) *a = (float)*a, *b = (float)*b;
    return !(*a < f->lowest) & !(*a > f->highest) & (f->highest != 65535.0 || *a == *a);
}

/* The error in units of the last digit. An infinity instead of a finite number counts as the power of two that follows all of these. */
static void judge(worst *w, const function *f, double a, double b, double y, wide right) {
    const double nearest = f->kind == FLOAT ? (double)(float)right : (double)right;
    if (!signbit(y) == !signbit(right) && y == nearest) return;
    if (y != y && right != right) return;
    const wide size = fabsl(right);
    if (y != y || right != right || !signbit(y) != !signbit(right) || (size == INFINITY && fabs(y) != INFINITY)) {
        w->wrong++, w->wrong_a = a, w->wrong_b = b;
        return;
    }
    const wide limit = ldexpl(1.0L, f->kind == FLOAT ? 128 : 1024);
    const int infinite = fabs(y) == INFINITY, digits = f->kind == FLOAT ? 24 : 53, smallest = f->kind == FLOAT ? -125 : -1021;
    int e;
    frexpl(infinite ? limit / 2.0L : size, &e);
    const wide distance = fabsl((infinite ? limit : (wide)fabs(y)) - size), unit = ldexpl(1.0L, (e < smallest ? smallest : e) - digits);
    const double error = (double)(distance / unit);
    if (error > w->error) w->error = error, w->a = a, w->b = b;
}

typedef struct { const function *f; uint64_t step; int thread, threads; worst w; } job;
static void *work(void *argument) {
    job *j = argument;
    const function *f = j->f;
    static _Thread_local double a[BLOCK], b[BLOCK], y[BLOCK];
    static _Thread_local float fa[BLOCK], fb[BLOCK], fy[BLOCK];
    const uint64_t end = points(f, j->step);
    for (uint64_t start = BLOCK * (uint64_t)j->thread; start < end; start += BLOCK * (uint64_t)j->threads) {
        int n = 0;
        for (uint64_t i = start; i < end && i < start + BLOCK; i++) n += in_domain(f, i, j->step, a + n, b + n);
        if (f->kind == DOUBLE) {
            f->run(a, b, y);
        } else {
            for (int i = 0; i < n; i++) fa[i] = (float)a[i], fb[i] = (float)b[i];
            f->run(fa, fb, fy);
            for (int i = 0; i < n; i++) y[i] = fy[i];
        }
        const int plain = f->kind == FLOAT && f->arguments == 1;
        for (int i = 0; i < n; i++) judge(&j->w, f, a[i], b[i], y[i], plain ? (wide)f->plain(a[i]) : f->exact(a[i], b[i]));
    }
    return NULL;
}

static int check(const function *f, uint64_t step, double bound) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int threads = cores < 1 ? 1 : cores > THREADS_AT_MOST ? THREADS_AT_MOST : (int)cores;
    pthread_t ids[THREADS_AT_MOST];
    static job jobs[THREADS_AT_MOST];
    worst all = {0};
    for (int i = 0; i < threads; i++) {
        jobs[i] = (job){f, step, i, threads, all};
        if (pthread_create(ids + i, NULL, work, jobs + i)) exit(2);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        const worst w = jobs[i].w;
        if (w.wrong) all.wrong_a = w.wrong_a, all.wrong_b = w.wrong_b;
        all.wrong += w.wrong;
        if (w.error > all.error) all.error = w.error, all.a = w.a, all.b = w.b;
    }
    printf("%s: error %.4f ulp at %a", f->name, all.error, all.a);
    if (f->arguments == 2) printf(", %a", all.b);
    printf("; bound %g; %ld wrong", bound, all.wrong);
    if (all.wrong) printf(" (last at %a, %a)", all.wrong_a, all.wrong_b);
    printf("\n");
    return all.wrong > 0 || all.error > bound;
}

int main(int count, char **arguments) {
    int failed = 0;
    for (int i = 2; i + 1 < count; i += 2) {
        const function *f = NULL;
        for (size_t k = 0; k < sizeof FUNCTIONS / sizeof *FUNCTIONS; k++)
            if (!strcmp(FUNCTIONS[k].name, arguments[i])) f = FUNCTIONS + k;
        if (!f) {
            printf("%s: no such function\n", arguments[i]);
            return 2;
        }
        failed |= check(f, strtoull(arguments[1], NULL, 10), atof(arguments[i + 1]));
    }
    return failed;
}
