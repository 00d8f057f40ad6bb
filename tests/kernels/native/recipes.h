// Output transforms to try: the usual ones, which have code of their own, and odd ones.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "check.h"

namespace recipes {

using check::Expected;
using draw::Random;
using irbin::StepKind;
using irbin::Transform;
using naive::Bytes;
using naive::Floats;
using naive::Steps;

inline Transform build(const Steps& steps, int64_t n_channels) {
  Transform made;
  for (const naive::Step& s : steps)
    made.append(s.kind, s.residual, s.low, s.high, s.values.empty() ? nullptr : s.values.data(),
                n_channels, s.before, s.channels);
  return made;
}

enum Recipe {
  none,
  product,
  affine,
  relu6,
  prelu,
  two_residuals,
  before,
  rprelu,
  threshold,
  clamped_threshold,
  activated,
  kept,
  narrow,
  n_recipes
};

inline Steps draw_steps(Random& random, int recipe, int64_t n_channels) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const auto per_channel = [&](StepKind kind) {
    return naive::Step{kind, random.numbers(n_channels)};
  };
  const naive::Step first{StepKind::residual, {}, 0}, second{StepKind::residual, {}, 1};
  const naive::Step clamp{
      StepKind::clamp, {}, 0, random.one_of({0.0f, -1.5f, -inf}), random.one_of({6.0f, inf})};
  switch (recipe) {
    case product: return {per_channel(StepKind::multiply)};
    case affine: return {per_channel(StepKind::multiply), per_channel(StepKind::add)};
    case relu6: return {per_channel(StepKind::multiply), per_channel(StepKind::add), first, clamp};
    case prelu: return {per_channel(StepKind::prelu)};
    case two_residuals:
      return {second, per_channel(StepKind::prelu), first, per_channel(StepKind::add), clamp};
    case rprelu:
      return {per_channel(StepKind::multiply),
              per_channel(StepKind::add),
              first,
              per_channel(StepKind::add),
              per_channel(StepKind::prelu),
              per_channel(StepKind::add)};
    case threshold:
      return {first, per_channel(StepKind::prelu), {StepKind::write}, per_channel(StepKind::add)};
    case clamped_threshold:
      return {per_channel(StepKind::multiply), per_channel(StepKind::add), clamp, {StepKind::write},
              per_channel(StepKind::multiply), per_channel(StepKind::add)};
    case activated: {
      const StepKind last =
          random.one_of({StepKind::elu, StepKind::sigmoid, StepKind::silu, StepKind::hardsigmoid,
                         StepKind::hardswish, StepKind::gelu, StepKind::gelu_tanh, StepKind::tanh,
                         StepKind::mish});
      return {per_channel(StepKind::multiply), per_channel(StepKind::add), first,
              has_values(last) ? per_channel(last) : naive::Step{last}};
    }
    case kept: {
      const StepKind curve =
          random.one_of({StepKind::silu, StepKind::hardswish, StepKind::gelu, StepKind::mish});
      return {per_channel(StepKind::multiply), per_channel(StepKind::add), {StepKind::hold},
              {curve},  {StepKind::keep}, first, {StepKind::write}, per_channel(StepKind::add)};
    }
    case narrow: {  // a part of the channels is added, and all
      const int64_t n = random.between(1, n_channels), first_of_it = random.between(0, n_channels - n);
      naive::Step part = first;
      part.channels = static_cast<int32_t>(n);
      part.before = static_cast<int32_t>(first_of_it);
      return {per_channel(StepKind::multiply), per_channel(StepKind::add), part, second, clamp};
    }
    case before: return {per_channel(StepKind::multiply), per_channel(StepKind::add), clamp};
    default: return {};
  }
}

// What the steps make of x: y as it stands at a `write`, the signs as they are at the end.
inline Expected expect(const Steps& steps, Floats x, int64_t n_channels,
                       const std::vector<Floats>& residuals, bool zeros_alike) {
  const auto write = std::find_if(steps.begin(), steps.end(),
                                  [](const naive::Step& s) { return s.kind == StepKind::write; });
  Floats y = naive::apply({steps.begin(), write}, std::move(x), n_channels, residuals);
  Bytes bits = naive::pack(naive::apply({write, steps.end()}, y, n_channels, {}), n_channels);
  return {std::move(y), std::move(bits), zeros_alike};
}

inline bool has_clamp(const Steps& steps) {
  return std::any_of(steps.begin(), steps.end(),
                     [](const naive::Step& s) { return s.kind == StepKind::clamp; });
}

// Tensors that the steps' residual steps add.
inline std::vector<Floats> draw_residuals(Random& random, const Transform& transform,
                                          size_t n_floats, int64_t n_channels) {
  std::vector<Floats> made;
  const int64_t n_pixels = n_channels == 0 ? 0 : static_cast<int64_t>(n_floats) / n_channels;
  for (int i = 0; i < transform.n_residuals(); ++i)
    made.push_back(random.numbers(n_pixels * transform.residual_channels(i)));
  return made;
}

inline std::vector<const float*> addresses(const std::vector<Floats>& tensors) {
  std::vector<const float*> found;
  for (const Floats& tensor : tensors) found.push_back(tensor.data());
  return found;
}

}  // namespace recipes
