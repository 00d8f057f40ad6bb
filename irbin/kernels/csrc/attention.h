// Attention: every query's mean of values, weighed by e to the power of its products with the keys.
// `float_reference` says in which order everything is added.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "contract.h"
#include "operator.h"
#include "steps.h"

namespace irbin {

// Where rows of numbers lie in what is read: image i, head h, row r begins at
// i * size + offset + h * head + r * row, in floats; the numbers of a row follow one another.
struct Look {
  int64_t size, offset, head, row;
};

class Attention final : public Operator {
 public:
  struct Sizes {
    int64_t n_heads, n_queries, n_keys;
    int64_t depth;  // of queries and keys
    int64_t width;  // of values
  };

  // mask: (mask_heads, n_queries, n_keys), is added; mask_heads is 1, n_heads, or 0 without one.
  Attention(const Sizes&, const Look& queries, const Look& keys, const Look& values, float scale,
            const float* mask, int64_t mask_heads, Transform after);

  // x: queries; others: residuals, keys, values. y, residuals: (n, n_queries, n_heads * width).
  void run(const Implementation&, const Arguments&) const override;
  int n_others() const override { return after_.n_residuals() + 2; }

 private:
  struct Head;

  void part(const Implementation&, const Arguments&, int64_t image, int64_t first, int64_t last,
            Head&) const;

  Sizes sizes_;
  Look queries_, keys_, values_;
  float scale_;
  std::vector<float> mask_;
  int64_t mask_heads_;
  Transform after_, plain_;
  TileSteps no_steps_;
};

}  // namespace irbin
