/* Fused kernels for training on one CPU core: multi-query attention over short sequences with
 * rotary positions, gated experts, top-k router, residual + dropout + RMS norm. Activations
 * (`act`) are float32, or bfloat16 (stored as uint16_t) with -DBF16; the residual stream, the
 * statistics, the router and all sums are float32. Dropout masks are a hash of (seed, position),
 * computed again in the backward pass instead of being stored. Built by fast.py with
 * -DDK=<head_dim>, a multiple of 32. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LMAX 128 /* longest sequence */

#ifdef BF16
typedef uint16_t act;
static inline float up(act v) {
    union { uint32_t u; float f; } c = {(uint32_t)v << 16};
    return c.f;
}
static inline act down(float v) { /* round to nearest even */
    union { float f; uint32_t u; } c = {v};
    return (act)((c.u + 0x7fff + ((c.u >> 16) & 1)) >> 16);
}
#else
typedef float act;
static inline float up(act v) { return v; }
static inline act down(float v) { return v; }
#endif
static inline uint32_t hash(uint32_t i, uint32_t seed) {
    uint32_t h = (i + seed) * 0x9E3779B1u;
    h ^= h >> 15; h *= 0x85EBCA77u;
    h ^= h >> 13; h *= 0xC2B2AE3Du;
    return h ^ (h >> 16);
}
/* cut = p * 2^32: kept (and scaled) with probability 1 - p. */
static inline float mask(uint32_t i, uint32_t seed, uint32_t cut, float scale) {
    return !cut ? 1.0f : hash(i, seed) >= cut ? scale : 0.0f;
}

/* xo = x + dropout(y); r = 1 / rms(xo); n = dropout2(xo * r * w) */
void resnorm_fwd(long N, long D, const float *restrict x, const act *restrict y,
                 const float *restrict w, float eps, uint32_t seed, uint32_t cut, float scale,
                 uint32_t seed2, uint32_t cut2, float scale2,
                 float *restrict xo, float *restrict r, act *restrict n) {
    for (long i = 0; i < N; i++, x += D, xo += D, n += D) {
        uint32_t at = (uint32_t)(i * D);
        float s = 0;
        if (y) {
            for (long d = 0; d < D; d++)
                xo[d] = x[d] + up(y[d]) * mask(at + d, seed, cut, scale);
            y += D;
        } else
            for (long d = 0; d < D; d++) xo[d] = x[d];
        for (long d = 0; d < D; d++) s += xo[d] * xo[d];
        float q = r[i] = 1.0f / sqrtf(s / D + eps);
        for (long d = 0; d < D; d++)
            n[d] = down(xo[d] * q * w[d] * mask(at + d, seed2, cut2, scale2));
    }
}

/* gw must be zeroed by the caller; gxo and gy may be NULL. */
void resnorm_bwd(long N, long D, const act *restrict gn, const float *restrict gxo,
                 const float *restrict xo, const float *restrict r, const float *restrict w,
                 uint32_t seed, uint32_t cut, float scale,
                 uint32_t seed2, uint32_t cut2, float scale2,
                 float *restrict gx, act *restrict gy, float *restrict gw) {
    for (long i = 0; i < N; i++, gn += D, xo += D, gx += D) {
        uint32_t at = (uint32_t)(i * D);
        float q = r[i], c = 0;
        for (long d = 0; d < D; d++) {
            float g = up(gn[d]) * mask(at + d, seed2, cut2, scale2);
            gw[d] += g * xo[d] * q;
            gx[d] = g * w[d];
            c += gx[d] * xo[d];
        }
        c *= q * q * q / D;
        for (long d = 0; d < D; d++) gx[d] = gx[d] * q - xo[d] * c;
        if (gxo) {
            for (long d = 0; d < D; d++) gx[d] += gxo[d];
            gxo += D;
        }
        if (gy) {
            for (long d = 0; d < D; d++) gy[d] = down(gx[d] * mask(at + d, seed, cut, scale));
            gy += D;
        }
    }
}

