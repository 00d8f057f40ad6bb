#include "walk.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "threads.h"

namespace irbin {
namespace {

// A number that is moved costs about as much time as so many 1-bit MACs.
constexpr int64_t kMacsANumber = 64;

// Lines of a leg: its axes but for the last.
int64_t n_lines(const Leg& leg) {
  int64_t n = 1;
  for (int i = 0; i + 1 < leg.n_axes; ++i) n *= leg.sizes[i];
  return n;
}

int64_t last_size(const Leg& leg) { return leg.sizes[leg.n_axes - 1]; }

// Of places that follow one another there is a loop by itself, which compilers use vectors for.
template <class Make>
void each(int64_t n, const float* a, int64_t a_step, const float* b, int64_t b_step, float* y,
          int64_t y_step, const Make& make) {
  if (y_step == 1 && a_step == 1 && b_step == 1) {
    for (int64_t i = 0; i < n; ++i) y[i] = make(a[i], b[i]);
  } else if (y_step == 1 && a_step == 1 && b_step == 0) {
    const float with = *b;
    for (int64_t i = 0; i < n; ++i) y[i] = make(a[i], with);
  } else if (y_step == 1 && a_step == 0 && b_step == 1) {
    const float with = *a;
    for (int64_t i = 0; i < n; ++i) y[i] = make(with, b[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * y_step] = make(a[i * a_step], b[i * b_step]);
  }
}

void copy(int64_t n, const float* a, int64_t a_step, float* y, int64_t y_step) {
  if (a_step == 1 && y_step == 1)
    std::copy_n(a, n, y);
  else if (a_step == 0 && y_step == 1)
    std::fill_n(y, n, *a);
  else
    for (int64_t i = 0; i < n; ++i) y[i * y_step] = a[i * a_step];
}

void sum(const Leg& leg, int64_t n, const float* a, int64_t a_step, float* y, int64_t y_step) {
  copy(n, a, a_step, y, y_step);
  for (int64_t k = 1; k < leg.count; ++k)
    each(n, y, y_step, a + k * leg.step, a_step, y, y_step,
         [](float total, float one) { return total + one; });
}

void softmax(const Implementation& how, const Leg& leg, int64_t n, const float* a, int64_t a_step,
             float* y, int64_t y_step) {
  thread_local std::vector<float> row;
  row.resize(static_cast<size_t>((leg.count + kLanes - 1) / kLanes * kLanes));
  for (int64_t i = 0; i < n; ++i, a += a_step, y += y_step) {
    for (int64_t k = 0; k < leg.count; ++k) row[static_cast<size_t>(k)] = a[k * leg.step];
    const float total = how.soften(row.data(), leg.count, 1.0f, nullptr);
    for (int64_t k = 0; k < leg.count; ++k)
      y[k * leg.to_step] = row[static_cast<size_t>(k)] / total;
  }
}

// NaN if one of them is; of equal ones the second.
inline float larger(float a, float b) { return a != a || (a > b && b == b) ? a : b; }
inline float smaller(float a, float b) { return a != a || (a < b && b == b) ? a : b; }

void line(const Implementation& how, const Leg& leg, int64_t n, const float* a, int64_t a_step,
          const float* b, int64_t b_step, float* y, int64_t y_step) {
  const auto meet = [&](const auto& make) { each(n, a, a_step, b, b_step, y, y_step, make); };
  switch (leg.kind) {
    case WalkKind::copy: return copy(n, a, a_step, y, y_step);
    case WalkKind::multiply: return meet([](float v, float w) { return v * w; });
    case WalkKind::add: return meet([](float v, float w) { return v + w; });
    case WalkKind::subtract: return meet([](float v, float w) { return v - w; });
    case WalkKind::divide: return meet([](float v, float w) { return v / w; });
    case WalkKind::maximum: return meet(larger);
    case WalkKind::minimum: return meet(smaller);
    case WalkKind::negate: return meet([](float v, float) { return -v; });
    case WalkKind::absolute: return meet([](float v, float) { return std::fabs(v); });
    case WalkKind::sum: return sum(leg, n, a, a_step, y, y_step);
    case WalkKind::softmax: return softmax(how, leg, n, a, a_step, y, y_step);
  }
}

}  // namespace

Walk::Walk(int64_t n_pixels, int64_t n_channels, std::vector<int64_t> sizes, std::vector<Leg> legs,
           std::vector<float> constants, Transform after)
    : n_pixels_(n_pixels),
      n_channels_(n_channels),
      sizes_(std::move(sizes)),
      legs_(std::move(legs)),
      constants_(std::move(constants)),
      after_(std::move(after)) {}

// Lines [begin, end) of a leg in an image.
void Walk::walk(const Implementation& how, const Arguments& a, const Leg& leg, int64_t image,
                int64_t begin, int64_t end, float* y) const {
  const auto start = [&](const Way& way) {
    if (way.source < 0) return constants_.data() + way.offset;
    const float* tensor =
        way.source == 0 ? a.from<float>() : a.others[after_.n_residuals() + way.source - 1];
    return tensor + image * sizes_[static_cast<size_t>(way.source)] + way.offset;
  };
  const float *first = start(leg.first), *second = start(leg.second);
  float* to = y + leg.to.offset;
  const int last = leg.n_axes - 1;
  int64_t at[kMaxWalkAxes] = {};
  int64_t left = begin;
  for (int i = last - 1; i >= 0; left /= leg.sizes[i--]) {
    at[i] = left % leg.sizes[i];
    first += at[i] * leg.first.strides[i];
    second += at[i] * leg.second.strides[i];
    to += at[i] * leg.to.strides[i];
  }
  for (int64_t l = begin; l < end; ++l) {
    line(how, leg, leg.sizes[last], first, leg.first.strides[last], second,
         leg.second.strides[last], to, leg.to.strides[last]);
    for (int i = last - 1; i >= 0; --i) {
      const bool is_over = ++at[i] == leg.sizes[i];
      const int64_t by = is_over ? 1 - leg.sizes[i] : 1;
      first += by * leg.first.strides[i];
      second += by * leg.second.strides[i];
      to += by * leg.to.strides[i];
      if (!is_over) break;
      at[i] = 0;
    }
  }
}

void Walk::run(const Implementation& how, const Arguments& a) const {
  const int64_t n_numbers = n_pixels_ * n_channels_;
  if (a.n == 0 || n_numbers == 0) return;
  std::vector<float> made;
  float* y = a.y;
  if (y == nullptr) {
    made.resize(static_cast<size_t>(a.n * n_numbers));
    y = made.data();
  }
  int64_t total = 0;
  for (const Leg& leg : legs_) total += n_lines(leg) * last_size(leg) * (leg.count + 1);
  const int64_t work = a.n * total * kMacsANumber;
  const int n_threads = useful_threads(work, a.n_threads);
  const int n_parts = useful_tiles(work, n_threads, a.n * n_pixels_);
  // parts are cut from every leg of every image, so that none is one thread's alone
  parallel(n_parts, n_threads, [&](int part) {
    for (const Leg& leg : legs_) {
      const int64_t lines = n_lines(leg), all = a.n * lines;
      for (int64_t l = all * part / n_parts, end = all * (part + 1) / n_parts; l < end;) {
        const int64_t image = l / lines, begin = l % lines;
        const int64_t here = std::min(lines - begin, end - l);
        walk(how, a, leg, image, begin, begin + here, y + image * n_numbers);
        l += here;
      }
    }
  });
  if (after_.size() == 0 && a.y_bits == nullptr) return;
  const int64_t n_rows = a.n * n_pixels_, bits_stride = (n_channels_ + 7) / 8;
  parallel(n_parts, n_threads, [&](int part) {
    const int64_t first = n_rows * part / n_parts, last = n_rows * (part + 1) / n_parts;
    const Residuals shifted(a.others, after_, first);
    float* from = y + first * n_channels_;
    how.finish_floats(
        from, n_channels_, last - first, 0, n_channels_,
        {after_.data(), after_.size(), shifted.data(), n_channels_, a.y == nullptr ? nullptr : from,
         n_channels_, a.y_bits == nullptr ? nullptr : a.y_bits + first * bits_stride, bits_stride});
  });
}

}  // namespace irbin
