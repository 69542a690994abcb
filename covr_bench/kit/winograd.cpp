// relu(conv2d(x, weight, bias)) and its gradients, 3x3, stride 1, no padding, float32, NHWC, for 32 -> 32 and 64 -> 64
// channels.
//
// Winograd F(4x4, 3x3) (Lavin and Gray, arXiv:1509.09308): every 4x4 output tile is A^T [sum_c (G w G^T) * (B^T d B)] A
// for its 6x6 input tile d, so 36 products replace 144. The interpolation points are 0, 5/8, -5/8, 3/2, -3/2, infinity:
// all constants are exact in float32 and the rounding error is about a fifth of that of the usual 0, 1, -1, 2, -2.
// Backward is the adjoint of that same algorithm: the output gradient is transformed once, D = A g A^T, and serves both
// the weight gradient (V^T D) and the input gradient (D U^T, then B . B^T added up over the overlapping tiles).
//
// A block is a few rows of tiles of one image, small enough that its transforms stay in the L2 cache:
// planes V[36][tile][channel] and D[36][tile][channel]; row-wise stages keep a row of tiles as strip[column][6][lane].
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#if !defined(__AVX2__) || !defined(__FMA__)
#error "the Winograd kernel needs a CPU with AVX2 and FMA"
#endif

namespace {

constexpr int kFrequencies = 36;
#ifdef __AVX512F__
constexpr int kLanes = 16, kMaxRows = 12, kGradRows = 8;  // 24 and 16 of 32 registers hold sums
#else
constexpr int kLanes = 8, kMaxRows = 3, kGradRows = 3;  // 12 of 16 registers hold sums
#endif
constexpr int kColumns = 32 / kLanes;  // vectors of a row whose sums are in registers at once
constexpr int kBlockTiles = 20;  // the fastest of 12, 20, 30, 40 with 1 MiB of L2; 12 is as fast
typedef float vec __attribute__((vector_size(kLanes * sizeof(float))));

inline vec load(const float* p) {
    vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, vec v) { std::memcpy(p, &v, sizeof v); }

// Part f of the memory that a later stage will touch: called between products, which leave the memory bus idle.
// Blocks and images follow each other in memory, so the next block's pixels start where this one's end.
template <int kWrite>
inline void prefetch(const float* from, int64_t floats, int f) {
    for (int64_t i = floats * f / kFrequencies; i < floats * (f + 1) / kFrequencies; i += 16)
        __builtin_prefetch(from + i, kWrite, 2);
}

float* aligned(std::vector<float>& buffer, int64_t floats) {
    if (int64_t(buffer.size()) < floats + 16) buffer.resize(floats + 16);
    const auto address = reinterpret_cast<uintptr_t>(buffer.data());
    return buffer.data() + ((64 - address % 64) % 64) / sizeof(float);
}

constexpr float kA = 5 / 8.f, kB = 3 / 2.f, kA2 = kA * kA, kB2 = kB * kB, kSum = kA2 + kB2, kProduct = kA2 * kB2;

// B^T d
inline void input_transform(const vec d[6], vec v[6]) {
    const vec a = d[4] - kB2 * d[2], b = d[3] - kB2 * d[1], c = d[4] - kA2 * d[2], e = d[3] - kA2 * d[1];
    v[0] = kProduct * d[0] - kSum * d[2] + d[4];
    v[1] = a + kA * b;
    v[2] = a - kA * b;
    v[3] = c + kB * e;
    v[4] = c - kB * e;
    v[5] = kProduct * d[1] - kSum * d[3] + d[5];
}
// B v
inline void input_adjoint(const vec v[6], vec d[6]) {
    const vec s = v[1] + v[2], a = kA * (v[1] - v[2]), t = v[3] + v[4], b = kB * (v[3] - v[4]);
    d[0] = kProduct * v[0];
    d[1] = kProduct * v[5] - kB2 * a - kA2 * b;
    d[2] = -(kSum * v[0] + kB2 * s + kA2 * t);
    d[3] = a + b - kSum * v[5];
    d[4] = v[0] + s + t;
    d[5] = v[5];
}
// A^T m
inline void output_transform(const vec m[6], vec y[4]) {
    const vec s = m[1] + m[2], a = kA * (m[1] - m[2]), t = m[3] + m[4], b = kB * (m[3] - m[4]);
    y[0] = m[0] + s + t;
    y[1] = a + b;
    y[2] = kA2 * s + kB2 * t;
    y[3] = kA2 * a + kB2 * b + m[5];
}
// A g
inline void output_adjoint(const vec g[4], vec m[6]) {
    const vec a = g[0] + kA2 * g[2], b = g[1] + kA2 * g[3], c = g[0] + kB2 * g[2], e = g[1] + kB2 * g[3];
    m[0] = g[0];
    m[1] = a + kA * b;
    m[2] = a - kA * b;
    m[3] = c + kB * e;
    m[4] = c - kB * e;
    m[5] = g[3];
}

// G: the row of a point p is (1, p, p^2) / product of its distances to the other finite points.
constexpr double kDa = 2. * kA2 * (kA2 - kB2), kDb = 2. * kB2 * (kB2 - kA2);
constexpr double kG[6][3] = {{1. / kProduct, 0, 0},           {1 / kDa, kA / kDa, kA2 / kDa},
                             {1 / kDa, -kA / kDa, kA2 / kDa}, {1 / kDb, kB / kDb, kB2 / kDb},
                             {1 / kDb, -kB / kDb, kB2 / kDb}, {0, 0, 1}};

// The factor of tap k of the 3x3 weight in frequency f, and of frequency f in the gradient of tap k.
constexpr double factor(int f, int k) { return kG[f / 6][k / 3] * kG[f % 6][k % 3]; }

// The kernel for one number of channels, C.
template <int kChannels>
struct Kernel {
    static constexpr int kMatrix = kChannels * kChannels, kGroups = kChannels / kLanes;
    static constexpr bool kSplit = kChannels > 32;  // a row's sums take more than one pass over it