/* Top-k router over rows h [N, D] with weights W [m, D]: probabilities p, log-sum-exp z, and
 * the weights w of the chosen (zero elsewhere), each [N, m] or [N]. stats [2 m + 1]: how often
 * each was chosen, sums of p, sum of z^2; over the rows with keep (all when NULL). */
void router_fwd(long N, long D, long m, long k, const act *restrict h, const float *restrict W,
                const uint8_t *keep, float *p, float *z, float *w, float *stats) {
    memset(stats, 0, sizeof(float) * (2 * m + 1));
    for (long i = 0; i < N; i++, h += D, p += m, w += m) {
        float top = -1e30f, sum = 0, chosen = 0;
        for (long e = 0; e < m; e++) {
            const float *row = W + e * D;
            float s = 0;
            for (long d = 0; d < D; d++) s += up(h[d]) * row[d];
            p[e] = s;
            top = s > top ? s : top;
        }
        for (long e = 0; e < m; e++) sum += p[e] = expf(p[e] - top);
        for (long e = 0; e < m; e++) p[e] *= 1 / sum, w[e] = 0;
        z[i] = top + logf(sum);
        int on = !keep || keep[i];
        for (long j = 0; j < k; j++) {
            long best = -1;
            for (long e = 0; e < m; e++)
                if (w[e] == 0 && (best < 0 || p[e] > p[best])) best = e;
            w[best] = p[best] > 1e-30f ? p[best] : 1e-30f;
            chosen += w[best];
            stats[best] += on;
        }
        for (long e = 0; e < m; e++) w[e] *= 1 / chosen;
        if (on) {
            for (long e = 0; e < m; e++) stats[m + e] += p[e];
            stats[2 * m] += z[i] * z[i];
        }
    }
}
/* bal [m]: gradient of the balance loss by p; zc: of the z-loss by z, over z. gW zeroed. */
void router_bwd(long N, long D, long m, const act *restrict h, const float *restrict W,
                const uint8_t *keep, const float *p, const float *z, const float *w,
                const float *gw, const float *bal, float zc, act *restrict gh,
                float *restrict gW) {
    float gl[64], acc[1024];
    for (long i = 0; i < N; i++, h += D, gh += D, p += m, w += m, gw += m) {
        float mean = 0, sum = 0, dot = 0, on = !keep || keep[i] ? 1 : 0;
        for (long e = 0; e < m; e++)
            if (w[e] > 0) mean += gw[e] * w[e], sum += p[e];
        for (long e = 0; e < m; e++) {
            gl[e] = on * bal[e] + (w[e] > 0 ? (gw[e] - mean) / (sum + 1e-30f) : 0);
            dot += gl[e] * p[e];
        }
        for (long d = 0; d < D; d++) acc[d] = 0;
        for (long e = 0; e < m; e++) {
            float g = p[e] * (gl[e] - dot + on * zc * z[i]);
            const float *row = W + e * D;
            float *grow = gW + e * D;
            for (long d = 0; d < D; d++) {
                acc[d] += g * row[d];
                grow[d] += g * up(h[d]);
            }
        }
        for (long d = 0; d < D; d++) gh[d] = down(acc[d]);
    }
}

/* y = dropout(x) of float32; the backward pass is the same call. */
void drop(long n, const float *restrict x, uint32_t seed, uint32_t cut, float scale,
          float *restrict y) {
    for (long i = 0; i < n; i++) y[i] = x[i] * mask((uint32_t)i, seed, cut, scale);
}

/* Rows sorted by expert: for each w [N, m] that is not zero its row in `rows` and its value in
 * `share`, those of expert 0 first; counts [m]. */
