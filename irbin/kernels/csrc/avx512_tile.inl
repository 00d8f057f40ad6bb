// A tile of float values in AVX-512 registers, P pixels × B blocks: sums of products, and what
// finishes them. Included after avx512_lanes.inl, inside the same region.
//
// Loops over pixels and blocks are unrolled by pragma, and members that change a tile always inlined:
// else the registers go through memory.

#define EACH_PIXEL _Pragma("GCC unroll 8") for (int p = 0; p < P; ++p)
#define EACH_BLOCK _Pragma("GCC unroll 2") for (int b = 0; b < B; ++b)

template <int B>
inline void store_masks(const uint32_t (&mask)[B], uint8_t* to) {
  if constexpr (B == 2) {
    const uint32_t both = mask[0] | mask[1] << kLanes;
    __builtin_memcpy(to, &both, 4);
  } else {
    const auto one = static_cast<uint16_t>(mask[0]);
    __builtin_memcpy(to, &one, 2);
  }
}

template <int P, int B>
struct FloatTile {
  __m512 at[P][B];

  inline void sum(const Patches& patches, const float* weights, int64_t block_stride) {
    EACH_PIXEL EACH_BLOCK at[p][b] = _mm512_setzero_ps();
    const int64_t stride = patches.pixel_stride, n_words = patches.segment_words;
    const float* segment = reinterpret_cast<const float*>(patches.first);
    for (int64_t s = 0; s < patches.n_segments; ++s, segment += patches.segment_stride)
      for (int64_t j = 0; j < n_words; ++j, weights += kLanes) {
        __m512 weight[B];
        EACH_BLOCK weight[b] = V::load(weights + b * block_stride);
        EACH_PIXEL {
          const __m512 word = V::all(segment[p * stride + j]);
          EACH_BLOCK at[p][b] = V::multiply_add(word, weight[b], at[p][b]);
        }
      }
  }

  inline void look_up(const Patches& patches, const uint32_t* weights, int64_t block_stride) {
    EACH_PIXEL EACH_BLOCK at[p][b] = _mm512_setzero_ps();
    const int64_t stride = patches.pixel_stride;
    const float* segment = reinterpret_cast<const float*>(patches.first);
    for (int64_t s = 0; s < patches.n_segments; ++s, segment += patches.segment_stride) {
      const float* tables = segment;
      for (int64_t left = patches.segment_words; left > 0; left -= kCodesAWord, weights += kLanes) {
        __m512i codes[B];
        EACH_BLOCK codes[b] = V::codes(weights + b * block_stride);
        const int64_t n = left < kCodesAWord ? left : kCodesAWord;
        for (int64_t j = 0; j < n; ++j, tables += kLanes) {
          EACH_PIXEL {
            const __m512 table = V::load(tables + p * stride);
            EACH_BLOCK at[p][b] = V::add(at[p][b], _mm512_permutexvar_ps(codes[b], table));
          }
          EACH_BLOCK V::next(codes[b]);
        }
      }
    }
  }

  // As `finish_block`; the usual steps, which come first, are not looked up.
  [[gnu::always_inline]] inline void finish(const TileSteps& steps, int64_t channel,
                                            const Output& out) {
    __m512 by[B], plus[B];
    load(by, steps.multiply + channel);
    load(plus, steps.add + channel);
    EACH_PIXEL EACH_BLOCK at[p][b] = V::add(V::multiply(at[p][b], by[b]), plus[b]);
    if (steps.residual != nullptr) add_residual(*steps.residual, channel, out);
    if (steps.clamp != nullptr) clamp(*steps.clamp);
    bool is_written = false;
    float held[P * B * kLanes];
    for (const Step* step = steps.rest; step < steps.end; ++step)
      is_written = take(*step, channel, out, held) || is_written;
    if (!is_written) write(channel, out);
    if (out.bits != nullptr) {
      EACH_PIXEL {
        uint32_t mask[B];
        EACH_BLOCK mask[b] = V::negative(at[p][b]);
        store_masks<B>(mask, out.bits + channel / 8 + p * out.bits_stride);
      }
    }
  }

  [[gnu::always_inline]] static inline void load(__m512 (&to)[B], const float* from) {
    EACH_BLOCK to[b] = V::load(from + b * kLanes);
  }

