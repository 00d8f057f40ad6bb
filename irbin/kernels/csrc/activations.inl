// Activations with an exponential or an error function: the operations of `irbin/kernels/activations.py`
// in its order, each rounded by itself. Included after `V`.

inline V::Floats minus(const V::Floats& a) { return V::multiply(a, V::all(-1.0f)); }

template <int N>
inline V::Floats polynomial(const float (&coefficients)[N], const V::Floats& x) {
  V::Floats y = V::all(coefficients[N - 1]);
#pragma GCC unroll 8
  for (int i = N - 2; i >= 0; --i) y = V::add(V::multiply(y, x), V::all(coefficients[i]));
  return y;
}

// n, and in `rest` e to the power of r, minus 1, of x = n·ln 2 + r.
inline V::Floats exponent_and_rest(const V::Floats& x, V::Floats& rest) {
  constexpr float kExp[] = {0.4999999701976776f, 0.16666536033153534f, 0.04166722297668457f,
                            0.008366581052541733f, 0.001388250500895083f};
  const V::Floats rounder = V::all(12582912.0f);
  const V::Floats n =
      V::subtract(V::add(V::multiply(x, V::all(1.4426950408889634f)), rounder), rounder);
  const V::Floats high = V::subtract(x, V::multiply(n, V::all(0.693115234375f)));
  const V::Floats r = V::subtract(high, V::multiply(n, V::all(3.194618329871446e-05f)));
  rest = V::multiply(r, V::add(V::multiply(r, polynomial(kExp, r)), V::all(1.0f)));
  return n;
}

inline V::Floats exp_of(const V::Floats& x) {
  V::Floats rest;
  const V::Floats n = exponent_and_rest(V::clamp(x, V::all(-104.0f), V::all(89.0f)), rest);
  return V::scaled(V::add(rest, V::all(1.0f)), n);
}

inline V::Floats expm1_of(const V::Floats& x) {
  V::Floats rest;
  const V::Floats one = V::all(1.0f);
  const V::Floats n = exponent_and_rest(V::clamp(x, V::all(-30.0f), V::all(30.0f)), rest);
  const V::Floats power = V::scaled(one, n);
  return V::with_sign(V::add(V::multiply(power, rest), V::subtract(power, one)), x);
}

inline V::Floats erf_of(const V::Floats& x) {
  constexpr float kAbove[] = {1.1283791065216064f,     0.19976265728473663f,
                              0.050551362335681915f,   0.0036945692263543606f,
                              0.00014167343033477664f, -1.957062067958759e-06f,
                              1.9926684302618014e-08f};
  constexpr float kBelow[] = {1.0f, 0.5103667378425598f, 0.11493100970983505f, 0.01433904841542244f,
                              0.0009543046471662819f};
  const V::Floats v = V::clamp(x, V::all(-3.9192061f), V::all(3.9192061f));
  const V::Floats square = V::multiply(v, v);
  const V::Floats y =
      V::divide(V::multiply(v, polynomial(kAbove, square)), polynomial(kBelow, square));
  return V::clamp(y, V::all(-1.0f), V::all(1.0f));
}

// 1 + e to the power of x.
inline V::Floats one_and_exp(const V::Floats& x) { return V::add(exp_of(x), V::all(1.0f)); }

inline V::Floats raised(const V::Floats& x) {
  return V::clamp(V::add(x, V::all(3.0f)), V::all(0.0f), V::all(6.0f));
}

inline V::Floats gelu_of(const V::Floats& x) {
  const V::Floats half = V::multiply(x, V::all(0.5f));
  return V::multiply(half,
                     V::add(erf_of(V::multiply(x, V::all(0.7071067811865476f))), V::all(1.0f)));
}

inline V::Floats gelu_tanh_of(const V::Floats& x) {
  const V::Floats third = V::multiply(V::multiply(x, x), V::all(-0.07135481282052268f));
  const V::Floats minus_2z = V::multiply(x, V::add(third, V::all(-1.5957691216057308f)));
  return V::divide(x, one_and_exp(minus_2z));
}

inline V::Floats tanh_of(const V::Floats& x) {
  const V::Floats t = expm1_of(V::add(x, x));
  return V::divide(t, V::add(t, V::all(2.0f)));
}

inline V::Floats sigmoid_of(const V::Floats& x) {
  return V::divide(V::all(1.0f), one_and_exp(minus(x)));
}

inline V::Floats silu_of(const V::Floats& x) { return V::divide(x, one_and_exp(minus(x))); }

inline V::Floats hardsigmoid_of(const V::Floats& x) { return V::divide(raised(x), V::all(6.0f)); }

inline V::Floats hardswish_of(const V::Floats& x) {
  return V::divide(V::multiply(x, raised(x)), V::all(6.0f));
}

inline V::Floats mish_of(const V::Floats& x) {
  const V::Floats e = exp_of(V::clamp(x, V::all(-104.0f), V::all(30.0f))), two = V::all(2.0f);
  const V::Floats n = V::multiply(e, V::add(e, two));
  return V::multiply(x, V::divide(n, V::add(n, two)));
}

// y with the sign of what was held.
inline V::Floats kept(const V::Floats& y, const V::Floats& held) {
  constexpr float kLeast = 1.17549435e-38f, kMost = __builtin_inff();
  const V::Floats zero = V::all(0.0f);
  return V::where_positive(minus(held), V::clamp(y, V::all(-kMost), V::all(-kLeast)),
                           V::add(V::clamp(y, zero, V::all(kMost)), zero));  // −0 becomes +0
}

// No lambdas: GCC compiles those for the file's target, not for the region's.
template <V::Floats (*function)(const V::Floats&)>
inline void on_each(float* values, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, values += kLanes)
    V::store(values, function(V::load(values)));
}

inline void elu_on_each(const float* slopes, int64_t n_rows, int64_t n_blocks, float* values) {
  for (int64_t i = 0; i < n_rows; ++i)
    for (int64_t b = 0; b < n_blocks; ++b, values += kLanes) {
      const V::Floats x = V::load(values), by = V::load(slopes + b * kLanes);
      V::store(values, V::where_positive(x, x, V::multiply(expm1_of(x), by)));
    }
}

// One activation on `n_rows` times `n_blocks` blocks from channel `channel` on, in place.
[[gnu::noinline]] void activate(const Step& step, int64_t channel, int64_t n_rows, int64_t n_blocks,
                                float* values) {
  const int64_t n = n_rows * n_blocks;
  switch (step.kind) {
    case StepKind::elu: return elu_on_each(step.values + channel, n_rows, n_blocks, values);
    case StepKind::sigmoid: return on_each<sigmoid_of>(values, n);
    case StepKind::silu: return on_each<silu_of>(values, n);
    case StepKind::hardsigmoid: return on_each<hardsigmoid_of>(values, n);
    case StepKind::hardswish: return on_each<hardswish_of>(values, n);
    case StepKind::gelu: return on_each<gelu_of>(values, n);
    case StepKind::gelu_tanh: return on_each<gelu_tanh_of>(values, n);
    case StepKind::tanh: return on_each<tanh_of>(values, n);
    case StepKind::mish: return on_each<mish_of>(values, n);
    default: return;
  }
}
