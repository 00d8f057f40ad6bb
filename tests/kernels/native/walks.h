// Numbers taken from anywhere, against plain loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include "../../../irbin/kernels/csrc/walk.h"
#include "curves.h"
#include "lines.h"
#include "norms.h"

namespace walk_checks {

using draw::Random;
using irbin::Leg;
using irbin::WalkKind;
using irbin::Way;
using naive::Floats;

// A way through `size` numbers that stays inside; its last stride is that of a sum's numbers.
inline std::pair<Way, int64_t> draw_way(Random& random, const std::vector<int64_t>& sizes,
                                        int64_t n_constants, const Leg& leg, int64_t n_terms) {
  Way way;
  way.source = static_cast<int32_t>(random.between(-1, static_cast<int64_t>(sizes.size()) - 1));
  const int64_t size = way.source < 0 ? n_constants : sizes[static_cast<size_t>(way.source)];
  way.offset = random.between(0, size - 1);
  int64_t low = way.offset, high = way.offset, step = 0;
  for (int32_t i = 0; i <= leg.n_axes; ++i) {
    const int64_t n = i < leg.n_axes ? leg.sizes[i] : n_terms;
    int64_t by = random.between(-3, 3);
    if (low + std::min<int64_t>(0, (n - 1) * by) < 0 ||
        high + std::max<int64_t>(0, (n - 1) * by) >= size)
      by = 0;
    low += std::min<int64_t>(0, (n - 1) * by), high += std::max<int64_t>(0, (n - 1) * by);
    (i < leg.n_axes ? way.strides[i] : step) = by;
  }
  return {way, step};
}

inline float made(WalkKind kind, float a, float b) {
  switch (kind) {
    case WalkKind::multiply: return a * b;
    case WalkKind::add: return a + b;
    case WalkKind::subtract: return a - b;
    case WalkKind::divide: return a / b;
    case WalkKind::maximum: return a != a || (a > b && b == b) ? a : b;
    case WalkKind::minimum: return a != a || (a < b && b == b) ? a : b;
    case WalkKind::negate: return -a;
    case WalkKind::absolute: return std::fabs(a);
    default: return a;
  }
}

// One leg for each of the outermost places of (outer, inner…, channels).
inline void check_walk(check::Check& check, Random& random) {
  const int64_t n_images = random.between(0, 2), outer = random.between(1, 4);
  const int64_t height = random.between(1, 4), channels = random.one_of({1, 3, 8, 16, 17, 33});
  const int64_t inner = height * channels;
  std::vector<int64_t> sizes;
  std::vector<Floats> read;
  for (int64_t i = random.between(1, 3); i > 0; --i) {
    sizes.push_back(random.between(1, 300));
    read.push_back(random.numbers(n_images * sizes.back()));
  }
  const Floats constants = random.numbers(random.between(1, 50));
  std::vector<Leg> legs;
  Floats plain(static_cast<size_t>(n_images * outer * inner));
  for (int64_t o = 0; o < outer; ++o) {
    Leg leg{};
    leg.kind = static_cast<WalkKind>(random.between(0, static_cast<int>(WalkKind::sum)));
    leg.n_axes = 2;
    leg.sizes[0] = height, leg.sizes[1] = channels;
    leg.to.offset = o * inner;
    leg.to.strides[0] = channels, leg.to.strides[1] = 1;
    leg.count = leg.kind == WalkKind::sum ? random.between(1, 4) : 1;
    const auto n_constants = static_cast<int64_t>(constants.size());
    std::tie(leg.first, leg.step) = draw_way(random, sizes, n_constants, leg, leg.count);
    leg.second = draw_way(random, sizes, n_constants, leg, 1).first;
    for (int64_t i = 0; i < n_images; ++i)
      for (int64_t k = 0; k < inner; ++k) {
        const auto at = [&](const Way& way, int64_t further) {
          const int64_t place = way.offset + k / channels * way.strides[0] +
                                k % channels * way.strides[1] + further;
          if (way.source < 0) return constants[static_cast<size_t>(place)];
          const auto source = static_cast<size_t>(way.source);
          return read[source][static_cast<size_t>(i * sizes[source] + place)];
        };
        float value = made(leg.kind, at(leg.first, 0), at(leg.second, 0));
        for (int64_t term = 1; term < leg.count; ++term) value += at(leg.first, term * leg.step);
        plain[static_cast<size_t>((i * outer + o) * inner + k)] = value;
      }
    legs.push_back(leg);
  }
  const line_checks::Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::Walk>(outer * height, channels, sizes, legs, constants,
                                         std::move(after));
  };
  line_checks::check_line(check, random, "walk", make, read[0], n_images,
                          {read.begin() + 1, read.end()}, plain, channels);
}

// Of numbers that stand apart.
inline void check_softmax(check::Check& check, Random& random) {
  const int64_t n_images = random.between(0, 2), count = random.one_of({1, 2, 7, 15, 16, 17, 33});
  const int64_t channels = random.one_of({1, 8, 17});
  Floats x(static_cast<size_t>(n_images * count * channels));
  for (float& one : x) one = static_cast<float>(random.between(-4000, 4000)) * 1e-3f;
  Floats plain = x;
  for (int64_t i = 0; i < n_images; ++i)
    for (int64_t c = 0; c < channels; ++c) {
      Floats row;
      for (int64_t k = 0; k < count; ++k)
        row.push_back(x[static_cast<size_t>((i * count + k) * channels + c)]);
      const float most = *std::max_element(row.begin(), row.end());
      for (float& one : row) one = curves::exp(one - most);
      const float total = norm_checks::row_sum(row);
      for (int64_t k = 0; k < count; ++k)
        plain[static_cast<size_t>((i * count + k) * channels + c)] =
            row[static_cast<size_t>(k)] / total;
    }
  Leg leg{};
  leg.kind = WalkKind::softmax;
  leg.n_axes = 1;
  leg.sizes[0] = channels;
  leg.to.strides[0] = leg.first.strides[0] = leg.second.strides[0] = 1;
  leg.count = count;
  leg.step = leg.to_step = channels;
  const line_checks::Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::Walk>(count, channels, std::vector<int64_t>{count * channels},
                                         std::vector<Leg>{leg}, Floats{}, std::move(after));
  };
  line_checks::check_line(check, random, "softmax", make, x, n_images, {}, plain, channels);
}

inline void check_walks(check::Check& check, Random& random) {
  check_walk(check, random);
  check_softmax(check, random);
}

}  // namespace walk_checks
