#include "values.h"

#include <algorithm>
#include <vector>

#include "threads.h"

namespace irbin {
namespace {

// A float that is touched costs about as much time as so many 1-bit MACs.
constexpr int64_t kMacsAFloat = 64;

}  // namespace

void transform(const Implementation& how, const Transform& steps, const float* x, int64_t n_pixels,
               int64_t n_channels, const float* const* residuals, float* y, uint8_t* y_bits,
               int n_threads) {
  const int64_t n_parts = useful_threads(n_pixels * n_channels * kMacsAFloat, n_threads);
  const int64_t bits_stride = (n_channels + 7) / 8;
  parallel(static_cast<int>(n_parts), [&](int part) {
    const int64_t first = n_pixels * part / n_parts, last = n_pixels * (part + 1) / n_parts;
    const Residuals shifted(residuals, steps.n_residuals(), first, n_channels);
    how.finish_floats(x + first * n_channels, n_channels, last - first, 0, n_channels,
                      {steps.data(), steps.size(), shifted.data(), n_channels,
                       y == nullptr ? nullptr : y + first * n_channels, n_channels,
                       y_bits == nullptr ? nullptr : y_bits + first * bits_stride, bits_stride});
  });
}

void pack_planes(const Implementation& how, const float* x, int64_t n_images, int64_t n_channels,
                 int64_t n_pixels, uint8_t* bits, int n_threads) {
  const int64_t n_parts =
      useful_threads(n_images * n_pixels * n_channels * kMacsAFloat, n_threads);
  const int64_t bits_stride = (n_channels + 7) / 8;
  constexpr int64_t n_strip = 64;  // pixels of a plane read one after the other
  const int64_t strips = (n_pixels + n_strip - 1) / n_strip, n = n_images * strips;
  parallel(static_cast<int>(n_parts), [&](int part) {
    for (int64_t s = n * part / n_parts; s < n * (part + 1) / n_parts; ++s) {
      const int64_t image = s / strips, first = s % strips * n_strip;
      how.pack_planes(x + image * n_channels * n_pixels + first, n_pixels,
                      std::min(n_strip, n_pixels - first), n_channels,
                      bits + (image * n_pixels + first) * bits_stride, bits_stride);
    }
  });
}

// The input rows of an image, steps applied once to each, the latest few kept.
struct MaxPool::Rows {
  Rows(const Implementation& implementation, const Transform& transform, const Axis& axis,
       int64_t n_pixels, int64_t channels)
      : how(implementation), steps(transform), width(n_pixels), n_channels(channels),
        n_kept((axis.kernel - 1) * axis.dilation + 1) {
    if (steps.size() > 0) {
      kept.resize(static_cast<size_t>(n_kept * width * n_channels));
      number.assign(static_cast<size_t>(n_kept), -1);
    }
  }

  const float* row(int64_t r) {
    const float* from = image + r * width * n_channels;
    if (steps.size() == 0) return from;
    const int64_t slot = r % n_kept;
    float* to = kept.data() + slot * width * n_channels;
    if (number[static_cast<size_t>(slot)] != r) {
      const float* const none[kMaxResiduals] = {};
      how.finish_floats(from, n_channels, width, 0, n_channels,
                        {steps.data(), steps.size(), none, 0, to, n_channels, nullptr, 0});
      number[static_cast<size_t>(slot)] = r;
    }
    return to;
  }

  void start(const float* x) {
    image = x;
    std::fill(number.begin(), number.end(), -1);
  }

  const Implementation& how;
  const Transform& steps;
  int64_t width, n_channels, n_kept;
  const float* image = nullptr;
  std::vector<float> kept;
  std::vector<int64_t> number;  // of the row in each slot
};

void MaxPool::pool_row(const Implementation& how, Rows& rows, int64_t out_row, float* line) const {
  std::vector<const float*> window(static_cast<size_t>(y_.kernel * x_.kernel));
  std::vector<const float*> inside;
  for (int64_t k = 0; k < y_.kernel; ++k) {
    const int64_t r = out_row * y_.stride + k * y_.dilation - y_.before;
    if (r >= 0 && r < y_.size) inside.push_back(rows.row(r));
  }
  for (int64_t o = 0; o < x_.out_size(); ++o) {
    int64_t n = 0;
    for (const float* row : inside)
      for (int64_t k = 0; k < x_.kernel; ++k) {
        const int64_t c = o * x_.stride + k * x_.dilation - x_.before;
        if (c >= 0 && c < x_.size) window[static_cast<size_t>(n++)] = row + c * n_channels_;
      }
    how.maximum(window.data(), n, n_channels_, line + o * n_channels_);
  }
}

void MaxPool::run(const Implementation& how, const float* x, int64_t n_images,
                  const float* const* residuals, float* y, uint8_t* y_bits, int n_threads) const {
  const int64_t out_height = y_.out_size(), out_width = x_.out_size();
  const int64_t n_rows = n_images * out_height, bits_stride = (n_channels_ + 7) / 8;
  const int64_t image_floats = y_.size * x_.size * n_channels_;
  const int64_t n_parts = std::min<int64_t>(
      useful_threads(n_images * image_floats * kMacsAFloat, n_threads), std::max<int64_t>(n_rows, 1));
  parallel(static_cast<int>(n_parts), [&](int part) {
    Rows rows(how, before_, y_, x_.size, n_channels_);
    std::vector<float> line(static_cast<size_t>(out_width * n_channels_));
    int64_t image = -1;
    for (int64_t r = n_rows * part / n_parts; r < n_rows * (part + 1) / n_parts; ++r) {
      if (r / out_height != image) {
        image = r / out_height;
        rows.start(x + image * image_floats);
      }
      pool_row(how, rows, r % out_height, line.data());
      const int64_t pixel = r * out_width;
      const Residuals shifted(residuals, after_.n_residuals(), pixel, n_channels_);
      how.finish_floats(line.data(), n_channels_, out_width, 0, n_channels_,
                        {after_.data(), after_.size(), shifted.data(), n_channels_,
                         y == nullptr ? nullptr : y + pixel * n_channels_, n_channels_,
                         y_bits == nullptr ? nullptr : y_bits + pixel * bits_stride, bits_stride});
    }
  });
}

}  // namespace irbin
