// What every implementation does the same way, written once over a vector of 16 lanes.
//
// Included inside an implementation's target region and its unnamed namespace, after `V` is defined and activations.inl:
// everything here is local to that file. V::Floats, V::Ints and V's functions are its intrinsics.
// Steps run outside, pixels inside, so that a step is decoded once for several pixels. Loops over pixels are
// unrolled by pragma: else the registers go through memory between steps.

constexpr int kAtOnce = 4;

inline void store_bits(uint8_t* to, uint32_t mask, int n_lanes) {
  to[0] = static_cast<uint8_t>(mask);
  if (n_lanes > 8) to[1] = static_cast<uint8_t>(mask >> 8);
}

// Channels [channel, channel + n_lanes) of a pixel of a residual tensor with fewer channels.
inline V::Floats part_of(const float* pixel, const Step& step, int64_t channel, int n_lanes) {
  const int64_t first = channel - step.before;
  if (first >= 0 && first + n_lanes <= step.channels) return V::load_part(pixel + first, n_lanes);
  if (first >= step.channels || first + n_lanes <= 0) return V::all(0.0f);
  float lanes[kLanes] = {};
  for (int i = 0; i < n_lanes; ++i)
    if (first + i >= 0 && first + i < step.channels) lanes[i] = pixel[first + i];
  return V::load(lanes);
}

template <int N>
inline void write_floats(const V::Floats (&v)[N], const Output& out, int64_t pixel, int64_t channel,
                         int n_lanes) {
  if (out.y == nullptr) return;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i)
    V::store_part(out.y + (pixel + i) * out.y_stride + channel, v[i], n_lanes);
}

template <int N>
inline void write_bits(const V::Floats (&v)[N], const Output& out, int64_t pixel, int64_t channel,
                       int n_lanes) {
  if (out.bits == nullptr) return;
  const uint32_t used = (1u << n_lanes) - 1;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i)
    store_bits(out.bits + (pixel + i) * out.bits_stride + channel / 8, V::negative(v[i]) & used,
               n_lanes);
}

// The steps, and y and the signs where they are wanted.
template <int N>
inline void finish_block(V::Floats (&v)[N], const Output& out, int64_t pixel, int64_t channel,
                         int n_lanes) {
  bool is_written = false;
  float held[N * kLanes];
  for (int64_t s = 0; s < out.n_steps; ++s) {
    const Step& step = out.steps[s];
    switch (step.kind) {
      case StepKind::multiply: {
        const V::Floats by = V::load(step.values + channel);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) v[i] = V::multiply(v[i], by);
        break;
      }
      case StepKind::add: {
        const V::Floats by = V::load(step.values + channel);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) v[i] = V::add(v[i], by);
        break;
      }
      case StepKind::residual: {
        const float* from = out.residuals[step.residual];
        if (step.channels > 0) {
          from += pixel * step.channels;
#pragma GCC unroll 8
          for (int i = 0; i < N; ++i, from += step.channels)
            v[i] = V::add(v[i], part_of(from, step, channel, n_lanes));
          break;
        }
        from += pixel * out.residual_stride + channel;
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i)
          v[i] = V::add(v[i], V::load_part(from + i * out.residual_stride, n_lanes));
        break;
      }
      case StepKind::clamp: {
        const V::Floats low = V::all(step.low), high = V::all(step.high);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) v[i] = V::clamp(v[i], low, high);
        break;
      }
      case StepKind::prelu: {
        const V::Floats slope = V::load(step.values + channel);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) v[i] = V::prelu(v[i], slope);
        break;
      }
      case StepKind::write: {
        write_floats<N>(v, out, pixel, channel, n_lanes);
        is_written = true;
        break;
      }
      case StepKind::hold: {
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) V::store(held + i * kLanes, v[i]);
        break;
      }
      case StepKind::keep: {
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) v[i] = kept(v[i], V::load(held + i * kLanes));
        break;
      }
      default: {
        float values[N * kLanes];
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) V::store(values + i * kLanes, v[i]);
        activate(step, channel, N, 1, values);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) v[i] = V::load(values + i * kLanes);
      }
    }
  }
  if (!is_written) write_floats<N>(v, out, pixel, channel, n_lanes);
  write_bits<N>(v, out, pixel, channel, n_lanes);
}

inline int lanes_left(int64_t n) { return n < kLanes ? static_cast<int>(n) : kLanes; }