void sort_fwd(long N, long m, const float *w, int64_t *rows, float *share, int64_t *counts) {
    for (long e = 0; e < m; e++) {
        counts[e] = 0;
        for (long i = 0; i < N; i++)
            if (w[i * m + e] != 0) {
                *rows++ = i;
                *share++ = w[i * m + e];
                counts[e]++;
            }
    }
}
/* y [N, D] (zeroed) += x [n, D] at its rows. */
void scatter(long n, long D, const int64_t *rows, const act *restrict x, float *restrict y) {
    for (long i = 0; i < n; i++) {
        float *o = y + rows[i] * D;
        for (long d = 0; d < D; d++) o[d] += up(x[i * D + d]);
    }
}

/* Sixteen floats at a time, spelled out: compilers unroll these short loops into scalars. */
typedef float vec __attribute__((vector_size(64)));
typedef uint32_t uvec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef uint16_t hvec __attribute__((vector_size(32)));
typedef float vec_at __attribute__((vector_size(64), aligned(4), may_alias)); /* in memory */
typedef uint16_t hvec_at __attribute__((vector_size(32), aligned(2), may_alias));
#define V (DK / 16)  /* vectors in a head */
#define HALF (V / 2)
#define LV (LMAX / 16)
#define AT(p) (*(vec_at *)(p))
#define HAT(p) (*(hvec_at *)(p))
static const ivec LANES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#ifdef BF16
static inline vec ups(const act *p) {
    return (vec)(__builtin_convertvector(HAT(p), uvec) << 16);
}
static inline void downs(act *p, vec v) {
    uvec u = (uvec)v;
    HAT(p) = __builtin_convertvector((u + 0x7fff + ((u >> 16) & 1)) >> 16, hvec);
}
#else
static inline vec ups(const act *p) { return AT(p); }
static inline void downs(act *p, vec v) { AT(p) = v; }
#endif
static inline vec pick(ivec yes, vec a) { return (vec)((ivec)a & yes); }
static inline vec masks(uint32_t i, uint32_t seed, uint32_t cut, float scale) {
    uvec h = ((uvec)LANES + i + seed) * 0x9E3779B1u;
    h ^= h >> 15; h *= 0x85EBCA77u;
    h ^= h >> 13; h *= 0xC2B2AE3Du;
    h ^= h >> 16;
    return pick((ivec)(h >= cut), (vec){} + scale);
}
static inline float total(vec a) {
    float s = 0;
    for (int i = 0; i < 16; i++) s += a[i];
    return s;
}
static inline float top_of(vec a) {
    float s = a[0];
    for (int i = 1; i < 16; i++) s = a[i] > s ? a[i] : s;
    return s;
}
/* exp of x <= 0, to about 1e-7 relative; very negative x give 0. */
static inline vec exps(vec x) {
    x = (vec)(((ivec)(x > -87.0f) & (ivec)x) | (~(ivec)(x > -87.0f) & (ivec)((vec){} - 87.0f)));
    vec t = x * 1.44269504f - 0.5f;
    ivec n = __builtin_convertvector(t, ivec); /* toward zero: round to nearest for t <= 0 */
    vec f = __builtin_convertvector(n, vec);
    vec r = (x - f * 0.693359375f) + f * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (vec)((n + 127) << 23);
}
static inline vec sigmoids(vec x) {
    ivec neg = x < 0.0f;
    vec e = exps((vec)((ivec)x | (int)0x80000000));
    vec num = (vec)((neg & (ivec)e) | (~neg & (ivec)((vec){} + 1.0f)));
    return num / (1.0f + e);
}

/* Hidden values of m gated experts of width f side by side: a holds at `gate` and `up` the
 * stacked products (rows lda apart), o (rows ldo apart) gets w[e] * dropout(act(gate) * up).
 * w [N, m] (NULL: all one); experts of weight zero give zeros. f: a multiple of 16.
 * relu: act is relu, otherwise silu. */
