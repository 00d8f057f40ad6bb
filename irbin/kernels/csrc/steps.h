// Output transforms and thresholds that own their numbers, padded so that kernels may read a whole
// block from any channel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "contract.h"

namespace irbin {

constexpr int kMaxResiduals = 4;

class Transform {
 public:
  Transform() = default;
  Transform(Transform&&) = default;
  Transform(const Transform&) = delete;  // its steps point at its own numbers

  // values: (n_channels,) where the kind `has_values`, else null.
  void append(StepKind kind, int32_t residual, float low, float high, const float* values,
              int64_t n_channels, int32_t before = 0, int32_t channels = 0) {
    std::vector<float>& held = values_.emplace_back();
    if (values != nullptr) {
      held.assign(static_cast<size_t>(n_channels + kLanes), 0.0f);
      for (int64_t c = 0; c < n_channels; ++c) held[static_cast<size_t>(c)] = values[c];
    }
    steps_.push_back({kind, residual, low, high, held.data(), before, channels});
    if (kind != StepKind::residual) return;
    if (residual >= n_residuals_) n_residuals_ = residual + 1;
    residual_channels_[residual] = channels > 0 ? channels : n_channels;
  }

  // For a tile in registers; points into this one. A product or a sum that is not there is one with 1
  // or with −0, which change nothing, not even a zero's sign.
  TileSteps for_tiles(int64_t n_channels) {
    ones_.assign(static_cast<size_t>(n_channels + kLanes), 1.0f);
    zeros_.assign(static_cast<size_t>(n_channels + kLanes), -0.0f);
    const Step *s = data(), *const end = s + size();
    TileSteps found{ones_.data(), zeros_.data(), nullptr, nullptr, s, end};
    if (s < end && s->kind == StepKind::multiply) found.multiply = s++->values;
    if (s < end && s->kind == StepKind::add) found.add = s++->values;
    if (s < end && s->kind == StepKind::residual) found.residual = s++;
    if (s < end && s->kind == StepKind::clamp) found.clamp = s++;
    found.rest = s;
    return found;
  }

  const Step* data() const { return steps_.data(); }
  int64_t size() const { return static_cast<int64_t>(steps_.size()); }
  int n_residuals() const { return n_residuals_; }
  int64_t residual_channels(int i) const { return residual_channels_[i]; }

 private:
  std::vector<Step> steps_;
  std::vector<std::vector<float>> values_;  // moving one leaves its numbers where they are
  std::vector<float> ones_, zeros_;
  int n_residuals_ = 0;
  int64_t residual_channels_[kMaxResiduals] = {};
};

// Tensors that a transform's residual steps add, shifted to some pixel.
class Residuals {
 public:
  Residuals(const float* const* tensors, const Transform& transform, int64_t pixel) {
    for (int i = 0; i < transform.n_residuals(); ++i)
      at_[i] = tensors[i] + pixel * transform.residual_channels(i);
  }
  const float* const* data() const { return at_; }

 private:
  const float* at_[kMaxResiduals] = {};
};

}  // namespace irbin