  // One step; whether it was to write.
  [[gnu::always_inline]] inline bool take(const Step& step, int64_t channel, const Output& out,
                                          float (&held)[P * B * kLanes]) {
    __m512 by[B];
    switch (step.kind) {
      case StepKind::multiply:
        load(by, step.values + channel);
        EACH_PIXEL EACH_BLOCK at[p][b] = V::multiply(at[p][b], by[b]);
        return false;
      case StepKind::add:
        load(by, step.values + channel);
        EACH_PIXEL EACH_BLOCK at[p][b] = V::add(at[p][b], by[b]);
        return false;
      case StepKind::residual: add_residual(step, channel, out); return false;
      case StepKind::clamp: clamp(step); return false;
      case StepKind::prelu:
        load(by, step.values + channel);
        EACH_PIXEL EACH_BLOCK at[p][b] = V::prelu(at[p][b], by[b]);
        return false;
      case StepKind::write: break;
      case StepKind::hold:
        EACH_PIXEL EACH_BLOCK V::store(held + (p * B + b) * kLanes, at[p][b]);
        return false;
      case StepKind::keep:
        EACH_PIXEL EACH_BLOCK at[p][b] = kept(at[p][b], V::load(held + (p * B + b) * kLanes));
        return false;
      default: activated(step, channel); return false;
    }
    write(channel, out);
    return true;
  }

  [[gnu::always_inline]] inline void add_residual(const Step& step, int64_t channel,
                                                  const Output& out) {
    if (step.channels > 0) return add_part(step, channel, out);
    const float* from = out.residuals[step.residual] + channel;
    EACH_PIXEL EACH_BLOCK at[p][b] =
        V::add(at[p][b], V::load(from + p * out.residual_stride + b * kLanes));
  }

  [[gnu::always_inline]] inline void add_part(const Step& step, int64_t channel,
                                              const Output& out) {
    EACH_BLOCK {
      const int64_t first = channel + b * kLanes - step.before, last = first + kLanes;
      uint32_t lanes = 0xffff;
      if (first < 0) lanes &= first > -kLanes ? 0xffff << -first : 0;
      if (last > step.channels)
        lanes &= first < step.channels ? 0xffff >> (last - step.channels) : 0;
      const float* from = out.residuals[step.residual] + first;
      EACH_PIXEL at[p][b] = V::add(
          at[p][b], _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), from + p * step.channels));
    }
  }

  [[gnu::always_inline]] inline void clamp(const Step& step) {
    const __m512 low = V::all(step.low), high = V::all(step.high);
    EACH_PIXEL EACH_BLOCK at[p][b] = V::clamp(at[p][b], low, high);
  }

  [[gnu::always_inline]] inline void activated(const Step& step, int64_t channel) {
    float values[P * B * kLanes];
    EACH_PIXEL EACH_BLOCK V::store(values + (p * B + b) * kLanes, at[p][b]);
    activate(step, channel, P, B, values);
    EACH_PIXEL EACH_BLOCK at[p][b] = V::load(values + (p * B + b) * kLanes);
  }

  [[gnu::always_inline]] inline void write(int64_t channel, const Output& out) const {
    if (out.y != nullptr)
      EACH_PIXEL EACH_BLOCK V::store(out.y + channel + p * out.y_stride + b * kLanes, at[p][b]);
  }
};

template <int B, class Work>
void run_pixels(int n_pixels, const Work& work) {
  switch (n_pixels) {
    case 1: return work.template run<1, B>();
    case 2: return work.template run<2, B>();
    case 3: return work.template run<3, B>();
    case 4: return work.template run<4, B>();
    case 5: return work.template run<5, B>();
    case 6: return work.template run<6, B>();
    case 7: return work.template run<7, B>();
    default: return work.template run<8, B>();
  }
}

template <class Work>
void run_tile(int n_pixels, int n_blocks, const Work& work) {
  n_blocks == 1 ? run_pixels<1>(n_pixels, work) : run_pixels<2>(n_pixels, work);
}

struct Multiplying {
  const Patches& patches;
  const float* weights;
  int64_t block_stride, channel;
  const TileSteps& steps;
  const Output& out;

  template <int P, int B>
  void run() const {
    FloatTile<P, B> tile;
    tile.sum(patches, weights, block_stride);
    tile.finish(steps, channel, out);
  }
};

[[maybe_unused]] void finished_products(const Patches& patches, int n_pixels, const float* weights,
                                        int64_t block_stride, int n_blocks, int64_t channel,
                                        const TileSteps& steps, const Output& out) {
  run_tile(n_pixels, n_blocks, Multiplying{patches, weights, block_stride, channel, steps, out});
}

struct LookingUp {
  const Patches& patches;
  const uint32_t* weights;
  int64_t block_stride, channel;
  const TileSteps& steps;
  const Output& out;

