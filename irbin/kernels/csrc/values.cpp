#include "values.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "threads.h"

namespace irbin {
namespace {

// A float that is touched costs about as much time as so many 1-bit MACs.
constexpr int64_t kMacsAFloat = 64;

}  // namespace

void Rows::run(const Implementation& how, const Arguments& a) const {
  const int64_t work = a.n * n_channels_ * kMacsAFloat;
  const int n_threads = useful_threads(work, a.n_threads);
  const int n_parts = useful_tiles(work, n_threads, a.n);
  const int64_t bits_stride = (n_channels_ + 7) / 8;
  parallel(n_parts, n_threads, [&](int part) {
    const int64_t first = a.n * part / n_parts, last = a.n * (part + 1) / n_parts;
    const Residuals shifted(a.others, steps_, first);
    how.finish_floats(
        a.from<float>() + first * n_channels_, n_channels_, last - first, 0, n_channels_,
        {steps_.data(), steps_.size(), shifted.data(), n_channels_,
         a.y == nullptr ? nullptr : a.y + first * n_channels_, n_channels_,
         a.y_bits == nullptr ? nullptr : a.y_bits + first * bits_stride, bits_stride});
  });
}

void PackPlanes::run(const Implementation& how, const Arguments& a) const {
  const int64_t bits_stride = (n_channels_ + 7) / 8;
  constexpr int64_t n_strip = 64;  // pixels of a plane read one after the other
  const int64_t strips = (n_pixels_ + n_strip - 1) / n_strip, n = a.n * strips;
  const int64_t work = a.n * n_pixels_ * n_channels_ * kMacsAFloat;
  const int n_threads = useful_threads(work, a.n_threads);
  const int n_parts = useful_tiles(work, n_threads, n);
  parallel(n_parts, n_threads, [&](int part) {
    for (int64_t s = n * part / n_parts; s < n * (part + 1) / n_parts; ++s) {
      const int64_t image = s / strips, first = s % strips * n_strip;
      how.pack_planes(a.from<float>() + image * n_channels_ * n_pixels_ + first, n_pixels_,
                      std::min(n_strip, n_pixels_ - first), n_channels_,
                      a.y_bits + (image * n_pixels_ + first) * bits_stride, bits_stride);
    }
  });
}

// What is pooled, row by row: read, or computed in batches and kept while windows reach there.
struct MaxPool::Pooled {
  static constexpr int64_t kBatch = 4;  // rows computed at once

  Pooled(const Implementation& implementation, const MaxPool& pool, bool from_planes)
      : how(implementation),
        pool_(pool),
        planes(from_planes),
        row_floats(pool.x_.size * pool.n_channels_) {
    if (!is_computed()) return;
    const int64_t reach = std::min((pool.y_.kernel - 1) * pool.y_.dilation + 1, pool.y_.size);
    n_batches = (reach + 2 * (kBatch - 1)) / kBatch;  // that a window may touch
    kept.resize(static_cast<size_t>(n_batches * kBatch * row_floats));
    number.assign(static_cast<size_t>(n_batches), -1);
  }

  bool is_computed() const { return pool_.producer_ != nullptr || pool_.before_.size() > 0; }

  const float* row(int64_t r) {
    if (!is_computed()) return reinterpret_cast<const float*>(image) + r * row_floats;
    const int64_t batch = (r - begin) / kBatch, slot = batch % n_batches;
    float* to = kept.data() + slot * kBatch * row_floats;
    if (number[static_cast<size_t>(slot)] != batch) {
      const int64_t first = begin + batch * kBatch;
      compute(first, std::min(first + kBatch, end), to);
      number[static_cast<size_t>(slot)] = batch;
    }
    return to + (r - begin) % kBatch * row_floats;
  }

  void compute(int64_t first, int64_t last, float* to) const {
    if (pool_.producer_ != nullptr)
      return pool_.producer_->run_rows(how, image, first, last, to, planes);
    const Transform& steps = pool_.before_;
    const float* from = reinterpret_cast<const float*>(image) + first * row_floats;
    const int64_t n = pool_.n_channels_;
    how.finish_floats(from, n, (last - first) * pool_.x_.size, 0, n,
                      {steps.data(), steps.size(), nullptr, 0, to, n, nullptr, 0});
  }

