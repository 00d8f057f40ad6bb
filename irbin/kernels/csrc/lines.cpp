#include "lines.h"

#include <algorithm>

#include "threads.h"

namespace irbin {
namespace {

// A float that is touched costs about as much time as so many 1-bit MACs.
constexpr int64_t kMacsAFloat = 32;

// In a narrower row few windows lie inside, and tiles of all are faster than copying is slow.
constexpr int64_t kLeastInside = 48;

int64_t sum(const std::vector<int64_t>& values) {
  int64_t total = 0;
  for (const int64_t one : values) total += one;
  return total;
}

// Of kCount numbers each, or of `count`.
template <int kCount>
void means(const float* __restrict from, int64_t n, int64_t count, float* __restrict to) {
  const int64_t each = kCount > 0 ? kCount : count;
  const auto divisor = static_cast<float>(each);
  for (int64_t i = 0; i < n; ++i, from += each) {
    float total = 0.0f;
    for (int64_t k = 0; k < each; ++k) total += from[k];
    to[i] = total / divisor;
  }
}

int64_t longest(const std::vector<Span>& spans) {
  int64_t most = 0;
  for (const Span& one : spans) most = std::max(most, one.end - one.begin);
  return most;
}

}  // namespace

void Lines::run(const Implementation& how, const Arguments& a) const {
  const int64_t n_rows = a.n * height_, row_floats = width_ * n_channels_;
  if (n_rows == 0 || row_floats == 0) return;
  const int64_t bits_stride = (n_channels_ + 7) / 8;
  const int64_t work = n_rows * row_floats * (floats_read_ + 1) * kMacsAFloat;
  const int n_threads = useful_threads(work, a.n_threads);
  const int n_parts = useful_tiles(work, n_threads, n_rows);
  parallel(n_parts, n_threads, [&](int part) {
    Scratch scratch;
    for (int64_t r = n_rows * part / n_parts; r < n_rows * (part + 1) / n_parts; ++r) {
      const int64_t pixel = r * width_;
      float* y = a.y == nullptr ? nullptr : a.y + pixel * n_channels_;
      const Residuals shifted(a.others, after_, pixel);
      finished_line(how, a, r / height_, r % height_,
                    {after_.data(), after_.size(), shifted.data(), n_channels_, y, n_channels_,
                     a.y_bits == nullptr ? nullptr : a.y_bits + pixel * bits_stride, bits_stride},
                    scratch);
    }
  });
}

void Lines::finished_line(const Implementation& how, const Arguments& a, int64_t image, int64_t row,
                          const Output& out, Scratch& scratch) const {
  if (out.n_steps == 0 && out.bits == nullptr)  // made where it stays
    return line(how, a, image, row, out.y, scratch);
  scratch.made.resize(static_cast<size_t>(width_ * n_channels_));
  line(how, a, image, row, scratch.made.data(), scratch);
  how.finish_floats(scratch.made.data(), n_channels_, width_, 0, n_channels_, out);
}

Average::Average(int64_t height, int64_t width, int64_t n_channels, std::vector<Span> rows,
                 std::vector<Span> columns, Transform after)
    : Lines(static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns.size()), n_channels, 0,
            longest(rows) * longest(columns), std::move(after)),
      in_height_(height),
      in_width_(width),
      rows_(std::move(rows)),
      columns_(std::move(columns)) {}

void Average::line(const Implementation& how, const Arguments& a, int64_t image, int64_t row,
                   float* to, Scratch& scratch) const {
  const Span& rows = rows_[static_cast<size_t>(row)];
  const float* from = a.from<float>() + image * in_height_ * in_width_ * n_channels();
  std::vector<const float*>& taps = scratch.taps;
  for (const Span& columns : columns_) {
    taps.clear();
    for (int64_t y = rows.begin; y < rows.end; ++y)
      for (int64_t x = columns.begin; x < columns.end; ++x)
        taps.push_back(from + (y * in_width_ + x) * n_channels());
    how.average(taps.data(), static_cast<int64_t>(taps.size()), n_channels(),
                static_cast<float>(rows.count * columns.count), to);
    to += n_channels();
  }
}

Depthwise::Depthwise(const Axis& y, const Axis& x, int64_t n_channels, const float* weights,
                     Transform after)
    : Lines(y.out_size(), x.out_size(), n_channels, 0, y.kernel * x.kernel, std::move(after)),
      y_(y),
      x_(x),
      weights_(weights, weights + y.kernel * x.kernel * n_channels),
      zeros_(static_cast<size_t>(x.padded() * n_channels), 0.0f) {}