template <int N>
inline void counts_block(const int32_t* counts, int64_t count_stride, V::Ints correction,
                         int64_t pixel, int64_t channel, int n_lanes, const Output& out) {
  V::Floats v[N];
  for (int i = 0; i < N; ++i) v[i] = V::to_floats(V::dots(counts + i * count_stride, correction));
  finish_block<N>(v, out, pixel, channel, n_lanes);
}

void finish_counts(const int32_t* counts, int n_blocks, const int32_t* correction, int64_t n_pixels,
                   int64_t channel, int64_t n_channels, const Output& out) {
  const int64_t stride = n_blocks * kLanes;
  for (int b = 0; b < n_blocks; ++b) {
    const int64_t c = channel + b * kLanes;
    const int n_lanes = lanes_left(channel + n_channels - c);
    const int32_t* from = counts + b * kLanes;
    const V::Ints shared = V::load_ints(correction + c);
    int64_t p = 0;
    for (; p + kAtOnce <= n_pixels; p += kAtOnce)
      counts_block<kAtOnce>(from + p * stride, stride, shared, p, c, n_lanes, out);
    for (; p < n_pixels; ++p)
      counts_block<1>(from + p * stride, stride, shared, p, c, n_lanes, out);
  }
}

void finish_thresholds(const int32_t* counts, int n_blocks, const int32_t* correction,
                       int64_t n_pixels, int64_t channel, int64_t n_channels,
                       const Thresholds& against, const Output& out) {
  for (int b = 0; b < n_blocks; ++b) {
    const int64_t c = channel + b * kLanes;
    const int n_lanes = lanes_left(channel + n_channels - c);
    const uint32_t used = (1u << n_lanes) - 1;
    const uint32_t flips = against.flips[c / 8] | against.flips[c / 8 + 1] << 8;
    const V::Ints shared = V::load_ints(correction + c), lower = V::load_ints(against.lower + c);
    const int32_t* from = counts + b * kLanes;
    uint8_t* to = out.bits + c / 8;
    for (int64_t p = 0; p < n_pixels; ++p, from += n_blocks * kLanes, to += out.bits_stride)
      store_bits(to, (V::less(V::dots(from, shared), lower) ^ flips) & used, n_lanes);
  }
}

template <int N>
inline void floats_block(const float* x, int64_t x_stride, int64_t pixel, int64_t channel,
                         int n_lanes, const Output& out) {
  V::Floats v[N];
  for (int i = 0; i < N; ++i) v[i] = V::load_part(x + i * x_stride, n_lanes);
  finish_block<N>(v, out, pixel, channel, n_lanes);
}

void finish_floats(const float* x, int64_t x_stride, int64_t n_pixels, int64_t channel,
                   int64_t n_channels, const Output& out) {
  int64_t p = 0;
  for (; p + kAtOnce <= n_pixels; p += kAtOnce)
    for (int64_t c = 0; c < n_channels; c += kLanes)
      floats_block<kAtOnce>(x + p * x_stride + c, x_stride, p, channel + c,
                            lanes_left(n_channels - c), out);
  for (; p < n_pixels; ++p)
    for (int64_t c = 0; c < n_channels; c += kLanes)
      floats_block<1>(x + p * x_stride + c, x_stride, p, channel + c, lanes_left(n_channels - c),
                      out);
}

// Pixels of a tile whose sums fit the registers. Few sums would wait for themselves, so a tile is split
// as evenly as it can be: 7 pixels into 4 and 3.
constexpr int kSumPixels = V::kRegisters == 1 ? 8 : V::kRegisters == 2 ? 6 : 4;

// F<n>::run for n ≤ N pixels from p on.
template <template <int> class F, int N, class... Arguments>
inline void in_one_part(int n, int p, const Arguments&... arguments) {
  if constexpr (N > 1)
    if (n < N) return in_one_part<F, N - 1>(n, p, arguments...);
  F<N>::run(p, arguments...);
}

template <template <int> class F, class... Arguments>
inline void in_even_parts(int n_pixels, const Arguments&... arguments) {
  const int n_parts = (n_pixels + kSumPixels - 1) / kSumPixels;
  for (int t = 0, p = 0; t < n_parts; ++t) {
    const int end = n_pixels * (t + 1) / n_parts;
    in_one_part<F, kSumPixels>(end - p, p, arguments...);
    p = end;
  }
}

