// Layer, RMS and group norms, against plain loops.
#pragma once

#include <cmath>

#include "../../../irbin/kernels/csrc/norms.h"
#include "lines.h"

namespace norm_checks {

using draw::Random;
using line_checks::Size;
using naive::Floats;

// 16 partial sums, added in halves.
inline float row_sum(const Floats& x) {
  Floats part(16, 0.0f);
  for (size_t i = 0; i < x.size(); ++i) part[i % 16] += x[i];
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

inline void check_layer_norm(check::Check& check, Random& random, int64_t n_rows, int64_t n) {
  const Floats x = random.numbers(n_rows * n);
  const float epsilon = random.one_of({0.0f, 1e-6f, 1e-5f});
  const bool is_centered = random.chance(50);
  Floats plain;
  for (int64_t r = 0; r < n_rows; ++r) {
    Floats apart(x.begin() + r * n, x.begin() + (r + 1) * n), squares;
    const float mean = is_centered ? row_sum(apart) / static_cast<float>(n) : 0.0f;
    for (float& one : apart) one -= mean;
    for (const float one : apart) squares.push_back(one * one);
    const float by = 1.0f / std::sqrt(row_sum(squares) / static_cast<float>(n) + epsilon);
    for (const float one : apart) plain.push_back(one * by);
  }
  const line_checks::Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::LayerNorm>(n, epsilon, is_centered, std::move(after));
  };
  line_checks::check_line(check, random, "layer norm", make, x, n_rows, {}, plain, n);
}

// Means of groups, spread to their channels: columns, then rows, then channels.
inline Floats means(const Size& s, int64_t image, int64_t n_groups, const Floats& x) {
  const int64_t n = s.channels / n_groups;
  Floats found;
  for (int64_t g = 0; g < n_groups; ++g) {
    float sum = 0;
    for (int64_t c = g * n; c < (g + 1) * n; ++c) {
      float rows = 0;
      for (int64_t y = 0; y < s.height; ++y) {
        float row = 0;
        for (int64_t k = 0; k < s.width; ++k) row += x[s.at(image, y, k, c)];
        rows += row;
      }
      sum += rows;
    }
    found.resize(static_cast<size_t>((g + 1) * n),
                 sum / static_cast<float>(s.height * s.width * n));
  }
  return found;
}

inline void check_group_norm(check::Check& check, Random& random, const Size& s) {
  int64_t n_groups = random.between(1, s.channels);
  while (s.channels % n_groups != 0) --n_groups;
  const float epsilon = random.one_of({0.0f, 1e-6f, 1e-5f});
  const Floats x = random.numbers(s.count());
  Floats apart = x, plain = x;
  const auto channels = static_cast<size_t>(s.channels);
  const size_t per_image = static_cast<size_t>(s.height * s.width) * channels;
  for (int64_t i = 0; i < s.n; ++i) {
    const Floats mean = means(s, i, n_groups, x);
    const size_t first = static_cast<size_t>(i) * per_image;
    for (size_t k = first; k < first + per_image; ++k) {
      plain[k] = x[k] - mean[k % channels];
      apart[k] = plain[k] * plain[k];
    }
    const Floats variance = means(s, i, n_groups, apart);
    for (size_t k = first; k < first + per_image; ++k)
      plain[k] *= 1.0f / std::sqrt(variance[k % channels] + epsilon);
  }
  const line_checks::Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::GroupNorm>(s.height, s.width, s.channels, n_groups, epsilon,
                                              std::move(after));
  };
  line_checks::check_line(check, random, "group norm", make, x, s.n, {}, plain, s.channels);
}

inline void check_norms(check::Check& check, Random& random) {
  const Size s{random.between(0, 2), random.between(1, 5), random.between(1, 6),
               random.one_of({1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 97})};
  check_layer_norm(check, random, random.between(0, 20), s.channels);
  check_group_norm(check, random, s);
}

}  // namespace norm_checks
