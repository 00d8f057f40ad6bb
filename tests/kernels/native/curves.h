// Activations one number at a time, as `irbin/kernels/activations.py` writes them: every operation
// rounded by itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "contract.h"

namespace curves {

using irbin::StepKind;

// From the last coefficient on.
inline float polynomial(std::initializer_list<float> coefficients, float x) {
  float y = 0;
  bool is_first = true;
  for (const float one : coefficients) {
    y = is_first ? one : y * x + one;
    is_first = false;
  }
  return y;
}

inline float within(float x, float low, float high) {
  if (x < low) return low;
  return x > high ? high : x;
}

// x = n·ln 2 + r; e to the power of r, minus 1.
inline float rest_of(float x, int& n) {
  const float nearest = std::nearbyint(x * 1.4426950408889634f);
  n = std::isnan(nearest) ? 0 : static_cast<int>(nearest);
  const float r = (x - nearest * 0.693115234375f) - nearest * 3.194618329871446e-05f;
  const float q = polynomial({0.001388250500895083f, 0.008366581052541733f, 0.04166722297668457f,
                              0.16666536033153534f, 0.4999999701976776f},
                             r);
  return r * (r * q + 1.0f);
}

inline float exp(float x) {
  int n = 0;
  const float rest = rest_of(within(x, -104, 89), n);
  return std::ldexp(rest + 1.0f, n);
}

inline float expm1(float x) {
  int n = 0;
  const float rest = rest_of(within(x, -30, 30), n), power = std::ldexp(1.0f, n);
  return std::copysign(power * rest + (power - 1.0f), x);
}

inline float erf(float x) {
  x = within(x, -3.9192061f, 3.9192061f);
  const float square = x * x;
  const float above = polynomial(
      {1.9926684302618014e-08f, -1.957062067958759e-06f, 0.00014167343033477664f,
       0.0036945692263543606f, 0.050551362335681915f, 0.19976265728473663f, 1.1283791065216064f},
      square);
  const float below = polynomial({0.0009543046471662819f, 0.01433904841542244f,
                                  0.11493100970983505f, 0.5103667378425598f, 1.0f},
                                 square);
  return within(x * above / below, -1, 1);
}

inline float apply(StepKind kind, float x, float slope) {
  switch (kind) {
    case StepKind::elu: return x > 0 ? x : expm1(x) * slope;
    case StepKind::sigmoid: return 1.0f / (exp(-x) + 1.0f);
    case StepKind::silu: return x / (exp(-x) + 1.0f);
    case StepKind::hardsigmoid: return within(x + 3.0f, 0, 6) / 6.0f;
    case StepKind::hardswish: return x * within(x + 3.0f, 0, 6) / 6.0f;
    case StepKind::gelu: return x * 0.5f * (erf(x * 0.7071067811865476f) + 1.0f);
    case StepKind::gelu_tanh:
      return x / (exp(x * (x * x * -0.07135481282052268f + -1.5957691216057308f)) + 1.0f);
    case StepKind::tanh: {
      const float t = expm1(x + x);
      return t / (t + 2.0f);
    }
    case StepKind::mish: {
      const float e = exp(within(x, -104, 30)), n = e * (e + 2.0f);
      return x * (n / (n + 2.0f));
    }
    default: return x;
  }
}

}  // namespace curves
