// Steps on float values, and maximum pooling with steps before and after it.
#pragma once

#include <cstdint>

#include "contract.h"
#include "conv.h"
#include "steps.h"

namespace irbin {

// x, residuals, y: (n_pixels, n_channels); y_bits: (n_pixels, ⌈n_channels / 8⌉). y or y_bits may be
// null.
void transform(const Implementation&, const Transform&, const float* x, int64_t n_pixels,
               int64_t n_channels, const float* const* residuals, float* y, uint8_t* y_bits,
               int n_threads);

// x: (n_images, n_channels, n_pixels) to bits (n_images, n_pixels, ⌈n_channels / 8⌉).
void pack_planes(const Implementation&, const float* x, int64_t n_images, int64_t n_channels,
                 int64_t n_pixels, uint8_t* bits, int n_threads);

// The largest value of each window, `before` applied to what is pooled, `after` to the result. With a
// `producer`, what is pooled is computed by that convolution a few rows at a time, and never leaves the
// cache. Immutable once made.
class MaxPool {
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

  // x: (n_images, height, width, n_channels), or what the producer reads; the rest as in Conv::run.
  void run(const Implementation&, const uint8_t* x, int64_t n_images, const float* const* residuals,
           float* y, uint8_t* y_bits, int n_threads, bool planes = false) const;

  const Axis& y() const { return y_; }
  const Axis& x() const { return x_; }
  int64_t n_channels() const { return n_channels_; }
  const Transform& after() const { return after_; }

 private:
  struct Rows;
  void pool_row(const Implementation&, Rows&, int64_t out_row, float* line) const;

  Axis y_, x_;
  int64_t n_channels_;
  Transform before_, after_;
  const Conv* producer_;
};

}  // namespace irbin
