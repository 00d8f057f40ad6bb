#include "norms.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "threads.h"

namespace irbin {
namespace {

// A float that is touched costs about as much time as so many 1-bit MACs.
constexpr int64_t kMacsAFloat = 64;
constexpr int64_t kRowsAtOnce = 8;

}  // namespace

void LayerNorm::run(const Implementation& how, const Arguments& a) const {
  const int n_threads = useful_threads(a.n * n_channels_ * kMacsAFloat * 2, a.n_threads);
  const int n_parts = useful_tiles(a.n * n_channels_ * kMacsAFloat * 2, n_threads, a.n);
  const int64_t bits_stride = (n_channels_ + 7) / 8;
  parallel(n_parts, n_threads, [&](int part) {
    std::vector<float> rows(static_cast<size_t>(kRowsAtOnce * n_channels_));
    const int64_t end = a.n * (part + 1) / n_parts;
    for (int64_t first = a.n * part / n_parts; first < end; first += kRowsAtOnce) {
      const int64_t n_rows = std::min(kRowsAtOnce, end - first);
      const float* x = a.from<float>() + first * n_channels_;
      for (int64_t i = 0; i < n_rows; ++i)
        how.normalize(x + i * n_channels_, n_channels_, epsilon_, is_centered_,
                      rows.data() + i * n_channels_);
      const Residuals shifted(a.others, after_, first);
      how.finish_floats(
          rows.data(), n_channels_, n_rows, 0, n_channels_,
          {after_.data(), after_.size(), shifted.data(), n_channels_,
           a.y == nullptr ? nullptr : a.y + first * n_channels_, n_channels_,
           a.y_bits == nullptr ? nullptr : a.y_bits + first * bits_stride, bits_stride});
    }
  });
}

// What is known of one image. Sums of channels are sums of rows' sums; the channels of a group are added
// last, in order.
struct GroupNorm::Image {
  Image(const Implementation& implementation, const GroupNorm& norm)
      : how(implementation),
        norm_(norm),
        sums(static_cast<size_t>(norm.n_channels_)),
        rows(static_cast<size_t>(norm.height_ * norm.n_channels_)),
        apart(static_cast<size_t>(norm.width_ * norm.n_channels_)),
        minus_mean(static_cast<size_t>(norm.n_channels_ + kLanes)),
        by(static_cast<size_t>(norm.n_channels_ + kLanes)) {}

  void measure(const float* x) {
    const int64_t n = norm_.n_channels_, width = norm_.width_;
    for (int64_t r = 0; r < norm_.height_; ++r) add_up(x + r * width * n, width, row(r));
    add_up(rows.data(), norm_.height_, sums.data());
    spread(minus_mean, [](float mean) { return -mean; });
    const Step subtract{StepKind::add, 0, 0, 0, minus_mean.data()};
    for (int64_t r = 0; r < norm_.height_; ++r) {
      how.finish_floats(x + r * width * n, n, width, 0, n,
                        {&subtract, 1, nullptr, 0, apart.data(), n, nullptr, 0});
      for (float& one : apart) one *= one;
      add_up(apart.data(), width, row(r));
    }
    add_up(rows.data(), norm_.height_, sums.data());
    const float epsilon = norm_.epsilon_;
    spread(by, [epsilon](float variance) { return 1.0f / std::sqrt(variance + epsilon); });
  }

  float* row(int64_t r) { return rows.data() + r * norm_.n_channels_; }

  // Pixels that follow one another, channel by channel.
  void add_up(const float* x, int64_t n_pixels, float* to) {
    taps.clear();
    for (int64_t p = 0; p < n_pixels; ++p) taps.push_back(x + p * norm_.n_channels_);
    how.average(taps.data(), n_pixels, norm_.n_channels_, 1.0f, to);
  }

  // A function of each group's mean, for each of its channels.
  template <class Function>
  void spread(std::vector<float>& to, const Function& function) const {
    const int64_t n = norm_.n_channels_ / norm_.n_groups_;
    const auto count = static_cast<float>(norm_.height_ * norm_.width_ * n);
    for (int64_t g = 0; g < norm_.n_groups_; ++g) {
      float sum = 0;
      for (int64_t c = g * n; c < (g + 1) * n; ++c) sum += sums[static_cast<size_t>(c)];
      std::fill_n(to.begin() + g * n, n, function(sum / count));
    }
  }

  const Implementation& how;
  const GroupNorm& norm_;
  std::vector<const float*> taps;
  std::vector<float> sums, rows, apart, minus_mean, by;
};

void GroupNorm::run(const Implementation& how, const Arguments& a) const {
  const int64_t n_pixels = height_ * width_, n_floats = n_pixels * n_channels_;
  if (a.n == 0 || n_floats == 0) return;
  const int64_t work = a.n * n_floats * kMacsAFloat * 3;
  const int n_threads = useful_threads(work, a.n_threads);
  const int n_parts = useful_tiles(work, n_threads, a.n);
  const int64_t bits_stride = (n_channels_ + 7) / 8;
  parallel(n_parts, n_threads, [&](int part) {
    Image image(how, *this);
    std::vector<Step> steps{{StepKind::add, 0, 0, 0, image.minus_mean.data()},
                            {StepKind::multiply, 0, 0, 0, image.by.data()}};
    steps.insert(steps.end(), after_.data(), after_.data() + after_.size());
    for (int64_t i = a.n * part / n_parts; i < a.n * (part + 1) / n_parts; ++i) {
      const float* x = a.from<float>() + i * n_floats;
      image.measure(x);
      const Residuals shifted(a.others, after_, i * n_pixels);
      how.finish_floats(
          x, n_channels_, n_pixels, 0, n_channels_,
          {steps.data(), static_cast<int64_t>(steps.size()), shifted.data(), n_channels_,
           a.y == nullptr ? nullptr : a.y + i * n_floats, n_channels_,
           a.y_bits == nullptr ? nullptr : a.y_bits + i * n_pixels * bits_stride, bits_stride});
    }
  });
}

}  // namespace irbin