// Float sums of products for N pixels of one block.
template <int N>
inline void products_block(const Patches& patches, const float* weights, float* sums,
                           int64_t sum_stride) {
  V::Floats total[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) total[i] = V::all(0.0f);
  const float* segment = reinterpret_cast<const float*>(patches.first);
  for (int64_t s = 0; s < patches.n_segments; ++s, segment += patches.segment_stride)
    for (int64_t j = 0; j < patches.segment_words; ++j, weights += kLanes) {
      const V::Floats weight = V::load(weights);
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i)
        total[i] = V::multiply_add(V::all(segment[i * patches.pixel_stride + j]), weight, total[i]);
    }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) V::store(sums + i * sum_stride, total[i]);
}

inline Patches from_pixel(const Patches& patches, int p) {
  Patches here = patches;
  here.first += p * patches.pixel_stride;
  return here;
}

template <int N>
struct Products {
  static void run(int p, const Patches& patches, const float* weights, float* sums,
                  int64_t stride) {
    products_block<N>(from_pixel(patches, p), weights, sums + p * stride, stride);
  }
};

void products(const Patches& patches, int n_pixels, const float* weights, int64_t block_stride,
              int n_blocks, float* sums) {
  for (int b = 0; b < n_blocks; ++b)
    in_even_parts<Products>(n_pixels, patches, weights + b * block_stride, sums + b * kLanes,
                            int64_t{n_blocks} * kLanes);
}

struct TableSigns {
  float at[4][kLanes] = {};

  constexpr TableSigns() {
    for (uint32_t signs = 0; signs < kLanes; ++signs)
      for (int k = 0; k < 4; ++k) at[k][table_code(signs)] = signs >> k & 1 ? -1.0f : 1.0f;
  }
};

void make_tables(const float* x, int64_t n_pixels, int64_t n_channels, float* to) {
  constexpr TableSigns signs;
  const V::Floats by0 = V::load(signs.at[0]), by1 = V::load(signs.at[1]);
  const V::Floats by2 = V::load(signs.at[2]), by3 = V::load(signs.at[3]);
  for (int64_t p = 0; p < n_pixels; ++p)
    for (int64_t c = 0; c < n_channels; c += 4, to += kLanes) {
      float four[4] = {};
      const int64_t n = n_channels - c < 4 ? n_channels - c : 4;
      for (int64_t i = 0; i < n; ++i) four[i] = *x++;
      const V::Floats first =
          V::add(V::multiply(V::all(four[0]), by0), V::multiply(V::all(four[1]), by1));
      const V::Floats last =
          V::add(V::multiply(V::all(four[2]), by2), V::multiply(V::all(four[3]), by3));
      V::store(to, V::add(first, last));
    }
}

// Sums of entries of tables for N pixels of one block.
template <int N>
inline void lookups_block(const Patches& patches, const uint32_t* weights, float* sums,
                          int64_t sum_stride) {
  V::Floats total[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) total[i] = V::all(0.0f);
  const float* segment = reinterpret_cast<const float*>(patches.first);
  for (int64_t s = 0; s < patches.n_segments; ++s, segment += patches.segment_stride) {
    const float* table = segment;
    for (int64_t left = patches.segment_words; left > 0; left -= kCodesAWord, weights += kLanes) {
      V::Codes codes = V::codes(weights);
      const int64_t n = left < kCodesAWord ? left : kCodesAWord;
      for (int64_t j = 0; j < n; ++j, table += kLanes, V::next(codes)) {
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i)
          total[i] = V::add(total[i], V::entries(table + i * patches.pixel_stride, codes));
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) V::store(sums + i * sum_stride, total[i]);
}

template <int N>
struct Lookups {
  static void run(int p, const Patches& patches, const uint32_t* weights, float* sums,
                  int64_t stride) {
    lookups_block<N>(from_pixel(patches, p), weights, sums + p * stride, stride);
  }
};

void look_up(const Patches& patches, int n_pixels, const uint32_t* weights, int64_t block_stride,
             int n_blocks, float* sums) {
  for (int b = 0; b < n_blocks; ++b)
    in_even_parts<Lookups>(n_pixels, patches, weights + b * block_stride, sums + b * kLanes,
                           int64_t{n_blocks} * kLanes);
}

// Integer sums of products of pairs for N pixels of one block.
template <int N>
inline void pairs_block(const PairPatches& patches, const uint32_t* weights,
                        const int32_t* const* correction, float* sums, int64_t sum_stride) {
  V::Ints total[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) total[i] = V::load_ints(correction[i]);
  const int16_t* segment = patches.first;
  for (int64_t s = 0; s < patches.n_segments; ++s, segment += patches.segment_stride)
    for (int64_t j = 0; j < patches.segment_pairs; ++j, weights += kLanes) {
      const V::Ints weight = V::load_ints(reinterpret_cast<const int32_t*>(weights));
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i)
        V::add_pairs(total[i], weight, V::all_pairs(segment + i * patches.pixel_stride + 2 * j));
    }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) V::store(sums + i * sum_stride, V::to_floats(total[i]));
}

