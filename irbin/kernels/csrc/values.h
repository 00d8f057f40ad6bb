// Steps on float values, and maximum pooling with steps before and after it.
#pragma once

#include <cstdint>

#include "contract.h"
#include "conv.h"
#include "operator.h"
#include "steps.h"

namespace irbin {

// Steps alone. x, residuals, y: (n, n_channels); y_bits: (n, ⌈n_channels / 8⌉).
class Rows final : public Operator {
 public:
  Rows(int64_t n_channels, Transform steps) : n_channels_(n_channels), steps_(std::move(steps)) {}

  void run(const Implementation&, const Arguments&) const override;
  int n_others() const override { return steps_.n_residuals(); }

 private:
  int64_t n_channels_;
  Transform steps_;
};

// Signs of planes. x: (n, n_channels, n_pixels); y_bits: (n, n_pixels, ⌈n_channels / 8⌉).
class PackPlanes final : public Operator {
 public:
  PackPlanes(int64_t n_channels, int64_t n_pixels) : n_channels_(n_channels), n_pixels_(n_pixels) {}

  void run(const Implementation&, const Arguments&) const override;

 private:
  int64_t n_channels_, n_pixels_;
};

// The largest value of each window, `before` applied to what is pooled, `after` to the result. With a
// `producer`, what is pooled is computed by that convolution a few rows at a time, and never leaves the
// cache.
class MaxPool final : public Operator {
 public:
  // The producer must outlive this, add no residual, and there is none or no `before`.
  MaxPool(const Axis& y, const Axis& x, int64_t n_channels, Transform before, Transform after,
          const Conv* producer)
      : y_(y),
        x_(x),
        n_channels_(n_channels),
        before_(std::move(before)),
        after_(std::move(after)),
        producer_(producer) {}

  // x: (n, height, width, n_channels), or what the producer reads; the rest as in Conv::run.
  void run(const Implementation&, const Arguments&) const override;
  int n_others() const override { return after_.n_residuals(); }

 private:
  struct Pooled;
  void pool_row(const Implementation&, Pooled&, int64_t out_row, float* line) const;

  Axis y_, x_;
  int64_t n_channels_;
  Transform before_, after_;
  const Conv* producer_;
};

}  // namespace irbin