void glu_fwd(long N, long m, long f, const act *a, long lda, long gate, long up_, int relu,
             const float *w, uint32_t seed, uint32_t cut, float scale, act *o, long ldo) {
    for (long i = 0; i < N; i++, a += lda, o += ldo)
        for (long e = 0; e < m; e++) {
            float we = w ? w[i * m + e] : 1;
            for (long j = e * f; j < (e + 1) * f; j += 16) {
                vec y = {};
                if (we != 0) {
                    vec g = ups(a + gate + j);
                    y = (relu ? pick(g > 0.0f, g) : g * sigmoids(g)) * ups(a + up_ + j) * we;
                    if (cut) y *= masks((uint32_t)((i * m) * f + j), seed, cut, scale);
                }
                downs(o + j, y);
            }
        }
}
/* ga gets the gradients of gate and up, gw [N, m] (may be NULL) those of w. */
void glu_bwd(long N, long m, long f, const act *a, long lda, long gate, long up_, int relu,
             const float *w, uint32_t seed, uint32_t cut, float scale, const act *go, long ldo,
             act *ga, float *gw) {
    for (long i = 0; i < N; i++, a += lda, ga += lda, go += ldo)
        for (long e = 0; e < m; e++) {
            float we = w ? w[i * m + e] : 1;
            vec sum = {};
            for (long j = e * f; j < (e + 1) * f; j += 16) {
                vec dg = {}, du = {};
                if (we != 0) {
                    vec g = ups(a + gate + j), u = ups(a + up_ + j), d = ups(go + j), val, der;
                    if (cut) d *= masks((uint32_t)((i * m) * f + j), seed, cut, scale);
                    if (relu) {
                        val = pick(g > 0.0f, g);
                        der = pick(g > 0.0f, (vec){} + 1.0f);
                    } else {
                        vec s = sigmoids(g);
                        val = g * s;
                        der = s + val * (1.0f - s);
                    }
                    sum += d * val * u;
                    d *= we;
                    du = d * val;
                    dg = d * u * der;
                }
                downs(ga + gate + j, dg);
                downs(ga + up_ + j, du);
            }
            if (gw) gw[i * m + e] = total(sum);
        }
}

/* Rows of DK values, `ld` apart, to floats times `by`, rotated by the angles with the tables
 * C and S [L, DK / 2] unless C is NULL. */
static inline void load(const act *p, long ld, long L, const float *C, const float *S, float by,
                        float (*o)[DK]) {
    for (long i = 0; i < L; i++, p += ld)
        for (int c = 0; c < HALF; c++) {
            vec a = ups(p + 16 * c) * by, b = ups(p + DK / 2 + 16 * c) * by, x = a, y = b;
            if (C) {
                vec co = AT(C + i * (DK / 2) + 16 * c), si = AT(S + i * (DK / 2) + 16 * c);
                x = a * co - b * si;
                y = b * co + a * si;
            }
            AT(&o[i][16 * c]) = x;
            AT(&o[i][DK / 2 + 16 * c]) = y;
        }
}
static void flip(float (*a)[DK], long L, float (*o)[LMAX]) {
    for (long i = 0; i < L; i++)
        for (long d = 0; d < DK; d++) o[d][i] = a[i][d];
}
/* The inverse of load: gradients back, times `by`. */
static inline void store(float (*o)[DK], long ld, long L, const float *C, const float *S, float by,
                         act *p) {
    for (long i = 0; i < L; i++, p += ld)
        for (int c = 0; c < HALF; c++) {
            vec a = AT(&o[i][16 * c]) * by, b = AT(&o[i][DK / 2 + 16 * c]) * by, x = a, y = b;
            if (C) {
                vec co = AT(C + i * (DK / 2) + 16 * c), si = AT(S + i * (DK / 2) + 16 * c);
                x = a * co + b * si;
                y = b * co - a * si;
            }
            downs(p + 16 * c, x);
            downs(p + DK / 2 + 16 * c, y);
        }
}

/* B sequences of H query heads and G key/value heads. Queries stand ldq apart, keys and values
 * ldk, outputs ldo. len [B]: keys that are not padding (NULL: all). C, S: rotary tables or
 * NULL. P: [B, H, LQ, LK] probabilities, kept for the backward pass. N: the vectors that hold
 * LK scores. */
