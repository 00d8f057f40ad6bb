// Plain C++ for any processor: the shipping code of last resort, not the definition (reference.py).
#include <cmath>
#include <cstdint>
#include <cstring>

#include "contract.h"

namespace irbin {
namespace {

struct V {
  static constexpr int kRegisters = kLanes;  // of 16 floats
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
  static Floats subtract(Floats a, const Floats& b) {
    for (int i = 0; i < kLanes; ++i) a.at[i] -= b.at[i];
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
  static Floats where_positive(const Floats& v, const Floats& then, Floats other) {
    for (int i = 0; i < kLanes; ++i) other.at[i] = v.at[i] > 0 ? then.at[i] : other.at[i];
    return other;
  }
  static Floats prelu(const Floats& v, const Floats& slope) {
    return where_positive(v, v, multiply(v, slope));
  }
  static float power(int32_t n) {
    const uint32_t bits = static_cast<uint32_t>(n + 127) << 23;
    float made;
    std::memcpy(&made, &bits, sizeof(made));
    return made;
  }
  // v·2ⁿ, rounded once: half of n is a power that leaves v normal
  static Floats scaled(Floats v, const Floats& exponent) {
    for (int i = 0; i < kLanes; ++i) {
      const bool is_number = exponent.at[i] == exponent.at[i];
      const int32_t n = is_number ? static_cast<int32_t>(exponent.at[i]) : 0, half = n >> 1;
      v.at[i] = v.at[i] * power(half) * power(n - half);
    }
    return v;
  }
  static Floats with_sign(Floats v, const Floats& of) {
    for (int i = 0; i < kLanes; ++i)
      if (std::signbit(of.at[i])) v.at[i] = -std::fabs(v.at[i]);
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
  struct Codes {
    uint32_t at[kLanes];
  };
  static Codes codes(const uint32_t* w) {
    Codes v;
    std::memcpy(v.at, w, sizeof(v.at));
    return v;
  }
  static void next(Codes& codes) {
    for (uint32_t& one : codes.at) one >>= 4;
  }
  static Floats entries(const float* table, const Codes& codes) {
    Floats v;
    for (int i = 0; i < kLanes; ++i) v.at[i] = table[codes.at[i] & 15];
    return v;
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

#include "activations.inl"

#include "finish.inl"

// Four words as compilers know them everywhere, whether the processor has such registers or not.
struct A {
  static constexpr int kPixels = 1, kLoopPixels = 1, kWidth = 4;
  using Bits [[gnu::vector_size(16)]] = uint32_t;
  using Bytes = Bits;
  static void hide(Bits& v) {
#if defined(__x86_64__)
    asm volatile("" : "+x"(v));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(v));
#else
    asm volatile("" : "+m"(v));
#endif
  }
  static Bits zero() { return Bits{}; }
  static Bits load(const uint32_t* w) {
    Bits v;
    __builtin_memcpy(&v, w, sizeof v);
    return v;
  }
  static Bits differ(Bits weight, const uint32_t* word) { return weight ^ *word; }
  static Bits full_add(Bits& sum, Bits a, Bits b) {
    const Bits one = sum ^ a, both = sum & a;
    sum = one ^ b;
    return both | (one & b);
  }
  static Bits half_add(Bits& sum, Bits a) {
    const Bits carry = sum & a;
    sum ^= a;
    return carry;
  }
  static Bytes add(Bytes a, Bytes b) { return a + b; }
  // Sums of neighboring bits, then pairs, then nibbles (Warren, Hacker's Delight, §5-1).
  static Bytes count(Bits x, int power) {
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    return ((x + (x >> 4)) & 0x0f0f0f0fu) << static_cast<uint32_t>(power);
  }
  static void store(Bytes total, int times, int32_t* counts, bool is_first) {
    const Bits pairs = (total & 0x00ff00ffu) + (total >> 8 & 0x00ff00ffu);
    const Bits sums = ((pairs & 0xffffu) + (pairs >> 16)) * static_cast<uint32_t>(times);
    for (int i = 0; i < kWidth; ++i)
      counts[i] = static_cast<int32_t>(sums[i]) + (is_first ? 0 : counts[i]);
  }
};

#include "adders.inl"

}  // namespace

const Implementation portable{"portable",
                              "plain C++",
                              0,
                              adder_disagreements,
                              finish_counts,
                              finish_thresholds,
                              nullptr,
                              products,
                              nullptr,
                              finish_floats,
                              maximum,
                              average,
                              depthwise,
                              normalize,
                              soften,
                              pack_planes,
                              adder_register_loop,
                              float_register_loop,
                              pair_products,
                              nullptr,
                              make_tables,
                              look_up,
                              nullptr};

}  // namespace irbin
