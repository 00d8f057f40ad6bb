// NEON, which every 64-bit ARM has: it counts the bits of 16 bytes in one instruction.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstdint>

#include "contract.h"

namespace irbin {
namespace {

constexpr int kQuarters = 4;  // registers of 16 lanes

struct V {
  static constexpr int kRegisters = kQuarters;  // of 16 floats
  struct Floats {
    float32x4_t q[kQuarters];
  };
  struct Ints {
    int32x4_t q[kQuarters];
  };
  static Floats load(const float* x) {
    return {{vld1q_f32(x), vld1q_f32(x + 4), vld1q_f32(x + 8), vld1q_f32(x + 12)}};
  }
  static Floats load_part(const float* x, int n) {
    if (n == kLanes) return load(x);
    float copy[kLanes] = {};
    for (int i = 0; i < n; ++i) copy[i] = x[i];
    return load(copy);
  }
  static void store(float* to, const Floats& v) { store_part(to, v, kLanes); }
  static void store_part(float* to, const Floats& v, int n) {
    float copy[kLanes];
    for (int i = 0; i < kQuarters; ++i) vst1q_f32((n == kLanes ? to : copy) + 4 * i, v.q[i]);
    if (n < kLanes)
      for (int i = 0; i < n; ++i) to[i] = copy[i];
  }
  static Floats all(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return {{v, v, v, v}};
  }
  static Floats multiply(Floats a, const Floats& b) {
    for (int i = 0; i < kQuarters; ++i) a.q[i] = vmulq_f32(a.q[i], b.q[i]);
    return a;
  }
  static Floats add(Floats a, const Floats& b) {
    for (int i = 0; i < kQuarters; ++i) a.q[i] = vaddq_f32(a.q[i], b.q[i]);
    return a;
  }
  static Floats subtract(Floats a, const Floats& b) {
    for (int i = 0; i < kQuarters; ++i) a.q[i] = vsubq_f32(a.q[i], b.q[i]);
    return a;
  }
  static Floats divide(Floats a, const Floats& b) {
    for (int i = 0; i < kQuarters; ++i) a.q[i] = vdivq_f32(a.q[i], b.q[i]);
    return a;
  }
  static Floats multiply_add(const Floats& a, const Floats& b, Floats c) {
    for (int i = 0; i < kQuarters; ++i) c.q[i] = vfmaq_f32(c.q[i], a.q[i], b.q[i]);
    return c;
  }
  static Floats clamp(Floats v, const Floats& low, const Floats& high) {
    for (int i = 0; i < kQuarters; ++i)  // FMAX and FMIN let a NaN pass
      v.q[i] = vminq_f32(high.q[i], vmaxq_f32(low.q[i], v.q[i]));
    return v;
  }
  static Floats where_positive(const Floats& v, const Floats& then, Floats other) {
    for (int i = 0; i < kQuarters; ++i)
      other.q[i] = vbslq_f32(vcgtq_f32(v.q[i], vdupq_n_f32(0)), then.q[i], other.q[i]);
    return other;
  }
  static Floats prelu(const Floats& v, const Floats& slope) {
    return where_positive(v, v, multiply(v, slope));
  }
  static float32x4_t power(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
  }
  // v·2ⁿ, rounded once: half of n is a power that leaves v normal
  static Floats scaled(Floats v, const Floats& exponent) {
    for (int i = 0; i < kQuarters; ++i) {
      const int32x4_t n = vcvtq_s32_f32(exponent.q[i]), half = vshrq_n_s32(n, 1);
      v.q[i] = vmulq_f32(vmulq_f32(v.q[i], power(half)), power(vsubq_s32(n, half)));
    }
    return v;
  }
  static Floats with_sign(Floats v, const Floats& of) {
    const uint32x4_t sign = vdupq_n_u32(1u << 31);
    for (int i = 0; i < kQuarters; ++i)
      v.q[i] = vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(v.q[i]),
                                               vandq_u32(vreinterpretq_u32_f32(of.q[i]), sign)));
    return v;
  }
  static Floats maximum(Floats a, const Floats& b) {
    for (int i = 0; i < kQuarters; ++i) a.q[i] = vmaxq_f32(a.q[i], b.q[i]);
    return a;
  }
  static uint32_t mask(uint32x4_t lanes, int quarter) {
    const uint32_t bit[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, vld1q_u32(bit))) << (4 * quarter);
  }
  static uint32_t negative(const Floats& v) {
    uint32_t found = 0;
    for (int i = 0; i < kQuarters; ++i) found |= mask(vcltq_f32(v.q[i], vdupq_n_f32(0)), i);
    return found;
  }
  static Ints load_ints(const int32_t* x) {
    return {{vld1q_s32(x), vld1q_s32(x + 4), vld1q_s32(x + 8), vld1q_s32(x + 12)}};
  }
  static Ints dots(const int32_t* counts, Ints v) {
    for (int i = 0; i < kQuarters; ++i)
      v.q[i] = vsubq_s32(v.q[i], vshlq_n_s32(vld1q_s32(counts + 4 * i), 1));
    return v;
  }
  static int16x8_t all_pairs(const int16_t* from) {
    int32_t pair;
    __builtin_memcpy(&pair, from, sizeof(pair));
    return vreinterpretq_s16_s32(vdupq_n_s32(pair));
  }
  static void add_pairs(Ints& total, const Ints& weights, int16x8_t pairs) {
    for (int i = 0; i < kQuarters; ++i) {
      const int16x8_t weight = vreinterpretq_s16_s32(weights.q[i]);
      const int32x4_t low = vmull_s16(vget_low_s16(weight), vget_low_s16(pairs));
      total.q[i] = vaddq_s32(total.q[i], vpaddq_s32(low, vmull_high_s16(weight, pairs)));
    }
  }
  struct Codes {
    uint32x4_t q[kQuarters];
  };
  static Codes codes(const uint32_t* w) {
    return {{vld1q_u32(w), vld1q_u32(w + 4), vld1q_u32(w + 8), vld1q_u32(w + 12)}};
  }
  static void next(Codes& codes) {
    for (auto& q : codes.q) q = vshrq_n_u32(q, 4);
  }
  // Half of a table is 32 bytes, of which one instruction looks up 16.
  static Floats entries(const float* table, const Codes& codes) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(table);
    const uint8x16x2_t half = {{vld1q_u8(bytes), vld1q_u8(bytes + 16)}};
    Floats found;
    for (int i = 0; i < kQuarters; ++i) {
      const uint32x4_t entry = vmulq_n_u32(vandq_u32(codes.q[i], vdupq_n_u32(7)), 0x04040404u);
      const uint32x4_t places = vaddq_u32(entry, vdupq_n_u32(0x03020100u));
      const uint32x4_t sign = vandq_u32(vshlq_n_u32(codes.q[i], 28), vdupq_n_u32(1u << 31));
      const uint8x16_t looked_up = vqtbl2q_u8(half, vreinterpretq_u8_u32(places));
      found.q[i] = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_u8(looked_up), sign));
    }
    return found;
  }
  static Floats to_floats(const Ints& v) {
    Floats y;
    for (int i = 0; i < kQuarters; ++i) y.q[i] = vcvtq_f32_s32(v.q[i]);
    return y;
  }
  static uint32_t less(const Ints& v, const Ints& than) {
    uint32_t found = 0;
    for (int i = 0; i < kQuarters; ++i) found |= mask(vcltq_s32(v.q[i], than.q[i]), i);
    return found;
  }
  static void gather_signs(const float* x, int64_t plane, int n_bits, int n, uint32_t* words) {
    uint32x4_t all[kQuarters] = {};
    for (int k = 0; k < n_bits; ++k) {
      const Floats v = load_part(x + k * plane, n);
      const uint32x4_t bit = vdupq_n_u32(1u << k);
      for (int i = 0; i < kQuarters; ++i)
        all[i] = vorrq_u32(all[i], vandq_u32(bit, vcltq_f32(v.q[i], vdupq_n_f32(0))));
    }
    for (int i = 0; i < kQuarters; ++i) vst1q_u32(words + 4 * i, all[i]);
  }
};