template <int N>
struct Pairs {
  static void run(int p, const PairPatches& patches, const uint32_t* weights,
                  const int32_t* const* correction, float* sums, int64_t stride) {
    PairPatches here = patches;
    here.first += p * patches.pixel_stride;
    pairs_block<N>(here, weights, correction + p, sums + p * stride, stride);
  }
};

void pair_products(const PairPatches& patches, int n_pixels, const uint32_t* weights,
                   int64_t block_stride, int n_blocks, const int32_t* const* correction,
                   int64_t channel, float* sums) {
  for (int b = 0; b < n_blocks; ++b) {
    const int32_t* shifted[kMaxPixels];
    for (int p = 0; p < n_pixels; ++p) shifted[p] = correction[p] + channel + b * kLanes;
    in_even_parts<Pairs>(n_pixels, patches, weights + b * block_stride,
                         static_cast<const int32_t* const*>(shifted), sums + b * kLanes,
                         int64_t{n_blocks} * kLanes);
  }
}

void maximum(const float* const* inputs, int64_t n_inputs, int64_t n_floats, float* y) {
  for (int64_t c = 0; c < n_floats; c += kLanes) {
    const int n_lanes = lanes_left(n_floats - c);
    V::Floats largest = V::load_part(inputs[0] + c, n_lanes);
    for (int64_t k = 1; k < n_inputs; ++k)
      largest = V::maximum(largest, V::load_part(inputs[k] + c, n_lanes));
    V::store_part(y + c, largest, n_lanes);
  }
}

// N blocks at once, so that their sums need not wait for themselves.
template <int N>
inline void average_blocks(const float* const* inputs, int64_t n_inputs, int64_t at, int n_lanes,
                           V::Floats divisor, float* y) {
  V::Floats total[N];
#pragma GCC unroll 4
  for (int i = 0; i < N; ++i) total[i] = V::all(0.0f);
  for (int64_t k = 0; k < n_inputs; ++k) {
    const float* from = inputs[k] + at;
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i)
      total[i] = V::add(total[i], V::load_part(from + i * kLanes, N == 1 ? n_lanes : kLanes));
  }
#pragma GCC unroll 4
  for (int i = 0; i < N; ++i)
    V::store_part(y + at + i * kLanes, V::divide(total[i], divisor), N == 1 ? n_lanes : kLanes);
}

void average(const float* const* inputs, int64_t n_inputs, int64_t n_floats, float divisor,
             float* y) {
  const V::Floats by = V::all(divisor);
  int64_t c = 0;
  for (; c + kAtOnce * kLanes <= n_floats; c += kAtOnce * kLanes)
    average_blocks<kAtOnce>(inputs, n_inputs, c, kLanes, by, y);
  for (; c + 2 * kLanes <= n_floats; c += 2 * kLanes)
    average_blocks<2>(inputs, n_inputs, c, kLanes, by, y);
  for (; c < n_floats; c += kLanes)
    average_blocks<1>(inputs, n_inputs, c, lanes_left(n_floats - c), by, y);
}

// Pixels of a row at once in a depthwise convolution, so that a weight is read once for them.
constexpr int kDepthwisePixels = V::kRegisters == 1 ? 8 : 4;

template <int N>
inline void depthwise_sums(const DepthwiseRow& of, int64_t first, int64_t channel, int n_lanes,
                           V::Floats (&total)[N]) {
  const float* weights = of.weights + channel;
  for (int64_t i = 0; i < of.n_rows; ++i) {
    const float* from = of.rows[i] + first + channel;
    for (int64_t j = 0; j < of.n_columns; ++j, from += of.tap_stride, weights += of.n_channels) {
      const V::Floats weight = V::load_part(weights, n_lanes);
#pragma GCC unroll 8
      for (int p = 0; p < N; ++p)
        total[p] =
            V::multiply_add(V::load_part(from + p * of.pixel_stride, n_lanes), weight, total[p]);
    }
  }
}