    struct Shape {
        int h, w, oh, ow, tile_rows, tile_cols, blocks;
        Shape(int64_t height, int64_t width)
            : h(height), w(width), oh(h - 2), ow(w - 2), tile_rows((oh + 3) / 4), tile_cols((ow + 3) / 4) {
            const int most = std::max(1, kBlockTiles / tile_cols);
            blocks = (tile_rows + most - 1) / most;
        }
        // Blocks differ by one row of tiles at most: 10 rows, 3 at most at a time, are 2 + 3 + 2 + 3.
        int first_row(int block) const { return tile_rows * block / blocks; }
        int columns() const { return 4 * tile_cols + 2; }
        // One extra cache line, so that the 36 planes of a tile do not fall into the same cache set.
        int64_t plane() const { return int64_t((tile_rows + blocks - 1) / blocks) * tile_cols * kChannels + 16; }
        int64_t strip() const { return int64_t(columns()) * 6 * kLanes; }
    };

    // u[f][i][o] = (G w[o][i] G^T)[f], or u[f][o][i] for the input gradient. weight is [o][i][9].
    static void transform_weight(const float* weight, bool swap, float* u) {
        std::vector<float> taps(9 * kMatrix);
        for (int o = 0; o < kChannels; ++o)
            for (int i = 0; i < kChannels; ++i)
                for (int k = 0; k < 9; ++k)
                    taps[k * kMatrix + (swap ? o * kChannels + i : i * kChannels + o)] =
                        weight[(o * kChannels + i) * 9 + k];
        for (int f = 0; f < kFrequencies; ++f)
            for (int e = 0; e < kMatrix; ++e) {
                double sum = 0;
                for (int k = 0; k < 9; ++k) sum += factor(f, k) * taps[k * kMatrix + e];
                u[f * kMatrix + e] = float(sum);
            }
    }

