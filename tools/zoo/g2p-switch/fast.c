/* Fused kernels for training on one CPU core: attention over short sequences, residual +
 * dropout + RMS norm, relu + dropout. Activations are bfloat16 (stored as uint16_t), the
 * residual stream, the statistics and all sums float32. Dropout masks are a hash of
 * (seed, position), computed again in the backward pass instead of being stored.
 * Built by fast.py with -DDK=<d_kv>. */
#include <math.h>
#include <stdint.h>

#define LMAX 64 /* longest sequence */

typedef uint16_t bf16;

static inline float up(bf16 v) {
    union { uint32_t u; float f; } c = {(uint32_t)v << 16};
    return c.f;
}
static inline bf16 down(float v) { /* round to nearest even */
    union { float f; uint32_t u; } c = {v};
    return (bf16)((c.u + 0x7fff + ((c.u >> 16) & 1)) >> 16);
}
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
void resnorm_fwd(long N, long D, const float *restrict x, const bf16 *restrict y,
                 const float *restrict w, float eps, uint32_t seed, uint32_t cut, float scale,
                 uint32_t seed2, uint32_t cut2, float scale2,
                 float *restrict xo, float *restrict r, bf16 *restrict n) {
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
void resnorm_bwd(long N, long D, const bf16 *restrict gn, const float *restrict gxo,
                 const float *restrict xo, const float *restrict r, const float *restrict w,
                 uint32_t seed, uint32_t cut, float scale,
                 uint32_t seed2, uint32_t cut2, float scale2,
                 float *restrict gx, bf16 *restrict gy, float *restrict gw) {
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

/* h = dropout(relu(h)), in place */
void relu_fwd(long n, bf16 *restrict h, uint32_t seed, uint32_t cut, float scale) {
    for (long i = 0; i < n; i++) {
        float v = up(h[i]);
        h[i] = down((v > 0 ? v : 0) * mask((uint32_t)i, seed, cut, scale));
    }
}
void relu_bwd(long n, const bf16 *restrict h, bf16 *restrict g, float scale) {
    for (long i = 0; i < n; i++) g[i] = (h[i] & 0x7fff) ? down(up(g[i]) * scale) : 0;
}

/* Sixteen floats at a time, spelled out: compilers unroll these short loops into scalars. */
typedef float vec __attribute__((vector_size(64)));
typedef uint32_t uvec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef float vec_at __attribute__((vector_size(64), aligned(4), may_alias)); /* in memory */
#define V (DK / 16)  /* vectors in a head */
#define LV (LMAX / 16)
static const ivec LANES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

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

/* Rows of DK values, `ld` apart, to floats; T: transposed. */
static void load(const bf16 *restrict p, long ld, long L, float (*restrict o)[DK]) {
    for (long i = 0; i < L; i++)
        for (long d = 0; d < DK; d++) o[i][d] = up(p[i * ld + d]);
}
static void loadT(const bf16 *restrict p, long ld, long L, float (*restrict o)[LMAX]) {
    for (long i = 0; i < L; i++)
        for (long d = 0; d < DK; d++) o[d][i] = up(p[i * ld + d]);
}
static void store(const float (*restrict o)[DK], long ld, long L, bf16 *restrict p) {
    for (long i = 0; i < L; i++)
        for (long d = 0; d < DK; d++) p[i * ld + d] = down(o[i][d]);
}
#define AT(p) (*(vec_at *)(p))

/* One head at a time. bias: [H, LQ, LK] or NULL. P: [B, H, LQ, LK] probabilities (kept for
 * the backward pass). Queries stand ldq apart, keys and values ldk, outputs H * DK. N: the
 * vectors that hold LK scores. */
static inline __attribute__((always_inline)) void attend(
    const int N, long B, long H, long LQ, long LK, int causal,
    const bf16 *q, long ldq, const bf16 *k, const bf16 *v, long ldk,
    const float *bias, uint32_t seed, uint32_t cut, float scale, float *P, bf16 *out) {
    static float fq[LMAX][DK], kT[DK][LMAX], fv[LMAX][DK], o[LMAX][DK];
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++, P += LQ * LK) {
            load(q + b * LQ * ldq + h * DK, ldq, LQ, fq);
            loadT(k + b * LK * ldk + h * DK, ldk, LK, kT); /* columns beyond LK: masked below */
            load(v + b * LK * ldk + h * DK, ldk, LK, fv);
            for (long i = 0; i < LQ; i++) {
                vec s[LV], acc[V];
                float row[LMAX], top = -1e30f, sum = 0;
                long n = causal ? i + 1 : LK; /* keys this query may see */
                for (int c = 0; c < N; c++) s[c] = (vec){};
                for (long d = 0; d < DK; d++)
                    for (int c = 0; c < N; c++) s[c] += fq[i][d] * AT(&kT[d][16 * c]);
                if (bias) {
                    for (int c = 0; c < N; c++) AT(row + 16 * c) = s[c];
                    for (long j = 0; j < n; j++) row[j] += bias[(h * LQ + i) * LK + j];
                    for (int c = 0; c < N; c++) s[c] = AT(row + 16 * c);
                }
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
            store((const float(*)[DK])o, H * DK, LQ, out + (b * LQ * H + h) * DK);
        }
}
#define SIZED(f, ...) \
    do { \
        if (LK <= 16) f(1, __VA_ARGS__); \
        else if (LK <= 32) f(2, __VA_ARGS__); \
        else f(LV, __VA_ARGS__); \
    } while (0)

void attention_fwd(long B, long H, long LQ, long LK, int causal,
                   const bf16 *q, long ldq, const bf16 *k, const bf16 *v, long ldk,
                   const float *bias, uint32_t seed, uint32_t cut, float scale,
                   float *P, bf16 *out) {
    SIZED(attend, B, H, LQ, LK, causal, q, ldq, k, v, ldk, bias, seed, cut, scale, P, out);
}

static inline __attribute__((always_inline)) void attend_bwd(
    const int N, long B, long H, long LQ, long LK, int causal,
    const bf16 *q, long ldq, const bf16 *k, const bf16 *v, long ldk,
    uint32_t seed, uint32_t cut, float scale, const float *P, const bf16 *gout,
    bf16 *gq, bf16 *gk, bf16 *gv, float *gbias) {
    static float fq[LMAX][DK], fk[LMAX][DK], vT[DK][LMAX], go[LMAX][DK];
    static float dq[LMAX][DK], dk[LMAX][DK], dv[LMAX][DK], G[LMAX][LMAX], C[LMAX][LMAX];
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++, P += LQ * LK) {
            long aq = b * LQ * ldq + h * DK, ak = b * LK * ldk + h * DK;
            load(q + aq, ldq, LQ, fq);
            load(k + ak, ldk, LK, fk);
            loadT(v + ak, ldk, LK, vT); /* columns beyond LK meet a probability of 0 */
            load(gout + (b * LQ * H + h) * DK, H * DK, LQ, go);
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
                    AT(&C[i][16 * c]) = p[c] * m;
                    g[c] *= m;
                    dot += total(g[c] * p[c]);
                }
                for (int c = 0; c < N; c++) AT(&G[i][16 * c]) = p[c] * (g[c] - dot);
                if (gbias)
                    for (long j = 0; j < n; j++) gbias[(h * LQ + i) * LK + j] += G[i][j];
                for (int d = 0; d < V; d++) acc[d] = (vec){};
                for (long j = 0; j < n; j++)
                    for (int d = 0; d < V; d++) acc[d] += G[i][j] * AT(&fk[j][16 * d]);
                for (int d = 0; d < V; d++) AT(&dq[i][16 * d]) = acc[d];
            }
            for (long j = 0; j < LK; j++) {
                vec a[V], w[V];
                for (int d = 0; d < V; d++) a[d] = w[d] = (vec){};
                for (long i = causal ? j : 0; i < LQ; i++)
                    for (int d = 0; d < V; d++) {
                        a[d] += G[i][j] * AT(&fq[i][16 * d]);
                        w[d] += C[i][j] * AT(&go[i][16 * d]);
                    }
                for (int d = 0; d < V; d++) AT(&dk[j][16 * d]) = a[d], AT(&dv[j][16 * d]) = w[d];
            }
            store((const float(*)[DK])dq, ldq, LQ, gq + aq);
            store((const float(*)[DK])dk, ldk, LK, gk + ak);
            store((const float(*)[DK])dv, ldk, LK, gv + ak);
        }
}
/* gbias [H, LQ, LK] must be zeroed by the caller, or NULL. */
void attention_bwd(long B, long H, long LQ, long LK, int causal,
                   const bf16 *q, long ldq, const bf16 *k, const bf16 *v, long ldk,
                   uint32_t seed, uint32_t cut, float scale, const float *P, const bf16 *gout,
                   bf16 *gq, bf16 *gk, bf16 *gv, float *gbias) {
    SIZED(attend_bwd, B, H, LQ, LK, causal, q, ldq, k, v, ldk, seed, cut, scale, P, gout,
          gq, gk, gv, gbias);
}