  template <int P, int B>
  void run() const {
    FloatTile<P, B> tile;
    tile.look_up(patches, weights, block_stride);
    tile.finish(steps, channel, out);
  }
};

[[maybe_unused]] void finished_lookups(const Patches& patches, int n_pixels,
                                       const uint32_t* weights, int64_t block_stride, int n_blocks,
                                       int64_t channel, const TileSteps& steps, const Output& out) {
  run_tile(n_pixels, n_blocks, LookingUp{patches, weights, block_stride, channel, steps, out});
}

// Counts of a tile, and what finishes them.
template <int P, int B>
struct CountTile {
  __m512i total[P][B];

  inline void load(const int32_t* counts) {
    EACH_PIXEL EACH_BLOCK total[p][b] = _mm512_loadu_si512(counts + (p * B + b) * kLanes);
  }

  inline void store(int32_t* counts) const {
    EACH_PIXEL EACH_BLOCK _mm512_storeu_si512(counts + (p * B + b) * kLanes, total[p][b]);
  }

  // From counts to dots, where they are.
  inline void correct(const int32_t* const* correction, int64_t channel) {
    EACH_PIXEL {
      const int32_t* from = correction[p] + channel;
      EACH_BLOCK total[p][b] = _mm512_sub_epi32(_mm512_loadu_si512(from + b * kLanes),
                                                _mm512_slli_epi32(total[p][b], 1));
    }
  }

  inline void compare(const Thresholds& against, int64_t channel, const Output& out) const {
    __m512i lower[B];
    uint32_t flips[B];
    EACH_BLOCK lower[b] = V::load_ints(against.lower + channel + b * kLanes);
    EACH_BLOCK flips[b] = against.flips[channel / 8 + 2 * b] |
                          static_cast<uint32_t>(against.flips[channel / 8 + 2 * b + 1]) << 8;
    EACH_PIXEL {
      uint32_t mask[B];
      EACH_BLOCK mask[b] = V::less(total[p][b], lower[b]) ^ flips[b];
      store_masks<B>(mask, out.bits + channel / 8 + p * out.bits_stride);
    }
  }

  // Without steps, thresholds.
  [[gnu::always_inline]] inline void finish(const int32_t* const* correction, int64_t channel,
                                            const TileSteps* steps, const Thresholds* thresholds,
                                            const Output& out) {
    correct(correction, channel);
    if (steps == nullptr) return compare(*thresholds, channel, out);
    FloatTile<P, B> values;
    EACH_PIXEL EACH_BLOCK values.at[p][b] = V::to_floats(total[p][b]);
    values.finish(*steps, channel, out);
  }
};

// Sums of products of pairs of 16 bits, in integers; `Pairs` adds them.
template <class Pairs>
struct MultiplyingPairs {
  const PairPatches& patches;
  const uint32_t* weights;
  int64_t block_stride;
  const int32_t* const* correction;
  int64_t channel;
  const TileSteps& steps;
  const Output& out;

  template <int P, int B>
  void run() const {
    __m512i total[P][B];
    EACH_PIXEL EACH_BLOCK total[p][b] = V::load_ints(correction[p] + channel + b * kLanes);
    const int64_t stride = patches.pixel_stride, n_pairs = patches.segment_pairs;
    const int16_t* segment = patches.first;
    const uint32_t* at = weights;
    for (int64_t s = 0; s < patches.n_segments; ++s, segment += patches.segment_stride)
      for (int64_t j = 0; j < n_pairs; ++j, at += kLanes) {
        __m512i weight[B];
        EACH_BLOCK weight[b] = _mm512_loadu_si512(at + b * block_stride);
        EACH_PIXEL {
          const __m512i pairs = V::all_pairs(segment + p * stride + 2 * j);
          EACH_BLOCK Pairs::add_pairs(total[p][b], weight[b], pairs);
        }
      }
    FloatTile<P, B> tile;
    EACH_PIXEL EACH_BLOCK tile.at[p][b] = V::to_floats(total[p][b]);
    tile.finish(steps, channel, out);
  }
};

template <class Pairs>
void finished_sums_of_pairs(const PairPatches& patches, int n_pixels, const uint32_t* weights,
                            int64_t block_stride, int n_blocks, const int32_t* const* correction,
                            int64_t channel, const TileSteps& steps, const Output& out) {
  run_tile(
      n_pixels, n_blocks,
      MultiplyingPairs<Pairs>{patches, weights, block_stride, correction, channel, steps, out});
}
