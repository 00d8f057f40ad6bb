// Random numbers that are the same on every machine, which the distributions of <random> do not
// promise, and memory of exactly the size of what is in it.
#pragma once

#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <random>

#include "naive.h"

namespace draw {

using naive::Bytes;
using naive::Floats;
using naive::Signs;

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  int64_t between(int64_t first, int64_t last) {
    return first + static_cast<int64_t>(engine_() % static_cast<uint64_t>(last - first + 1));
  }
  bool chance(int64_t percent) { return between(1, 100) <= percent; }
  template <class T>
  T one_of(std::initializer_list<T> all) {
    return all.begin()[between(0, static_cast<int64_t>(all.size()) - 1)];
  }
  // One in eight is a value that arithmetic treats in a way of its own.
  float number() {
    constexpr float inf = std::numeric_limits<float>::infinity();
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    if (between(1, 8) == 1)
      return one_of({0.0f, -0.0f, 1e-45f, -1e-45f, 1e-38f, 3e38f, -3e38f, inf, -inf, nan, 1.0f});
    return static_cast<float>(between(-4'000'000, 4'000'000)) * 1e-6f;
  }
  Floats numbers(int64_t n) {
    Floats made(static_cast<size_t>(n));
    for (float& x : made) x = number();
    return made;
  }
  Signs signs(int64_t n) {
    Signs made(static_cast<size_t>(n));
    for (int8_t& x : made) x = engine_() >> 40 & 1 ? 1 : -1;
    return made;
  }

 private:
  std::mt19937_64 engine_;
};

// Bytes that end where their allocation ends and start at an odd address if `shift` is odd.
class Shifted {
 public:
  Shifted(const Bytes& from, int64_t shift)
      : memory_(new uint8_t[from.size() + static_cast<size_t>(shift)]), shift_(shift) {
    if (!from.empty()) std::memcpy(memory_.get() + shift, from.data(), from.size());
  }
  const uint8_t* data() const { return memory_.get() + shift_; }

 private:
  std::unique_ptr<uint8_t[]> memory_;
  int64_t shift_;
};

}  // namespace draw
