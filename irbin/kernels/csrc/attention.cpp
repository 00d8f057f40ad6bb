#include "attention.h"

#include <algorithm>

#include "threads.h"

namespace irbin {
namespace {

constexpr int64_t kTile = kMaxBlocks * kLanes;  // sums that a tile makes of a row
constexpr int64_t kQueriesAtOnce = 64;          // of a part; keys are laid out anew for each

// A whole block's loop has no branches.
template <class Lane>
inline void for_lanes(int64_t n, const Lane& lane) {
  if (n == kLanes)
    for (int64_t i = 0; i < kLanes; ++i) lane(i);
  else
    for (int64_t i = 0; i < n; ++i) lane(i);
}

int64_t in_blocks(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

}  // namespace

Attention::Attention(const Sizes& sizes, const Look& queries, const Look& keys, const Look& values,
                     float scale, const float* mask, int64_t mask_heads, Transform after)
    : sizes_(sizes),
      queries_(queries),
      keys_(keys),
      values_(values),
      scale_(scale),
      mask_(mask, mask + mask_heads * sizes.n_queries * sizes.n_keys),
      mask_heads_(mask_heads),
      after_(std::move(after)),
      no_steps_(plain_.for_tiles(kTile)) {}

// A thread's own memory: one head's keys and values in blocks of 16 lanes, as `products` takes weights,
// the lanes behind the last zero; and what becomes of a few queries.
struct Attention::Head {
  Head(const Implementation& implementation, const Attention& attention)
      : how(implementation),
        of(attention),
        n_scores(in_blocks(of.sizes_.n_keys)),
        n_values(in_blocks(of.sizes_.width)),
        keys(static_cast<size_t>(n_scores * of.sizes_.depth), 0.0f),
        values(static_cast<size_t>(n_values * of.sizes_.n_keys), 0.0f),
        scores(static_cast<size_t>(kMaxPixels * n_scores)),
        means(static_cast<size_t>(kMaxPixels * n_values)) {}

  void lay_out(const float* k, const float* v) {
    const Sizes& s = of.sizes_;
    for (int64_t first = 0; first < s.n_keys; first += kLanes) {
      const int64_t n = std::min<int64_t>(kLanes, s.n_keys - first);
      const float* from = k + first * of.keys_.row;
      float* to = keys.data() + first * s.depth;
      for (int64_t d = 0; d < s.depth; ++d, to += kLanes, ++from)
        for_lanes(n, [&](int64_t i) { to[i] = from[i * of.keys_.row]; });
    }
    for (int64_t first = 0; first < s.width; first += kLanes) {
      const int64_t n = std::min<int64_t>(kLanes, s.width - first);
      const float* from = v + first;
      float* to = values.data() + first * s.n_keys;
      for (int64_t r = 0; r < s.n_keys; ++r, to += kLanes, from += of.values_.row)
        for_lanes(n, [&](int64_t i) { to[i] = from[i]; });
    }
  }

  // Rows of x times blocks of `weights`, of `depth` words each: (n_rows, n_sums).
  void multiply(const float* x, int64_t row, int n_rows, const std::vector<float>& weights,
                int64_t depth, int64_t n_sums, float* to) const {
    const Patches patches{reinterpret_cast<const uint32_t*>(x), row, 1, 0, depth};
    const int64_t block_stride = depth * kLanes;
    for (int64_t at = 0; at < n_sums; at += kTile) {
      const int n_blocks = n_sums - at < kTile ? 1 : kMaxBlocks;
      const float* block = weights.data() + at * depth;
      if (how.finished_products != nullptr) {
        how.finished_products(patches, n_rows, block, block_stride, n_blocks, 0, of.no_steps_,
                              {nullptr, 0, nullptr, 0, to + at, n_sums, nullptr, 0});
        continue;
      }
      float sums[kMaxPixels * kTile];
      how.products(patches, n_rows, block, block_stride, n_blocks, sums);
      for (int64_t r = 0; r < n_rows; ++r)
        std::copy_n(sums + r * n_blocks * kLanes, n_blocks * kLanes, to + r * n_sums + at);
    }
  }

