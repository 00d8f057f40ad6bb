// Norms whose mean and variance come from the numbers themselves; `float_reference` says in which order
// they are added. Steps follow, the factors and offsets learned first.
#pragma once

#include <cstdint>
#include <utility>

#include "contract.h"
#include "operator.h"
#include "steps.h"

namespace irbin {

// Of each row by itself. x, residuals, y: (n, n_channels); y_bits: (n, ⌈n_channels / 8⌉).
class LayerNorm final : public Operator {
 public:
  // Not centered, means are taken to be 0.
  LayerNorm(int64_t n_channels, float epsilon, bool is_centered, Transform after)
      : n_channels_(n_channels),
        epsilon_(epsilon),
        is_centered_(is_centered),
        after_(std::move(after)) {}

  void run(const Implementation&, const Arguments&) const override;
  int n_others() const override { return after_.n_residuals(); }

 private:
  int64_t n_channels_;
  float epsilon_;
  bool is_centered_;
  Transform after_;
};

// Of each group of channels of an image. x, residuals, y: (n, height, width, n_channels).
class GroupNorm final : public Operator {
 public:
  // `n_groups` divides n_channels.
  GroupNorm(int64_t height, int64_t width, int64_t n_channels, int64_t n_groups, float epsilon,
            Transform after)
      : height_(height),
        width_(width),
        n_channels_(n_channels),
        n_groups_(n_groups),
        epsilon_(epsilon),
        after_(std::move(after)) {}

  void run(const Implementation&, const Arguments&) const override;
  int n_others() const override { return after_.n_residuals(); }

 private:
  struct Image;

  int64_t height_, width_, n_channels_, n_groups_;
  float epsilon_;
  Transform after_;
};

}  // namespace irbin