// A row of the image with its border left and right. One that stands there already is not made again.
const float* Depthwise::padded(const float* image, int64_t number, int64_t row,
                               Scratch& scratch) const {
  const int64_t n = n_channels();
  const float* from = image + row * x_.size * n;
  if (x_.before == 0 && x_.after == 0) return from;
  const int64_t n_places = std::min((y_.kernel - 1) * y_.dilation + 1, y_.size);
  const int64_t length = x_.padded() * n, place = row % n_places;
  scratch.rows.resize(static_cast<size_t>(n_places * length), 0.0f);  // borders stay zero
  scratch.numbers.resize(static_cast<size_t>(n_places), -1);
  float* to = scratch.rows.data() + place * length;
  if (scratch.numbers[static_cast<size_t>(place)] != number + row) {
    std::copy_n(from, x_.size * n, to + x_.before * n);
    scratch.numbers[static_cast<size_t>(place)] = number + row;
  }
  return to;
}

void Depthwise::line(const Implementation& how, const Arguments& a, int64_t image, int64_t row,
                     float* to, Scratch& scratch) const {
  const Output plain{nullptr, 0, nullptr, 0, to, n_channels(), nullptr, 0};
  finished_line(how, a, image, row, plain, scratch);
}

void Depthwise::finished_line(const Implementation& how, const Arguments& a, int64_t image,
                              int64_t row, const Output& out, Scratch& scratch) const {
  const int64_t n = n_channels();
  const float* from = a.from<float>() + image * y_.size * x_.size * n;
  scratch.taps.resize(static_cast<size_t>(y_.kernel));
  const DepthwiseRow taps{scratch.taps.data(), y_.kernel,       x_.kernel, x_.dilation * n,
                          x_.stride * n,       weights_.data(), n};
  const auto each_row = [&](const auto& place) {
    for (int64_t i = 0; i < y_.kernel; ++i) {
      const int64_t y = row * y_.stride + i * y_.dilation - y_.before;
      scratch.taps[static_cast<size_t>(i)] = y >= 0 && y < y_.size ? place(i, y) : zeros_.data();
    }
  };
  if (width() < kLeastInside) {
    each_row([&](int64_t, int64_t y) { return padded(from, image * y_.size, y, scratch); });
    how.depthwise(taps, 0, width(), out);
    return;
  }
  // Windows inside the image read it where it is; those over the border a copy of the few columns.
  const int64_t reach = (x_.kernel - 1) * x_.dilation + 1;
  const int64_t begin = std::min(width(), (x_.before + x_.stride - 1) / x_.stride);
  const int64_t room = x_.size + x_.before - reach;
  const int64_t end = std::max(begin, std::min(width(), room < 0 ? 0 : room / x_.stride + 1));
  each_row(
      [&](int64_t, int64_t y) { return from + (y * x_.size + begin * x_.stride - x_.before) * n; });
  how.depthwise(taps, begin, end - begin, out);
  const auto over_border = [&](int64_t first, int64_t last) {
    if (first == last) return;
    const int64_t left = first * x_.stride - x_.before;
    const int64_t columns = (last - first - 1) * x_.stride + reach;
    scratch.rows.assign(static_cast<size_t>(y_.kernel * columns * n), 0.0f);
    const int64_t inside = std::max<int64_t>(left, 0);
    const int64_t count = std::min(left + columns, x_.size) - inside;
    each_row([&](int64_t i, int64_t y) {
      float* to = scratch.rows.data() + i * columns * n;
      if (count > 0)
        std::copy_n(from + (y * x_.size + inside) * n, count * n, to + (inside - left) * n);
      return static_cast<const float*>(to);
    });
    how.depthwise(taps, first, last - first, out);
  };
  over_border(0, begin);
  over_border(end, width());
}

Crop::Crop(const BoxAxis& y, const BoxAxis& x, const BoxAxis& channels, float value,
           Transform after)
    : Lines(y.size, x.size, channels.size, 0, 1, std::move(after)),
      y_(y),
      x_(x),
      channels_(channels),
      value_(value) {}

void Crop::pixel(const float* from, float* to) const {
  const BoxAxis& c = channels_;
  std::fill_n(to, c.before, value_);
  if (c.step == 1)
    std::copy_n(from + c.start, c.count, to + c.before);
  else
    for (int64_t i = 0; i < c.count; ++i) to[c.before + i] = from[c.start + i * c.step];
  std::fill(to + c.before + c.count, to + c.size, value_);
}