    // dw[o][i] = G^T (sum over parts of du[.][i][o]) G
    static void weight_gradient(const float* parts, int count, int64_t part_size, float* dw) {
        std::vector<double> taps(9 * kMatrix);
        for (int f = 0; f < kFrequencies; ++f)
            for (int e = 0; e < kMatrix; ++e) {
                double du = 0;
                for (int p = 0; p < count; ++p) du += parts[p * part_size + f * kMatrix + e];
                for (int k = 0; k < 9; ++k) taps[k * kMatrix + e] += factor(f, k) * du;
            }
        for (int o = 0; o < kChannels; ++o)
            for (int i = 0; i < kChannels; ++i)
                for (int k = 0; k < 9; ++k)
                    dw[(o * kChannels + i) * 9 + k] = float(taps[k * kMatrix + i * kChannels + o]);
    }

    // V of one row of tiles of image x; pixels outside the image only reach outputs that are never stored, and read as
    // 0.
    static void transform_input_row(const Shape& s, const float* x, int tile_row, float* strip, float* planes) {
        const int64_t plane = s.plane();
        const int rows = std::min(6, s.h - 4 * tile_row);
        for (int group = 0; group < kGroups; ++group) {
            const float* corner = x + (int64_t(4 * tile_row) * s.w) * kChannels + group * kLanes;
            for (int col = 0; col < s.columns(); ++col) {
                vec d[6] = {}, v[6];
                const float* p = corner + col * kChannels;
                for (int r = 0; r < 6; ++r)
                    if (r < rows && col < s.w) d[r] = load(p + int64_t(r) * s.w * kChannels);
                input_transform(d, v);
                for (int r = 0; r < 6; ++r) store(strip + (col * 6 + r) * kLanes, v[r]);
            }
            for (int r = 0; r < 6; ++r)
                for (int tile = 0; tile < s.tile_cols; ++tile) {
                    vec d[6], v[6];
                    for (int k = 0; k < 6; ++k) d[k] = load(strip + ((4 * tile + k) * 6 + r) * kLanes);
                    input_transform(d, v);
                    float* to = planes + r * 6 * plane + tile * kChannels + group * kLanes;
                    for (int k = 0; k < 6; ++k) store(to + k * plane, v[k]);
                }
        }
    }

    // relu(A^T M A + bias) of one row of tiles, into image y.
    static void store_output_row(const Shape& s, const float* planes, const float* bias, int tile_row, float* y) {
        const int64_t plane = s.plane();
        const int rows = std::min(4, s.oh - 4 * tile_row);
        for (int tile = 0; tile < s.tile_cols; ++tile)
            for (int group = 0; group < kGroups; ++group) {
                const float* from = planes + tile * kChannels + group * kLanes;
                vec half[6][4];
                for (int k = 0; k < 6; ++k) {
                    vec m[6];
                    for (int r = 0; r < 6; ++r) m[r] = load(from + (r * 6 + k) * plane);
                    output_transform(m, half[k]);
                }
                const vec b = load(bias + group * kLanes), zero = {};
                const int cols = std::min(4, s.ow - 4 * tile);
                for (int r = 0; r < 4; ++r) {
                    vec m[6], out[4];
                    for (int k = 0; k < 6; ++k) m[k] = half[k][r];
                    output_transform(m, out);
                    if (r >= rows) continue;
                    float* to = y + (int64_t(4 * tile_row + r) * s.ow + 4 * tile) * kChannels + group * kLanes;
                    for (int c = 0; c < 4; ++c) {
                        const vec v = out[c] + b;
                        if (c < cols) store(to + c * kChannels, v < zero ? zero : v);  // keeps NaN, as torch does
                    }
                }
            }
    }