static inline __attribute__((always_inline)) void attend(
    const int N, long B, long H, long G, long LQ, long LK, int causal, const int32_t *len,
    const act *q, long ldq, const act *k, const act *v, long ldk, const float *C, const float *S,
    uint32_t seed, uint32_t cut, float scale, float *P, act *out, long ldo) {
    static float fq[LMAX][DK], fk[LMAX][DK], kT[DK][LMAX], fv[LMAX][DK], o[LMAX][DK];
    float root = 1 / sqrtf(DK);
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++, P += LQ * LK) {
            load(q + b * LQ * ldq + h * DK, ldq, LQ, C, S, root, fq);
            if (h % (H / G) == 0) {
                long g = h / (H / G);
                load(k + b * LK * ldk + g * DK, ldk, LK, C, S, 1, fk);
                flip(fk, LK, kT); /* columns beyond LK: masked below */
                load(v + b * LK * ldk + g * DK, ldk, LK, 0, 0, 1, fv);
            }
            for (long i = 0; i < LQ; i++) {
                vec s[LV], acc[V];
                float row[LMAX], top = -1e30f, sum = 0;
                long n = causal ? i + 1 : len ? len[b] : LK; /* keys this query may see */
                for (int c = 0; c < N; c++) s[c] = (vec){};
                for (long d = 0; d < DK; d++)
                    for (int c = 0; c < N; c++) s[c] += fq[i][d] * AT(&kT[d][16 * c]);
                for (int c = 0; c < N; c++) {
                    ivec seen = LANES + 16 * c < (int)n;
                    s[c] = (vec)(((ivec)s[c] & seen) | ((ivec)((vec){} - 1e30f) & ~seen));
                    float t = top_of(s[c]);
                    top = t > top ? t : top;
                }
                for (int c = 0; c < N; c++) {
                    s[c] = pick(LANES + 16 * c < (int)n, exps(s[c] - top));
                    sum += total(s[c]);
                }
                uint32_t at = (uint32_t)(((b * H + h) * LQ + i) * LK);
                for (int c = 0; c < N; c++) AT(row + 16 * c) = s[c] * (1 / sum);
                for (long j = 0; j < LK; j++) P[i * LK + j] = row[j];
                if (cut)
                    for (int c = 0; c < N; c++)
                        AT(row + 16 * c) *= masks(at + 16 * c, seed, cut, scale);
                for (int d = 0; d < V; d++) acc[d] = (vec){};
                for (long j = 0; j < n; j++)
                    for (int d = 0; d < V; d++) acc[d] += row[j] * AT(&fv[j][16 * d]);
                for (int d = 0; d < V; d++) AT(&o[i][16 * d]) = acc[d];
            }
            store(o, ldo, LQ, 0, 0, 1, out + b * LQ * ldo + h * DK);
        }
}
#define SIZED(f, ...) \
    do { \
        if (LK <= 16) f(1, __VA_ARGS__); \
        else if (LK <= 32) f(2, __VA_ARGS__); \
        else if (LK <= 64) f(4, __VA_ARGS__); \
        else f(LV, __VA_ARGS__); \
    } while (0)

void attention_fwd(long B, long H, long G, long LQ, long LK, int causal, const int32_t *len,
                   const act *q, long ldq, const act *k, const act *v, long ldk,
                   const float *C, const float *S, uint32_t seed, uint32_t cut, float scale,
                   float *P, act *out, long ldo) {
    SIZED(attend, B, H, G, LQ, LK, causal, len, q, ldq, k, v, ldk, C, S, seed, cut, scale, P,
          out, ldo);
}

