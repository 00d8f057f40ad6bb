// What every supported implementation gives against what is expected, and the score.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "draw.h"
#include "implementations.h"

namespace check {

using draw::Random;
using irbin::Implementation;
using naive::Bytes;
using naive::Floats;

struct Score {
  const Implementation* how;
  int64_t passed = 0, failed = 0;
};

inline std::vector<Score> scores() {
  std::vector<Score> all;
  for (const Implementation* one : irbin::implementations())
    if (is_supported(*one)) all.push_back({one});
  return all;
}

// The same bits, but for which NaN it is, and for a zero's sign where nothing defines it.
inline bool same(const Floats& a, const Floats& b, bool zeros_alike) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [zeros_alike](float x, float y) {
    if (std::isnan(x)) return std::isnan(y);
    return x == y && (zeros_alike || std::signbit(x) == std::signbit(y));
  });
}

struct Wanted {
  bool y, bits;
};

struct Expected {
  Floats y;          // (pixels, channels)
  Bytes bits;        // signs of y, or of what steps behind a `write` make of it
  bool zeros_alike;  // of 0 and −0 in a maximum or a clamp, processors keep one or the other
};

class Check {
 public:
  Check(std::vector<Score>& scores, Random& random) : scores_(scores), random_(random) {}

  Wanted draw_wanted(bool can_pack) {
    if (!can_pack) return {true, false};
    return random_.one_of({Wanted{true, false}, Wanted{false, true}, Wanted{true, true}});
  }

  // run(implementation, y or null, bits or null) must give what is expected.
  template <class Run>
  void operator()(const std::string& what, const Expected& expected, Wanted wanted,
                  const Run& run) {
    for (Score& score : scores_) {
      Floats y(wanted.y ? expected.y.size() : 0, 12345.678f);
      Bytes bits(wanted.bits ? expected.bits.size() : 0, 0xa5);
      run(*score.how, wanted.y ? y.data() : nullptr, wanted.bits ? bits.data() : nullptr);
      const bool ok = (!wanted.y || same(y, expected.y, expected.zeros_alike)) &&
                      (!wanted.bits || bits == expected.bits);
      ++(ok ? score.passed : score.failed);
      if (!ok && score.failed <= 5)
        std::printf("FAILED %s: %s, y %d bits %d\n", score.how->name, what.c_str(), wanted.y,
                    wanted.bits);
    }
  }

 private:
  std::vector<Score>& scores_;
  Random& random_;
};

}  // namespace check