    // D = A (g where y > 0) A^T of one row of tiles; outputs beyond the edge have no gradient.
    static void transform_gradient_row(const Shape& s, const float* g, const float* y, int tile_row, float* planes,
                                float* bias_sum) {
        const int64_t plane = s.plane();
        const int rows = std::min(4, s.oh - 4 * tile_row);
        const vec zero = {};
        vec sum[kGroups] = {};
        for (int tile = 0; tile < s.tile_cols; ++tile)
            for (int group = 0; group < kGroups; ++group) {
                const int cols = std::min(4, s.ow - 4 * tile);
                vec half[4][6];
                for (int c = 0; c < 4; ++c) {
                    vec masked[4];
                    for (int r = 0; r < 4; ++r) {
                        const int64_t pixel = int64_t(4 * tile_row + r) * s.ow + 4 * tile + c;
                        const int64_t at = pixel * kChannels + group * kLanes;
                        masked[r] = r < rows && c < cols ? (load(y + at) <= zero ? zero : load(g + at)) : zero;
                    }
                    sum[group] += (masked[0] + masked[1]) + (masked[2] + masked[3]);
                    output_adjoint(masked, half[c]);
                }
                float* to = planes + tile * kChannels + group * kLanes;
                for (int r = 0; r < 6; ++r) {
                    vec line[4], m[6];
                    for (int c = 0; c < 4; ++c) line[c] = half[c][r];
                    output_adjoint(line, m);
                    for (int k = 0; k < 6; ++k) store(to + (r * 6 + k) * plane, m[k]);
                }
            }
        for (int group = 0; group < kGroups; ++group) {
            float* to = bias_sum + group * kLanes;
            store(to, load(to) + sum[group]);
        }
    }

    // dx += B dV B^T of one row of tiles. Rows of tiles come in order: the first two pixel rows add to the row before.
    static void add_input_gradient_row(const Shape& s, const float* planes, int tile_row, float* strip, float* dx) {
        const int64_t plane = s.plane();
        const int rows = std::min(6, s.h - 4 * tile_row);
        for (int group = 0; group < kGroups; ++group) {
            for (int r = 0; r < 6; ++r) {
                vec carry[2] = {};
                for (int tile = 0; tile < s.tile_cols; ++tile) {
                    const float* from = planes + r * 6 * plane + tile * kChannels + group * kLanes;
                    vec v[6], d[6];
                    for (int k = 0; k < 6; ++k) v[k] = load(from + k * plane);
                    input_adjoint(v, d);
                    float* to = strip + (4 * tile * 6 + r) * kLanes;
                    store(to, d[0] + carry[0]);
                    store(to + 6 * kLanes, d[1] + carry[1]);
                    store(to + 12 * kLanes, d[2]);
                    store(to + 18 * kLanes, d[3]);
                    carry[0] = d[4];
                    carry[1] = d[5];
                }
                store(strip + (4 * s.tile_cols * 6 + r) * kLanes, carry[0]);
                store(strip + ((4 * s.tile_cols + 1) * 6 + r) * kLanes, carry[1]);
            }
            for (int col = 0; col < s.w; ++col) {
                vec v[6], d[6];
                for (int r = 0; r < 6; ++r) v[r] = load(strip + (col * 6 + r) * kLanes);
                input_adjoint(v, d);
                float* to = dx + (int64_t(4 * tile_row) * s.w + col) * kChannels + group * kLanes;
                const int64_t row = int64_t(s.w) * kChannels;
                if (tile_row > 0) {
                    d[0] += load(to);
                    d[1] += load(to + row);
                }
                for (int r = 0; r < 6; ++r)
                    if (r < rows) store(to + r * row, d[r]);
            }
        }
    }

    // v[N][C] <- v[N][C] u[C][C]
    template <int N>
    static void multiply_rows(const float* u, float* v) {
        float copy[kSplit ? N * kChannels : 1];
        const float* from = v;
        if constexpr (kSplit) from = static_cast<float*>(std::memcpy(copy, v, sizeof copy));
        for (int first = 0; first < kChannels; first += 32) {
            vec sum[N][kColumns] = {};
            for (int k = 0; k < kChannels; ++k) {
                vec b[kColumns];
                for (int j = 0; j < kColumns; ++j) b[j] = load(u + k * kChannels + first + j * kLanes);
#pragma GCC unroll 16
                for (int n = 0; n < N; ++n)
                    for (int j = 0; j < kColumns; ++j) sum[n][j] += from[n * kChannels + k] * b[j];
            }
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n)
                for (int j = 0; j < kColumns; ++j) store(v + n * kChannels + first + j * kLanes, sum[n][j]);
        }
    }