  // Of an image whose rows of results [first, last) are asked for: nothing beyond them is computed.
  void start(const uint8_t* x, int64_t first, int64_t last) {
    const Axis& y = pool_.y_;
    image = x;
    begin = std::clamp<int64_t>(first * y.stride - y.before, 0, y.size);
    const int64_t reach = (y.kernel - 1) * y.dilation + 1;
    end = std::clamp<int64_t>((last - 1) * y.stride - y.before + reach, begin, y.size);
    std::fill(number.begin(), number.end(), -1);
  }

  const Implementation& how;
  const MaxPool& pool_;
  bool planes;
  int64_t row_floats, n_batches = 0;
  int64_t begin = 0, end = 0;  // rows that are needed
  const uint8_t* image = nullptr;
  std::vector<float> kept;
  std::vector<int64_t> number;  // of the batch in each slot
};

void MaxPool::pool_row(const Implementation& how, Pooled& rows, int64_t out_row,
                       float* line) const {
  std::vector<const float*> inside;
  for (int64_t k = 0; k < y_.kernel; ++k) {
    const int64_t r = out_row * y_.stride + k * y_.dilation - y_.before;
    if (r >= 0 && r < y_.size) inside.push_back(rows.row(r));
  }
  std::vector<const float*> window(inside.size() *
                                   static_cast<size_t>(std::min(x_.kernel, x_.size)));
  for (int64_t o = 0; o < x_.out_size(); ++o) {
    int64_t n = 0;
    for (const float* row : inside)
      for (int64_t k = 0; k < x_.kernel; ++k) {
        const int64_t c = o * x_.stride + k * x_.dilation - x_.before;
        if (c >= 0 && c < x_.size) window[static_cast<size_t>(n++)] = row + c * n_channels_;
      }
    if (n > 0)
      how.maximum(window.data(), n, n_channels_, line + o * n_channels_);
    else  // taps far apart may all miss the image
      std::fill_n(line + o * n_channels_, n_channels_, -std::numeric_limits<float>::infinity());
  }
}

void MaxPool::run(const Implementation& how, const Arguments& a) const {
  const int64_t out_height = y_.out_size(), out_width = x_.out_size();
  const int64_t n_rows = a.n * out_height, bits_stride = (n_channels_ + 7) / 8;
  const int64_t image_floats = y_.size * x_.size * n_channels_;
  int64_t image_bytes = image_floats * 4, work = image_floats * kMacsAFloat;
  if (producer_ != nullptr) {
    const Geometry& made_by = producer_->geometry();
    image_bytes = made_by.y.size * made_by.x.size * made_by.pixel_bytes();
    work += made_by.n_macs() * (made_by.has_signs() ? 1 : kWordBits);
  }
  const int n_threads = useful_threads(a.n * work, a.n_threads);
  // where two tiles meet, rows are computed twice: not too small
  const int64_t least_rows = producer_ != nullptr || before_.size() > 0 ? 3 * Pooled::kBatch : 1;
  const int64_t n_most =
      std::max<int64_t>(n_rows / least_rows, std::min<int64_t>(n_rows, n_threads));
  const int n_parts = useful_tiles(a.n * work, n_threads, n_most);
  parallel(n_parts, n_threads, [&](int part) {
    Pooled rows(how, *this, a.planes);
    std::vector<float> line(static_cast<size_t>(out_width * n_channels_));
    int64_t image = -1;
    const int64_t last = n_rows * (part + 1) / n_parts;
    for (int64_t r = n_rows * part / n_parts; r < last; ++r) {
      if (r / out_height != image) {
        image = r / out_height;
        rows.start(a.from<uint8_t>() + image * image_bytes, r % out_height,
                   std::min(last - image * out_height, out_height));
      }
      pool_row(how, rows, r % out_height, line.data());
      const int64_t pixel = r * out_width;
      const Residuals shifted(a.others, after_, pixel);
      how.finish_floats(
          line.data(), n_channels_, out_width, 0, n_channels_,
          {after_.data(), after_.size(), shifted.data(), n_channels_,
           a.y == nullptr ? nullptr : a.y + pixel * n_channels_, n_channels_,
           a.y_bits == nullptr ? nullptr : a.y_bits + pixel * bits_stride, bits_stride});
    }
  });
}

}  // namespace irbin