// The same of K columns where the next pixel's taps are one further: a row's weights stay in registers,
// and what is read meets every pixel that it is a tap of.
template <int N, int K>
inline void depthwise_sliding(const DepthwiseRow& of, int64_t first, int64_t channel,
                              V::Floats (&total)[N]) {
  const float* weights = of.weights + channel;
  for (int64_t i = 0; i < of.n_rows; ++i) {
    const float* from = of.rows[i] + first + channel;
    V::Floats weight[K];
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j, weights += of.n_channels) weight[j] = V::load(weights);
#pragma GCC unroll 16
    for (int q = 0; q < N + K - 1; ++q) {
      const V::Floats x = V::load(from + q * of.tap_stride);
#pragma GCC unroll 8
      for (int p = 0; p < N; ++p)
        if (p <= q && q < p + K) total[p] = V::multiply_add(x, weight[q - p], total[p]);
    }
  }
}

// Blocks of channels of N pixels, which stay in registers until they are finished.
template <int N>
void depthwise_pixels(const DepthwiseRow& of, int64_t p, int64_t pixel, const Output& out) {
  const int64_t first = p * of.pixel_stride;
  const bool slides = V::kRegisters == 1 && N > 3 && of.tap_stride == of.pixel_stride;
  for (int64_t c = 0; c < of.n_channels; c += kLanes) {
    const int n_lanes = lanes_left(of.n_channels - c);
    V::Floats total[N];
#pragma GCC unroll 8
    for (int p = 0; p < N; ++p) total[p] = V::all(0.0f);
    if (slides && n_lanes == kLanes && of.n_columns == 3)
      depthwise_sliding<N, 3>(of, first, c, total);
    else if (slides && n_lanes == kLanes && of.n_columns == 5)
      depthwise_sliding<N, 5>(of, first, c, total);
    else if (slides && n_lanes == kLanes && of.n_columns == 7)
      depthwise_sliding<N, 7>(of, first, c, total);
    else if (n_lanes == kLanes)
      depthwise_sums<N>(of, first, c, kLanes, total);
    else
      depthwise_sums<N>(of, first, c, n_lanes, total);
    finish_block<N>(total, out, pixel, c, n_lanes);
  }
}

// Tiles as even as they can be: one of few pixels would wait for its own sums.
void depthwise(const DepthwiseRow& of, int64_t first, int64_t n_pixels, const Output& out) {
  const int64_t n_tiles = (n_pixels + kDepthwisePixels - 1) / kDepthwisePixels;
  for (int64_t t = 0; t < n_tiles; ++t) {
    const int64_t p = n_pixels * t / n_tiles;
    switch (n_pixels * (t + 1) / n_tiles - p) {
      case 1: depthwise_pixels<1>(of, p, first + p, out); break;
      case 2: depthwise_pixels<2>(of, p, first + p, out); break;
      case 3: depthwise_pixels<3>(of, p, first + p, out); break;
      case 4: depthwise_pixels<4>(of, p, first + p, out); break;
      default:
        if constexpr (kDepthwisePixels == 8) switch (n_pixels * (t + 1) / n_tiles - p) {
            case 5: depthwise_pixels<5>(of, p, first + p, out); break;
            case 6: depthwise_pixels<6>(of, p, first + p, out); break;
            case 7: depthwise_pixels<7>(of, p, first + p, out); break;
            default: depthwise_pixels<8>(of, p, first + p, out);
          }
    }
  }
}

// Lanes added in halves: 8 and 8, then 4 and 4, 2 and 2.
inline float sum_of_lanes(const V::Floats& v) {
  float at[kLanes];
  V::store(at, v);
  for (int n = kLanes / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) at[i] += at[i + n];
  return at[0];
}

