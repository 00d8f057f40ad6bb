// What the kernels must compute, in plain loops on ±1 numbers: written from docs/format.md, not
// from the kernels, and never fast.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "conv.h"
#include "curves.h"

namespace naive {

using irbin::Axis;
using irbin::Geometry;
using irbin::kLanes;
using irbin::StepKind;
using Floats = std::vector<float>;
using Bytes = std::vector<uint8_t>;
using Signs = std::vector<int8_t>;

inline int64_t packed_bytes(int64_t n_signs) { return (n_signs + 7) / 8; }

// (rows, n_channels) to (rows, ⌈n_channels / 8⌉): bit 1 stands for what is negative.
template <class Number>
Bytes pack(const std::vector<Number>& x, int64_t n_channels) {
  const int64_t n_bytes = packed_bytes(n_channels);
  const int64_t n_rows = n_channels == 0 ? 0 : static_cast<int64_t>(x.size()) / n_channels;
  Bytes bits(static_cast<size_t>(n_rows * n_bytes), 0);
  for (int64_t r = 0; r < n_rows; ++r)
    for (int64_t c = 0; c < n_channels; ++c)
      if (x[static_cast<size_t>(r * n_channels + c)] < 0)
        bits[static_cast<size_t>(r * n_bytes + c / 8)] |= static_cast<uint8_t>(1 << c % 8);
  return bits;
}

// x: (n_images, height, width, in_channels), w: (out_channels, kernel_y, kernel_x, in_channels /
// groups); the dots are (n_images, out_height, out_width, out_channels).
inline std::vector<int32_t> dots(const Geometry& g, int64_t n_images, const Signs& x,
                                 const Signs& w) {
  const int64_t n_in = g.in_channels / g.groups, n_out = g.out_channels / g.groups;
  std::vector<int32_t> found;
  for (int64_t image = 0; image < n_images; ++image)
    for (int64_t oy = 0; oy < g.y.out_size(); ++oy)
      for (int64_t ox = 0; ox < g.x.out_size(); ++ox)
        for (int64_t o = 0; o < g.out_channels; ++o) {
          int32_t dot = 0;
          for (int64_t ky = 0; ky < g.y.kernel; ++ky)
            for (int64_t kx = 0; kx < g.x.kernel; ++kx) {
              const int64_t iy = oy * g.y.stride + ky * g.y.dilation - g.y.before;
              const int64_t ix = ox * g.x.stride + kx * g.x.dilation - g.x.before;
              if (iy < 0 || iy >= g.y.size || ix < 0 || ix >= g.x.size) continue;
              const int64_t pixel = (image * g.y.size + iy) * g.x.size + ix;
              const int8_t* a = x.data() + pixel * g.in_channels + o / n_out * n_in;
              const int8_t* b = w.data() + ((o * g.y.kernel + ky) * g.x.kernel + kx) * n_in;
              for (int64_t c = 0; c < n_in; ++c) dot += a[c] * b[c];
            }
          found.push_back(dot);
        }
  return found;
}

// The same of floats: products are added in the order (row, column, channel) of the taps, starting
// from zero, each with one rounding; outside the image are zeros, which are multiplied like others.
inline Floats sums(const Geometry& g, int64_t n_images, const Floats& x, const Floats& w) {
  const int64_t n_in = g.in_channels / g.groups, n_out = g.out_channels / g.groups;
  const Floats zeros(static_cast<size_t>(g.in_channels), 0.0f);
  Floats found;
  for (int64_t image = 0; image < n_images; ++image)
    for (int64_t oy = 0; oy < g.y.out_size(); ++oy)
      for (int64_t ox = 0; ox < g.x.out_size(); ++ox)
        for (int64_t o = 0; o < g.out_channels; ++o) {
          float sum = 0;
          const float* b = w.data() + o * g.y.kernel * g.x.kernel * n_in;
          for (int64_t ky = 0; ky < g.y.kernel; ++ky)
            for (int64_t kx = 0; kx < g.x.kernel; ++kx) {
              const int64_t iy = oy * g.y.stride + ky * g.y.dilation - g.y.before;
              const int64_t ix = ox * g.x.stride + kx * g.x.dilation - g.x.before;
              const bool inside = iy >= 0 && iy < g.y.size && ix >= 0 && ix < g.x.size;
              const int64_t pixel = (image * g.y.size + iy) * g.x.size + ix;
              const float* a =
                  (inside ? x.data() + pixel * g.in_channels : zeros.data()) + o / n_out * n_in;
              for (int64_t c = 0; c < n_in; ++c, ++b) sum = std::fma(a[c], *b, sum);
            }
          found.push_back(sum);
        }
  return found;
}

// Of floats and signs, in one group: in the order (row, column, four channels) of the taps, (±x0 ± x1) +
// (±x2 ± x3) is added to what starts from zero; channels behind the last are zeros.
inline Floats sums_of_signs(const Geometry& g, int64_t n_images, const Floats& x, const Signs& w) {
  Floats found;
  for (int64_t image = 0; image < n_images; ++image)
    for (int64_t oy = 0; oy < g.y.out_size(); ++oy)
      for (int64_t ox = 0; ox < g.x.out_size(); ++ox)
        for (int64_t o = 0; o < g.out_channels; ++o) {
          float sum = 0;
          for (int64_t ky = 0; ky < g.y.kernel; ++ky)
            for (int64_t kx = 0; kx < g.x.kernel; ++kx) {
              const int64_t iy = oy * g.y.stride + ky * g.y.dilation - g.y.before;
              const int64_t ix = ox * g.x.stride + kx * g.x.dilation - g.x.before;
              const bool inside = iy >= 0 && iy < g.y.size && ix >= 0 && ix < g.x.size;
              const int64_t pixel = ((image * g.y.size + iy) * g.x.size + ix) * g.in_channels;
              const int64_t tap = ((o * g.y.kernel + ky) * g.x.kernel + kx) * g.in_channels;
              for (int64_t c = 0; c < g.in_channels; c += 4) {
                float four[4] = {};
                for (int64_t i = 0; i < 4 && c + i < g.in_channels; ++i)
                  if (inside)
                    four[i] = x[static_cast<size_t>(pixel + c + i)] *
                              static_cast<float>(w[static_cast<size_t>(tap + c + i)]);
                const float first = four[0] + four[1], last = four[2] + four[3];
                sum += first + last;
              }
            }
          found.push_back(sum);
        }
  return found;
}

// Of bytes: a tap inside the image adds its products and its constant, one outside adds nothing.
// w: (out_channels, kernel_y, kernel_x, in_channels), constants without the last axis.
inline Floats byte_sums(const Geometry& g, int64_t n_images, const Bytes& x,
                        const std::vector<int16_t>& w, const std::vector<int32_t>& constants) {
  const int64_t n_in = g.in_channels;
  Floats found;
  for (int64_t image = 0; image < n_images; ++image)
    for (int64_t oy = 0; oy < g.y.out_size(); ++oy)
      for (int64_t ox = 0; ox < g.x.out_size(); ++ox)
        for (int64_t o = 0; o < g.out_channels; ++o) {
          int64_t sum = 0;
          for (int64_t ky = 0; ky < g.y.kernel; ++ky)
            for (int64_t kx = 0; kx < g.x.kernel; ++kx) {
              const int64_t iy = oy * g.y.stride + ky * g.y.dilation - g.y.before;
              const int64_t ix = ox * g.x.stride + kx * g.x.dilation - g.x.before;
              if (iy < 0 || iy >= g.y.size || ix < 0 || ix >= g.x.size) continue;
              const int64_t tap = (o * g.y.kernel + ky) * g.x.kernel + kx;
              const int64_t pixel = (image * g.y.size + iy) * g.x.size + ix;
              sum += constants[static_cast<size_t>(tap)];
              for (int64_t c = 0; c < n_in; ++c)
                sum += int64_t{x[static_cast<size_t>(pixel * n_in + c)]} *
                       w[static_cast<size_t>(tap * n_in + c)];
            }
          found.push_back(static_cast<float>(static_cast<int32_t>(sum)));
        }
  return found;
}

// (n_images, pixels, n_channels) as (n_images, n_channels, pixels).
inline Floats planes(const Floats& x, int64_t n_images, int64_t n_channels) {
  const int64_t n_image = n_images == 0 ? 0 : static_cast<int64_t>(x.size()) / n_images;
  Floats turned;
  for (int64_t image = 0; image < n_images; ++image)
    for (int64_t c = 0; c < n_channels; ++c)
      for (int64_t p = 0; p < n_image / n_channels; ++p)
        turned.push_back(x[static_cast<size_t>(image * n_image + p * n_channels + c)]);
  turned.shrink_to_fit();  // what is read ends where its allocation ends
  return turned;
}

// One step of a transform that owns its numbers.
struct Step {
  StepKind kind;
  Floats values{};  // (channels,) of what has some
  int32_t residual = 0;
  float low = 0, high = 0;
  int32_t before = 0, channels = 0;
};
using Steps = std::vector<Step>;

inline float apply(const Step& step, float v, size_t channel, float residual) {
  switch (step.kind) {
    case StepKind::multiply: return v * step.values[channel];
    case StepKind::add: return v + step.values[channel];
    case StepKind::residual: return v + residual;
    case StepKind::prelu: return v > 0 ? v : v * step.values[channel];
    case StepKind::write:
    case StepKind::hold: return v;
    case StepKind::clamp: return curves::within(v, step.low, step.high);
    default: return curves::apply(step.kind, v, step.values.empty() ? 0 : step.values[channel]);
  }
}

// What a residual step adds to number i of (pixels, n_channels).
inline float added(const Step& step, const Floats& residual, int64_t i, int64_t n_channels) {
  if (step.channels == 0) return residual[static_cast<size_t>(i)];
  const int64_t c = i % n_channels - step.before;
  if (c < 0 || c >= step.channels) return 0;
  return residual[static_cast<size_t>(i / n_channels * step.channels + c)];
}

// x: (pixels, n_channels); every residual likewise, or with fewer channels.
inline Floats apply(const Steps& steps, Floats x, int64_t n_channels,
                    const std::vector<Floats>& residuals) {
  for (size_t i = 0; i < x.size(); ++i) {
    float held = 0;
    for (const Step& step : steps) {
      if (step.kind == StepKind::hold) held = x[i];
      float residual = 0;
      if (step.kind == StepKind::residual)
        residual = added(step, residuals[static_cast<size_t>(step.residual)],
                         static_cast<int64_t>(i), n_channels);
      if (step.kind == StepKind::keep)
        x[i] = held < 0 ? std::min(x[i], -std::numeric_limits<float>::min())
                        : curves::within(x[i], 0, x[i]) + 0.0f;
      else
        x[i] = apply(step, x[i], i % static_cast<size_t>(n_channels), residual);
    }
  }
  return x;
}

// x: (n_images, height, width, n_channels). A NaN wins, what lies outside never does.
inline Floats max_pool(const Axis& y, const Axis& x, int64_t n_channels, int64_t n_images,
                       const Floats& from) {
  Floats found;
  for (int64_t image = 0; image < n_images; ++image)
    for (int64_t oy = 0; oy < y.out_size(); ++oy)
      for (int64_t ox = 0; ox < x.out_size(); ++ox)
        for (int64_t c = 0; c < n_channels; ++c) {
          float largest = -std::numeric_limits<float>::infinity();
          for (int64_t ky = 0; ky < y.kernel; ++ky)
            for (int64_t kx = 0; kx < x.kernel; ++kx) {
              const int64_t iy = oy * y.stride + ky * y.dilation - y.before;
              const int64_t ix = ox * x.stride + kx * x.dilation - x.before;
              if (iy < 0 || iy >= y.size || ix < 0 || ix >= x.size) continue;
              const int64_t at = ((image * y.size + iy) * x.size + ix) * n_channels + c;
              const float v = from[static_cast<size_t>(at)];
              if (v >= largest || std::isnan(v)) largest = v;  // nothing is >= a NaN
            }
          found.push_back(largest);
        }
  return found;
}

}  // namespace naive
