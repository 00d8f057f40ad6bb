// Attention, against plain loops.
#pragma once

#include <cmath>
#include <memory>

#include "../../../irbin/kernels/csrc/attention.h"
#include "norms.h"

namespace attention_checks {

using draw::Random;
using irbin::Attention;
using irbin::Look;
using naive::Floats;

// Of one query: means of values, keys and values as rows.
inline Floats mean(const Floats& q, const std::vector<Floats>& keys,
                   const std::vector<Floats>& values, float scale, const float* mask) {
  Floats weights;
  for (size_t j = 0; j < keys.size(); ++j) {
    float sum = 0;
    for (size_t d = 0; d < q.size(); ++d) sum = std::fma(q[d], keys[j][d], sum);
    sum *= scale;
    if (mask != nullptr) sum += mask[j];
    weights.push_back(sum);
  }
  float most = weights[0];
  for (const float one : weights)
    if (one > most || std::isnan(one)) most = one;
  for (float& one : weights) one = curves::exp(one - most);
  const float total = norm_checks::row_sum(weights);
  Floats made(values[0].size(), 0.0f);
  for (size_t j = 0; j < values.size(); ++j)
    for (size_t c = 0; c < made.size(); ++c) made[c] = std::fma(weights[j], values[j][c], made[c]);
  for (float& one : made) one = (0.0f + one) / total;
  return made;
}

inline Floats row(const Floats& x, const Look& at, int64_t image, int64_t head, int64_t r,
                  int64_t n) {
  const float* from = x.data() + image * at.size + at.offset + head * at.head + r * at.row;
  return Floats(from, from + n);
}

inline void check_attention(check::Check& check, Random& random) {
  const int64_t n = random.between(0, 2);
  const auto size = [&] { return random.one_of({1, 2, 7, 8, 9, 15, 16, 17, 33}); };
  const Attention::Sizes s{random.between(1, 3), size(), size(), size(), size()};
  // rows of heads side by side, a few numbers before and between them
  const auto look = [&](int64_t n_rows, int64_t n_numbers) {
    const int64_t gap = random.between(0, 2), before = random.between(0, 3);
    const int64_t head = n_numbers + gap, in_row = s.n_heads * head;
    return Look{before + n_rows * in_row, before, head, in_row};
  };
  const Look at_q = look(s.n_queries, s.depth), at_k = look(s.n_keys, s.depth),
             at_v = look(s.n_keys, s.width);
  // few of them special, or every mean would be NaN
  const auto draw = [&](int64_t n_numbers) {
    Floats made = random.numbers(n_numbers);
    for (float& one : made)
      if (!(std::abs(one) <= 4) && !random.chance(1)) one = 0.75f;
    return made;
  };
  const Floats q = draw(n * at_q.size), k = draw(n * at_k.size), v = draw(n * at_v.size);
  const int64_t mask_heads = random.one_of({int64_t{0}, int64_t{1}, s.n_heads});
  const Floats mask = draw(mask_heads * s.n_queries * s.n_keys);
  const float scale = random.one_of({0.125f, 1.0f});
  const int64_t n_channels = s.n_heads * s.width;
  Floats plain(static_cast<size_t>(n * s.n_queries * n_channels));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t h = 0; h < s.n_heads; ++h) {
      std::vector<Floats> keys, values;
      for (int64_t r = 0; r < s.n_keys; ++r) {
        keys.push_back(row(k, at_k, i, h, r, s.depth));
        values.push_back(row(v, at_v, i, h, r, s.width));
      }
      for (int64_t r = 0; r < s.n_queries; ++r) {
        const float* added =
            mask_heads == 0 ? nullptr : mask.data() + (h % mask_heads * s.n_queries + r) * s.n_keys;
        const Floats made = mean(row(q, at_q, i, h, r, s.depth), keys, values, scale, added);
        std::copy(made.begin(), made.end(),
                  plain.begin() + (i * s.n_queries + r) * n_channels + h * s.width);
      }
    }
  const line_checks::Make make = [&](irbin::Transform after) {
    return std::make_unique<Attention>(s, at_q, at_k, at_v, scale, mask.data(), mask_heads,
                                       std::move(after));
  };
  line_checks::check_line(check, random, "attention", make, q, n, {k, v}, plain, n_channels);
}

}  // namespace attention_checks