void normalize(const float* x, int64_t n, float epsilon, bool is_centered, float* y) {
  V::Floats total = V::all(0.0f);
  const auto count = static_cast<float>(n);
  V::Floats mean = total;
  if (is_centered) {
    for (int64_t i = 0; i < n; i += kLanes)
      total = V::add(total, V::load_part(x + i, lanes_left(n - i)));
    mean = V::all(sum_of_lanes(total) / count);
    total = V::all(0.0f);
  }
  for (int64_t i = 0; i < n; i += kLanes) {
    const int n_lanes = lanes_left(n - i);
    V::Floats apart = V::subtract(V::load_part(x + i, n_lanes), mean);
    V::store_part(y + i, apart, n_lanes);
    if (n_lanes < kLanes) apart = V::load_part(y + i, n_lanes);  // zeros behind the last
    total = V::add(total, V::multiply(apart, apart));
  }
  const V::Floats by = V::all(1.0f / __builtin_sqrtf(sum_of_lanes(total) / count + epsilon));
  for (int64_t i = 0; i < n; i += kLanes) {
    const int n_lanes = lanes_left(n - i);
    V::store_part(y + i, V::multiply(V::load_part(y + i, n_lanes), by), n_lanes);
  }
}

inline float largest_of_lanes(const V::Floats& v) {
  float at[kLanes];
  V::store(at, v);
  for (int i = 1; i < kLanes; ++i)
    if (at[i] > at[0] || at[i] != at[i]) at[0] = at[i];
  return at[0];
}

// A block whose lanes from n_lanes on hold another number.
inline V::Floats filled_behind(const V::Floats& v, int n_lanes, float with) {
  float at[kLanes];
  V::store(at, v);
  for (int i = n_lanes; i < kLanes; ++i) at[i] = with;
  return V::load(at);
}

float soften(float* x, int64_t n, float scale, const float* mask) {
  constexpr float kLeast = -__builtin_inff();
  const V::Floats by = V::all(scale);
  V::Floats largest = V::all(kLeast);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int n_lanes = lanes_left(n - i);
    V::Floats v = V::multiply(V::load(x + i), by);
    if (mask != nullptr) v = V::add(v, V::load_part(mask + i, n_lanes));
    if (n_lanes < kLanes) v = filled_behind(v, n_lanes, kLeast);
    V::store(x + i, v);
    largest = V::maximum(largest, v);
  }
  const V::Floats most = V::all(largest_of_lanes(largest));
  V::Floats total = V::all(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int n_lanes = lanes_left(n - i);
    V::Floats v = exp_of(V::subtract(V::load(x + i), most));
    if (n_lanes < kLanes) v = filled_behind(v, n_lanes, 0.0f);
    V::store(x + i, v);
    total = V::add(total, v);
  }
  return sum_of_lanes(total);
}

// 16 pixels at once, a word of up to 32 channels each: lanes are pixels here.
void pack_planes(const float* x, int64_t plane, int64_t n_pixels, int64_t n_channels, uint8_t* bits,
                 int64_t bits_stride) {
  for (int64_t c = 0; c < n_channels; c += kWordBits) {
    const int n_bits = n_channels - c < kWordBits ? static_cast<int>(n_channels - c) : kWordBits;
    const int n_bytes = (n_bits + 7) / 8;
    for (int64_t p = 0; p < n_pixels; p += kLanes) {
      const int n_lanes = lanes_left(n_pixels - p);
      uint32_t words[kLanes];
      V::gather_signs(x + c * plane + p, plane, n_bits, n_lanes, words);
      for (int i = 0; i < n_lanes; ++i)
        for (int k = 0; k < n_bytes; ++k)
          bits[(p + i) * bits_stride + c / 8 + k] = static_cast<uint8_t>(words[i] >> (8 * k));
    }
  }
}

// Fused multiply-adds on registers alone.
int64_t float_register_loop(int64_t n_rounds) {
  // enough for two a cycle of latency 4, few enough for the registers
  constexpr int n_totals = V::kRegisters == 1 ? 16 : 6;
  volatile float unknown = 0.5f;  // lanes that the compiler cannot know to be equal
  float start[kLanes];
  for (float& lane : start) lane = unknown;
  V::Floats total[n_totals];
  const V::Floats a = V::load(start);
#pragma GCC unroll 16
  for (int i = 0; i < n_totals; ++i) total[i] = V::multiply(a, V::all(static_cast<float>(i)));
  for (int64_t r = 0; r < n_rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < n_totals; ++i) total[i] = V::multiply_add(total[i], a, a);
  }
  float last[kLanes];
  float sum = 0;
  for (int i = 0; i < n_totals; ++i) {
    V::store(last, total[i]);
    for (float lane : last) sum += lane;  // or some registers would not be computed
  }
  volatile float keep = sum;
  static_cast<void>(keep);
  return n_rounds * n_totals * kLanes;
}
