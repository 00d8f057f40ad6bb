// Plain C++ for any processor: the shipping code of last resort, not the definition (reference.py).
#include <cmath>
#include <cstdint>
#include <cstring>

#include "contract.h"

namespace irbin {
namespace {

struct V {
  struct Floats {
    float at[kLanes];
  };
  struct Ints {
    int32_t at[kLanes];
  };
  static Floats load(const float* x) { return load_part(x, kLanes); }
  static Floats load_part(const float* x, int n) {
    Floats v{};
    for (int i = 0; i < n; ++i) v.at[i] = x[i];
    return v;
  }
  static void store(float* to, const Floats& v) { store_part(to, v, kLanes); }
  static void store_part(float* to, const Floats& v, int n) {
    for (int i = 0; i < n; ++i) to[i] = v.at[i];
  }
  static Floats all(float x) {
    Floats v;
    for (float& lane : v.at) lane = x;
    return v;
  }
  static Floats multiply(Floats a, const Floats& b) {
    for (int i = 0; i < kLanes; ++i) a.at[i] *= b.at[i];
    return a;
  }
  static Floats add(Floats a, const Floats& b) {
    for (int i = 0; i < kLanes; ++i) a.at[i] += b.at[i];
    return a;
  }
  static Floats divide(Floats a, const Floats& b) {
    for (int i = 0; i < kLanes; ++i) a.at[i] /= b.at[i];
    return a;
  }
  static Floats multiply_add(const Floats& a, const Floats& b, Floats c) {
    for (int i = 0; i < kLanes; ++i) c.at[i] = std::fma(a.at[i], b.at[i], c.at[i]);
    return c;
  }
  static Floats clamp(Floats v, const Floats& low, const Floats& high) {
    for (int i = 0; i < kLanes; ++i) {  // written so that a NaN passes
      const float raised = low.at[i] > v.at[i] ? low.at[i] : v.at[i];
      v.at[i] = high.at[i] < raised ? high.at[i] : raised;
    }
    return v;
  }
  static Floats prelu(Floats v, const Floats& slope) {
    for (int i = 0; i < kLanes; ++i) v.at[i] = v.at[i] > 0 ? v.at[i] : v.at[i] * slope.at[i];
    return v;
  }
  static Floats maximum(Floats a, const Floats& b) {
    for (int i = 0; i < kLanes; ++i)
      a.at[i] = a.at[i] > b.at[i] || a.at[i] != a.at[i] ? a.at[i] : b.at[i];
    return a;
  }
  static uint32_t negative(const Floats& v) {
    uint32_t mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint32_t>(v.at[i] < 0) << i;
    return mask;
  }
  static Ints load_ints(const int32_t* x) {
    Ints v;
    for (int i = 0; i < kLanes; ++i) v.at[i] = x[i];
    return v;
  }
  static Ints dots(const int32_t* counts, Ints v) {
    for (int i = 0; i < kLanes; ++i) v.at[i] -= 2 * counts[i];
    return v;
  }
  static const int16_t* all_pairs(const int16_t* from) { return from; }
  static void add_pairs(Ints& total, const Ints& weights, const int16_t* by) {
    for (int i = 0; i < kLanes; ++i) {
      int16_t weight[2];
      std::memcpy(weight, &weights.at[i], sizeof(weight));
      // partial sums may leave the range that the whole stays in
      const int32_t products = weight[0] * by[0] + weight[1] * by[1];
      total.at[i] = static_cast<int32_t>(static_cast<uint32_t>(total.at[i]) +
                                         static_cast<uint32_t>(products));
    }
  }
  static Floats to_floats(const Ints& v) {
    Floats y;
    for (int i = 0; i < kLanes; ++i) y.at[i] = static_cast<float>(v.at[i]);
    return y;
  }
  static uint32_t less(const Ints& v, const Ints& than) {
    uint32_t mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint32_t>(v.at[i] < than.at[i]) << i;
    return mask;
  }
  static void gather_signs(const float* x, int64_t plane, int n_bits, int n, uint32_t* words) {
    for (int i = 0; i < kLanes; ++i) words[i] = 0;
    for (int k = 0; k < n_bits; ++k)
      for (int i = 0; i < n; ++i) words[i] |= static_cast<uint32_t>(x[k * plane + i] < 0) << k;
  }
};

#include "finish.inl"

// Sums of neighboring bits, then pairs, then nibbles (Warren, Hacker's Delight, §5-1).
inline uint32_t popcount(uint32_t x) {
  x -= x >> 1 & 0x55555555u;
  x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
  return ((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

void disagreements(const Patches& patches, int n_pixels, const uint32_t* weights,
                   int64_t block_stride, int n_blocks, int32_t* counts) {
  for (int p = 0; p < n_pixels; ++p)
    for (int b = 0; b < n_blocks; ++b) {
      uint32_t total[kLanes] = {};
      const uint32_t* w = weights + b * block_stride;
      for (int64_t s = 0; s < patches.n_segments; ++s) {
        const uint32_t* words =
            patches.first + p * patches.pixel_stride + s * patches.segment_stride;
        for (int64_t j = 0; j < patches.segment_words; ++j, w += kLanes)
          for (int c = 0; c < kLanes; ++c) total[c] += popcount(words[j] ^ w[c]);
      }
      for (int c = 0; c < kLanes; ++c)
        counts[(p * n_blocks + b) * kLanes + c] = static_cast<int32_t>(total[c]);
    }
}

int64_t register_loop(int64_t n_rounds) {
  uint32_t total[kLanes] = {}, weights[kLanes];
  volatile uint32_t unknown = 0x1234567;
  for (uint32_t& weight : weights) weight = unknown;
  uint32_t word = unknown;
  for (int64_t i = 0; i < n_rounds; ++i, word = word * 5 + 1)  // another word, or it is done once
    for (int c = 0; c < kLanes; ++c) total[c] += popcount(word ^ weights[c]);
  for (uint32_t t : total) asm volatile("" : : "r"(t));
  return n_rounds * kLanes * kWordBits;
}

}  // namespace

const Implementation portable{"portable",
                              "plain C++",
                              0,
                              disagreements,
                              finish_counts,
                              finish_thresholds,
                              nullptr,
                              products,
                              nullptr,
                              finish_floats,
                              maximum,
                              average, depthwise, pack_planes,
                              register_loop,
                              float_register_loop,
                              pair_products,
                              nullptr};

}  // namespace irbin