void Crop::line(const Implementation&, const Arguments& a, int64_t image, int64_t row, float* to,
                Scratch&) const {
  const int64_t n = n_channels(), y = row - y_.before;
  if (y < 0 || y >= y_.count) {
    std::fill_n(to, x_.size * n, value_);
    return;
  }
  const int64_t in_row = image * y_.from + y_.start + y * y_.step;
  const float* from = a.from<float>() + (in_row * x_.from + x_.start) * channels_.from;
  std::fill_n(to, x_.before * n, value_);
  to += x_.before * n;
  if (x_.step == 1 && channels_.from == n && channels_.count == n) {
    std::copy_n(from, x_.count * n, to);
    to += x_.count * n;
  } else {
    for (int64_t x = 0; x < x_.count; ++x, to += n) pixel(from + x * x_.step * channels_.from, to);
  }
  std::fill_n(to, (x_.size - x_.before - x_.count) * n, value_);
}

Join::Join(int64_t height, int64_t width, std::vector<int64_t> channels, Transform after)
    : Lines(height, width, sum(channels), static_cast<int>(channels.size()) - 1, 1,
            std::move(after)),
      height_(height),
      channels_(std::move(channels)) {}

void Join::line(const Implementation&, const Arguments& a, int64_t image, int64_t row, float* to,
                Scratch&) const {
  const int64_t first = (image * height_ + row) * width(), n = n_channels();
  for (size_t i = 0; i < channels_.size(); ++i) {
    const int64_t here = channels_[i];
    const float* from =
        (i == 0 ? a.from<float>() : further(a, static_cast<int>(i) - 1)) + first * here;
    for (int64_t x = 0; x < width(); ++x) std::copy_n(from + x * here, here, to + x * n);
    to += here;
  }
}

Resize::Resize(int64_t height, int64_t width, int64_t n_channels, std::vector<Between> rows,
               std::vector<Between> columns, Transform after)
    : Lines(static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns.size()), n_channels, 0,
            8, std::move(after)),
      in_height_(height),
      in_width_(width),
      rows_(std::move(rows)),
      columns_(std::move(columns)) {}

void Resize::line(const Implementation&, const Arguments& a, int64_t image, int64_t row, float* to,
                  Scratch&) const {
  const int64_t n = n_channels();
  const Between& y = rows_[static_cast<size_t>(row)];
  const float* from = a.from<float>() + image * in_height_ * in_width_ * n;
  const float *upper = from + y.first * in_width_ * n, *lower = from + y.second * in_width_ * n;
  for (const Between& x : columns_) {
    const float *one = upper + x.first * n, *other = upper + x.second * n;
    const float *third = lower + x.first * n, *fourth = lower + x.second * n;
    for (int64_t c = 0; c < n; ++c) {
      const float above = x.first_weight * one[c] + x.second_weight * other[c];
      const float below = x.first_weight * third[c] + x.second_weight * fourth[c];
      to[c] = y.first_weight * above + y.second_weight * below;
    }
    to += n;
  }
}

ChannelMean::ChannelMean(int64_t height, int64_t width, int64_t n_channels, int64_t count,
                         Transform after)
    : Lines(height, width, n_channels, 0, count, std::move(after)),
      height_(height),
      count_(count) {}

void ChannelMean::line(const Implementation&, const Arguments& a, int64_t image, int64_t row,
                       float* to, Scratch&) const {
  const int64_t n = width() * n_channels();
  const float* from = a.from<float>() + (image * height_ + row) * n * count_;
  switch (count_) {
    case 2: return means<2>(from, n, count_, to);
    case 3: return means<3>(from, n, count_, to);
    case 4: return means<4>(from, n, count_, to);
    case 6: return means<6>(from, n, count_, to);
    default: return means<0>(from, n, count_, to);
  }
}

Gate::Gate(int64_t height, int64_t width, int64_t n_channels, Meeting meeting, Transform after)
    : Lines(height, width, n_channels, 1, 1, std::move(after)),
      height_(height),
      meeting_(meeting) {}

void Gate::line(const Implementation&, const Arguments& a, int64_t image, int64_t row, float* to,
                Scratch&) const {
  const int64_t n = n_channels();
  const float* from = a.from<float>() + (image * height_ + row) * width() * n;
  const float* with = further(a, 0) + image * n;
  for (int64_t x = 0; x < width(); ++x, from += n, to += n) switch (meeting_) {
      case Meeting::multiply:
        for (int64_t c = 0; c < n; ++c) to[c] = from[c] * with[c];
        break;
      case Meeting::add:
        for (int64_t c = 0; c < n; ++c) to[c] = from[c] + with[c];
        break;
      case Meeting::subtract:
        for (int64_t c = 0; c < n; ++c) to[c] = from[c] - with[c];
        break;
    }
}

}  // namespace irbin