  // Means of some queries, rows `stride` floats apart.
  void attend(const float* q, int n_queries, const float* mask, float* to, int64_t stride) {
    const Sizes& s = of.sizes_;
    multiply(q, of.queries_.row, n_queries, keys, s.depth, n_scores, scores.data());
    float totals[kMaxPixels];
    for (int i = 0; i < n_queries; ++i)
      totals[i] = how.soften(scores.data() + i * n_scores, s.n_keys, of.scale_,
                             mask == nullptr ? nullptr : mask + i * s.n_keys);
    multiply(scores.data(), n_scores, n_queries, values, s.n_keys, n_values, means.data());
    for (int i = 0; i < n_queries; ++i) {
      const float* sums = means.data() + i * n_values;
      how.average(&sums, 1, s.width, totals[i], to + i * stride);
    }
  }

  const Implementation& how;
  const Attention& of;
  int64_t n_scores, n_values;  // of a row, in whole blocks
  std::vector<float> keys, values, scores, means, made;
};

void Attention::part(const Implementation& how, const Arguments& a, int64_t image, int64_t first,
                     int64_t last, Head& head) const {
  const Sizes& s = sizes_;
  const int64_t n_channels = s.n_heads * s.width, bits_stride = (n_channels + 7) / 8;
  const int64_t pixel = image * s.n_queries + first;
  float* y = a.y == nullptr ? nullptr : a.y + pixel * n_channels;
  const bool is_all = after_.size() == 0 && a.y_bits == nullptr;  // made where it stays
  if (!is_all) head.made.resize(static_cast<size_t>((last - first) * n_channels));
  float* made = is_all ? y : head.made.data();
  const auto from = [image](const float* x, const Look& look) {
    return x + image * look.size + look.offset;
  };
  const float* q = from(a.from<float>(), queries_);
  const float* k = from(a.others[after_.n_residuals()], keys_);
  const float* v = from(a.others[after_.n_residuals() + 1], values_);
  for (int64_t h = 0; h < s.n_heads; ++h) {
    head.lay_out(k + h * keys_.head, v + h * values_.head);
    const float* mask =
        mask_heads_ == 0 ? nullptr : mask_.data() + h % mask_heads_ * s.n_queries * s.n_keys;
    for (int64_t i = first; i < last; i += kMaxPixels)
      head.attend(q + h * queries_.head + i * queries_.row,
                  static_cast<int>(std::min<int64_t>(kMaxPixels, last - i)),
                  mask == nullptr ? nullptr : mask + i * s.n_keys,
                  made + (i - first) * n_channels + h * s.width, n_channels);
  }
  if (is_all) return;
  const Residuals shifted(a.others, after_, pixel);
  how.finish_floats(made, n_channels, last - first, 0, n_channels,
                    {after_.data(), after_.size(), shifted.data(), n_channels, y, n_channels,
                     a.y_bits == nullptr ? nullptr : a.y_bits + pixel * bits_stride, bits_stride});
}

void Attention::run(const Implementation& how, const Arguments& a) const {
  const Sizes& s = sizes_;
  if (a.n == 0) return;
  const int64_t work = a.n * s.n_heads * s.n_queries * s.n_keys * (s.depth + s.width) * kWordBits;
  const int n_threads = useful_threads(work, a.n_threads);
  const int64_t at_once = n_threads == 1 ? s.n_queries : kQueriesAtOnce;
  const int64_t n_spans = (s.n_queries + at_once - 1) / at_once, n = a.n * n_spans;
  const int n_parts = useful_tiles(work, n_threads, n);
  parallel(n_parts, n_threads, [&](int number) {
    Head head(how, *this);
    for (int64_t i = n * number / n_parts; i < n * (number + 1) / n_parts; ++i) {
      const int64_t first = i % n_spans * at_once;
      part(how, a, i / n_spans, first, std::min(first + at_once, s.n_queries), head);
    }
  });
}

}  // namespace irbin