    using RowKernel = void (*)(const float*, float*);
    template <int... N>
    static constexpr std::array<RowKernel, sizeof...(N)> row_kernels(std::integer_sequence<int, N...>) {
        return {multiply_rows<N + 1>...};
    }

    static void multiply(const float* u, float* v, int tiles) {
        static constexpr auto kernels = row_kernels(std::make_integer_sequence<int, kMaxRows>{});
        for (int pieces = (tiles + kMaxRows - 1) / kMaxRows; pieces > 0; --pieces) {
            const int rows = (tiles + pieces - 1) / pieces;
            kernels[rows - 1](u, v);
            v += rows * kChannels;
            tiles -= rows;
        }
    }

    // du[N][32] += v[tiles][N]^T d[tiles][32], of matrices with C columns
    template <int N>
    static void accumulate_rows(const float* v, const float* d, int tiles, float* du) {
        vec sum[N][kColumns] = {};
        for (int t = 0; t < tiles; ++t) {
            vec b[kColumns];
            for (int j = 0; j < kColumns; ++j) b[j] = load(d + t * kChannels + j * kLanes);
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n)
                for (int j = 0; j < kColumns; ++j) sum[n][j] += v[t * kChannels + n] * b[j];
        }
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n)
            for (int j = 0; j < kColumns; ++j) {
                float* to = du + n * kChannels + j * kLanes;
                store(to, load(to) + sum[n][j]);
            }
    }

    static void accumulate(const float* v, const float* d, int tiles, float* du) {
        constexpr int rest = kChannels % kGradRows;
        for (int first = 0; first < kChannels; first += 32) {
            for (int c = 0; c + kGradRows <= kChannels; c += kGradRows)
                accumulate_rows<kGradRows>(v + c, d + first, tiles, du + c * kChannels + first);
            if constexpr (rest > 0)
                accumulate_rows<rest>(v + kChannels - rest, d + first, tiles,
                                      du + (kChannels - rest) * kChannels + first);
        }
    }

    // x (batch, h, w, C), weight (C, C, 3, 3), bias (C), y (batch, h - 2, w - 2, C)
    static void forward(const float* x, const float* weight, const float* bias, float* y, int64_t batch, int64_t h,
                        int64_t w, int threads) {
        const Shape s(h, w);
        std::vector<float> u_buffer;
        float* u = aligned(u_buffer, kFrequencies * kMatrix);
        transform_weight(weight, false, u);
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t image = 0; image < batch; ++image) {
            static thread_local std::vector<float> buffer;
            float* planes = aligned(buffer, kFrequencies * s.plane() + s.strip());
            float* strip = planes + kFrequencies * s.plane();
            const float* from = x + image * s.h * s.w * kChannels;
            float* to = y + image * s.oh * s.ow * kChannels;
            const int row_floats = s.tile_cols * kChannels;
            const int64_t in_row = int64_t(s.w) * kChannels, out_row = int64_t(s.ow) * kChannels;
            for (int block = 0; block < s.blocks; ++block) {
                const int first = s.first_row(block), rows = s.first_row(block + 1) - first;
                for (int r = 0; r < rows; ++r) transform_input_row(s, from, first + r, strip, planes + r * row_floats);
                const int64_t done = 4 * (first + rows);
                for (int f = 0; f < kFrequencies; ++f) {
                    prefetch<0>(from + (done + 2) * in_row, 4 * rows * in_row, f);
                    prefetch<1>(to + 4 * first * out_row, 4 * rows * out_row, f);
                    multiply(u + f * kMatrix, planes + f * s.plane(), rows * s.tile_cols);
                }
                for (int r = 0; r < rows; ++r) store_output_row(s, planes + r * row_floats, bias, first + r, to);
            }
        }
    }

    // g: gradient of y. dx and the pair dw, db may be null where not wanted; all are overwritten.
    static void backward(const float* x, const float* weight, const float* y, const float* g, float* dx, float* dw,
                         float* db, int64_t batch, int64_t h, int64_t w, int threads) {
        const Shape s(h, w);
        constexpr int64_t part_size = kFrequencies * kMatrix + kChannels;
        std::vector<float> u_buffer, parts;
        float* u = aligned(u_buffer, kFrequencies * kMatrix);
        if (dx) transform_weight(weight, true, u);
        parts.assign(part_size * threads, 0.f);
        // One fixed range of images and one sum per part: equal results whenever `threads` is equal.
#pragma omp parallel for schedule(static, 1) num_threads(threads)
        for (int part = 0; part < threads; ++part) {
            static thread_local std::vector<float> buffer;
            float* v = aligned(buffer, 2 * kFrequencies * s.plane() + s.strip());
            float* d = v + kFrequencies * s.plane();
            float* strip = d + kFrequencies * s.plane();
            float* du = parts.data() + part * part_size;
            float* bias_sum = du + kFrequencies * kMatrix;
            const int row_floats = s.tile_cols * kChannels;
            const int64_t in_row = int64_t(s.w) * kChannels, out_row = int64_t(s.ow) * kChannels;
            for (int64_t image = batch * part / threads; image < batch * (part + 1) / threads; ++image)
                for (int block = 0; block < s.blocks; ++block) {
                    const int first = s.first_row(block), rows = s.first_row(block + 1) - first;
                    const int tiles = rows * s.tile_cols;
                    const int64_t out = image * s.oh * s.ow * kChannels, in = image * s.h * s.w * kChannels;
                    for (int r = 0; r < rows; ++r) {
                        transform_gradient_row(s, g + out, y + out, first + r, d + r * row_floats, bias_sum);
                        if (dw) transform_input_row(s, x + in, first + r, strip, v + r * row_floats);
                    }
                    const int64_t done = 4 * (first + rows);
                    for (int f = 0; f < kFrequencies; ++f) {
                        prefetch<0>(g + out + done * out_row, 4 * rows * out_row, f);
                        prefetch<0>(y + out + done * out_row, 4 * rows * out_row, f);
                        if (dw) prefetch<0>(x + in + (done + 2) * in_row, 4 * rows * in_row, f);
                        if (dx) prefetch<1>(dx + in + 4 * first * in_row, 4 * rows * in_row, f);
                        float* df = d + f * s.plane();
                        if (dw) accumulate(v + f * s.plane(), df, tiles, du + f * kMatrix);
                        if (dx) multiply(u + f * kMatrix, df, tiles);
                    }
                    if (dx)
                        for (int r = 0; r < rows; ++r)
                            add_input_gradient_row(s, d + r * row_floats, first + r, strip, dx + in);
                }
        }
        if (!dw) return;
        weight_gradient(parts.data(), threads, part_size, dw);
        for (int c = 0; c < kChannels; ++c) {
            double sum = 0;
            for (int p = 0; p < threads; ++p) sum += parts[p * part_size + kFrequencies * kMatrix + c];
            db[c] = float(sum);
        }
    }
};

}  // namespace

extern "C" {

void conv3x3_relu_forward(const float* x, const float* weight, const float* bias, float* y, int64_t channels,
                          int64_t batch, int64_t h, int64_t w, int threads) {
    const auto kernel = channels == 64 ? Kernel<64>::forward : Kernel<32>::forward;
    kernel(x, weight, bias, y, batch, h, w, threads);
}

void conv3x3_relu_backward(const float* x, const float* weight, const float* y, const float* g, float* dx, float* dw,
                           float* db, int64_t channels, int64_t batch, int64_t h, int64_t w, int threads) {
    const auto kernel = channels == 64 ? Kernel<64>::backward : Kernel<32>::backward;
    kernel(x, weight, y, g, dx, dw, db, batch, h, w, threads);
}

}  // extern "C"