static inline __attribute__((always_inline)) void attend_bwd(
    const int N, long B, long H, long G, long LQ, long LK, int causal,
    const act *q, long ldq, const act *k, const act *v, long ldk, const float *C, const float *S,
    uint32_t seed, uint32_t cut, float scale, const float *P, const act *gout, long ldo,
    act *gq, act *gk, act *gv) {
    static float fq[LMAX][DK], fk[LMAX][DK], fv[LMAX][DK], vT[DK][LMAX], go[LMAX][DK];
    static float dq[LMAX][DK], dk[LMAX][DK], dv[LMAX][DK], E[LMAX][LMAX], K[LMAX][LMAX];
    float root = 1 / sqrtf(DK);
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++, P += LQ * LK) {
            long aq = b * LQ * ldq + h * DK, ak = b * LK * ldk + h / (H / G) * DK;
            load(q + aq, ldq, LQ, C, S, root, fq);
            load(gout + b * LQ * ldo + h * DK, ldo, LQ, 0, 0, 1, go);
            if (h % (H / G) == 0) {
                load(k + ak, ldk, LK, C, S, 1, fk);
                load(v + ak, ldk, LK, 0, 0, 1, fv);
                flip(fv, LK, vT); /* columns beyond LK meet a probability of 0 */
                memset(dk, 0, sizeof(dk[0]) * LK);
                memset(dv, 0, sizeof(dv[0]) * LK);
            }
            for (long i = 0; i < LQ; i++) {
                vec g[LV], p[LV], acc[V];
                float row[LMAX], dot = 0;
                long n = causal ? i + 1 : LK;
                uint32_t at = (uint32_t)(((b * H + h) * LQ + i) * LK);
                for (int c = 0; c < N; c++) AT(row + 16 * c) = g[c] = (vec){};
                for (long j = 0; j < n; j++) row[j] = P[i * LK + j];
                for (long d = 0; d < DK; d++)
                    for (int c = 0; c < N; c++) g[c] += go[i][d] * AT(&vT[d][16 * c]);
                for (int c = 0; c < N; c++) {
                    p[c] = AT(row + 16 * c);
                    vec m = (vec){} + 1.0f;
                    if (cut) m = masks(at + 16 * c, seed, cut, scale);
                    AT(&K[i][16 * c]) = p[c] * m;
                    g[c] *= m;
                    dot += total(g[c] * p[c]);
                }
                for (int c = 0; c < N; c++) AT(&E[i][16 * c]) = p[c] * (g[c] - dot);
                for (int d = 0; d < V; d++) acc[d] = (vec){};
                for (long j = 0; j < n; j++)
                    for (int d = 0; d < V; d++) acc[d] += E[i][j] * AT(&fk[j][16 * d]);
                for (int d = 0; d < V; d++) AT(&dq[i][16 * d]) = acc[d];
            }
            for (long j = 0; j < LK; j++) {
                vec a[V], w[V];
                for (int d = 0; d < V; d++) a[d] = AT(&dk[j][16 * d]), w[d] = AT(&dv[j][16 * d]);
                for (long i = causal ? j : 0; i < LQ; i++)
                    for (int d = 0; d < V; d++) {
                        a[d] += E[i][j] * AT(&fq[i][16 * d]); /* fq holds the root already */
                        w[d] += K[i][j] * AT(&go[i][16 * d]);
                    }
                for (int d = 0; d < V; d++) AT(&dk[j][16 * d]) = a[d], AT(&dv[j][16 * d]) = w[d];
            }
            store(dq, ldq, LQ, C, S, root, gq + aq);
            if ((h + 1) % (H / G) == 0) {
                store(dk, ldk, LK, C, S, 1, gk + ak);
                store(dv, ldk, LK, 0, 0, 1, gv + ak);
            }
        }
}
void attention_bwd(long B, long H, long G, long LQ, long LK, int causal,
                   const act *q, long ldq, const act *k, const act *v, long ldk,
                   const float *C, const float *S, uint32_t seed, uint32_t cut, float scale,
                   const float *P, const act *gout, long ldo, act *gq, act *gk, act *gv) {
    SIZED(attend_bwd, B, H, G, LQ, LK, causal, q, ldq, k, v, ldk, C, S, seed, cut, scale, P,
          gout, ldo, gq, gk, gv);
}