#include "activations.inl"

#include "finish.inl"

struct N {
  static constexpr int kPixels = 4;
  struct Bytes {
    uint8x16_t q[kQuarters];
  };
  struct Setting {};
  static Setting set() { return {}; }
  static Bytes zero() {
    const uint8x16_t v = vdupq_n_u8(0);
    return {{v, v, v, v}};
  }
  static void clear(int32_t* counts) {
    for (int i = 0; i < kQuarters; ++i) vst1q_s32(counts + 4 * i, vdupq_n_s32(0));
  }
  static Bytes load(const uint32_t* w) {
    Bytes v;
    for (int i = 0; i < kQuarters; ++i) v.q[i] = vreinterpretq_u8_u32(vld1q_u32(w + 4 * i));
    return v;
  }
  static void count(Bytes& total, const Bytes& weight, uint32_t word, const Setting&) {
    const uint8x16_t words = vreinterpretq_u8_u32(vdupq_n_u32(word));
    for (int i = 0; i < kQuarters; ++i)
      total.q[i] = vaddq_u8(total.q[i], vcntq_u8(veorq_u8(weight.q[i], words)));
  }
  static void widen(const Bytes& total, int32_t* counts) {
    for (int i = 0; i < kQuarters; ++i) {
      const uint32x4_t sums = vpaddlq_u16(vpaddlq_u8(total.q[i]));
      vst1q_s32(counts + 4 * i, vaddq_s32(vld1q_s32(counts + 4 * i), vreinterpretq_s32_u32(sums)));
    }
  }
};

#include "byte_tile.inl"

int64_t register_loop(int64_t n_rounds) {
  N::Bytes total = N::zero(), weights = N::zero();
  uint32_t word = 0x1234567;
  for (int64_t i = 0; i < n_rounds; ++i) {
    asm volatile("" : "+r"(word));
    N::count(total, weights, word, {});
  }
  for (auto& t : total.q) asm volatile("" : : "w"(t));
  return n_rounds * 512;
}

}  // namespace

const Implementation neon{"neon",        "bits of 128 counted by byte",
                          kNeon,         byte_disagreements,
                          finish_counts, finish_thresholds,
                          nullptr,       products,
                          nullptr,       finish_floats,
                          maximum,       average,
                          depthwise,     normalize,
                          soften,        pack_planes,
                          register_loop, float_register_loop,
                          pair_products, nullptr,
                          make_tables,   look_up,
                          nullptr};

}  // namespace irbin

#endif  // __aarch64__
