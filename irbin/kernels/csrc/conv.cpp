// How a convolution is cut into tiles, and what its kernels read.
//
// The output is a list of *strips*, up to 64 neighboring pixels of a row. A thread takes a range of
// strips, or of channel blocks, and works through it in pieces whose activations fit the first cache:
//   in place  no padding, whole words a pixel: the kernel reads the input itself;
//   padded    whole words a pixel: rows are copied with their zero border, taps of a row lie together;
//   spread    signs, several rows of taps: each pixel's taps of a row are put together, in words of
//             their own, once for all the rows of results that read them;
//   gathered  else: each pixel's taps are put together byte by byte, so that 9 taps of 16 channels
//             take 5 words and not 9.
// Zero padding enters as zero bits, which stand for +1, so each −1 weight there counts as a
// disagreement too many: correction = K + 2·excess, for each pattern of taps outside the image.
#include "conv.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <type_traits>

#include "implementations.h"
#include "threads.h"

namespace irbin {
namespace {

constexpr int64_t kStripPixels = 64;
constexpr int64_t kPieceBytes = 32 * 1024;  // of activations, what a first cache holds
// Where weights are larger than that: they are read once a piece, from far away.
constexpr int64_t kLargePieceBytes = 256 * 1024;
// Of tables, which are large, cost time to make, and are read from a second cache as fast.
constexpr int64_t kTablePieceBytes = 512 * 1024;
constexpr int64_t kTableMacs = 8;    // 1-bit MACs that one of a float and a sign takes the time of
constexpr int64_t kSlackBytes = 64;  // that copying by 8 bytes may write beyond an end
constexpr int64_t kWordBytes = 4;
constexpr int64_t kCacheLine = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Taps [first, first + count) of an axis are inside the image. Taps move one way, so they are neighbors.
struct Inside {
  int64_t first, count;
  bool operator<(const Inside& other) const {
    return std::tie(first, count) < std::tie(other.first, other.count);
  }
};

// For each output position the number of its pattern of taps inside, and the patterns.
std::vector<int32_t> classify(const Axis& axis, std::vector<Inside>& patterns) {
  std::map<Inside, int32_t> known;
  std::vector<int32_t> classes;
  for (int64_t o = 0; o < axis.out_size(); ++o) {
    const int64_t at = o * axis.stride - axis.before;  // of tap 0
    const int64_t first = at < 0 ? std::min(ceil_div(-at, axis.dilation), axis.kernel) : 0;
    const int64_t end =
        at < axis.size ? std::min(ceil_div(axis.size - at, axis.dilation), axis.kernel) : 0;
    const Inside inside = end > first ? Inside{first, end - first} : Inside{0, 0};
    const auto [found, is_new] = known.try_emplace(inside, static_cast<int32_t>(known.size()));
    if (is_new) patterns.push_back(inside);
    classes.push_back(found->second);
  }
  return classes;
}

// Memory of the calling thread, kept for its next call. Two buffers: rows, and what is gathered.
uint8_t* scratch(int which, int64_t n_bytes) {
  thread_local std::vector<uint8_t> memory[2];
  std::vector<uint8_t>& mine = memory[which];
  const auto wanted = static_cast<size_t>(n_bytes + kSlackBytes + kCacheLine);
  if (mine.size() < wanted) mine.resize(wanted);
  const auto address = reinterpret_cast<uintptr_t>(mine.data());
  return mine.data() + (kCacheLine - address % kCacheLine) % kCacheLine;
}

void weave(const float* __restrict a, const float* __restrict b, const float* __restrict c,
           int64_t n, float* __restrict to) {
  for (int64_t i = 0; i < n; ++i) {
    to[3 * i] = a[i];
    to[3 * i + 1] = b[i];
    to[3 * i + 2] = c[i];
  }
}

// The bytes of a pixel's taps: `n_rows` times `runs_a_row` runs that lie together.
struct Taps {
  int64_t n_rows, row_bytes, runs_a_row, run_stride, run_bytes;
};

// Puts the taps of one row together, `run_bytes` of them in kWords words a pixel (0: any number), zeros
// behind them.
template <int kWords>
void spread_row(const uint8_t* from, int64_t pixel_stride, int64_t n_pixels, int64_t run_bytes,
                uint8_t* to) {
  if constexpr (kWords > 0) {
    using Words = std::conditional_t<kWords == 1, uint32_t, uint64_t>;
    const Words used =
        static_cast<Words>(~Words{0}) >> 8 * (static_cast<int64_t>(sizeof(Words)) - run_bytes);
    for (int64_t p = 0; p < n_pixels; ++p, from += pixel_stride, to += sizeof(Words)) {
      Words words;
      std::memcpy(&words, from, sizeof(words));
      words &= used;
      std::memcpy(to, &words, sizeof(words));
    }
  } else {
    const int64_t all_bytes = ceil_div(run_bytes, kWordBytes) * kWordBytes;
    for (int64_t p = 0; p < n_pixels; ++p, from += pixel_stride, to += all_bytes) {
      for (int64_t i = 0; i < run_bytes; i += 8) std::memcpy(to + i, from + i, 8);
      std::memset(to + run_bytes, 0, 8);
    }
  }
}

// Puts the taps of a row of pixels together. Copies 8 bytes at a time, kEights of them a run (0: as many
// as it takes), and may write up to 7 too many, which the next run overwrites.
template <int kEights>
void gather_row(const Taps& taps, const uint8_t* corner, int64_t pixel_stride, int64_t n_pixels,
                int64_t patch_bytes, uint8_t* to) {
  const int64_t n_eights = kEights > 0 ? kEights : (taps.run_bytes + 7) / 8;
  for (int64_t p = 0; p < n_pixels; ++p, corner += pixel_stride, to += patch_bytes) {
    uint8_t* at = to;
    const uint8_t* row = corner;
    for (int64_t ky = 0; ky < taps.n_rows; ++ky, row += taps.row_bytes) {
      const uint8_t* from = row;
      for (int64_t r = 0; r < taps.runs_a_row; ++r, from += taps.run_stride, at += taps.run_bytes)
        for (int64_t i = 0; i < n_eights; ++i) std::memcpy(at + 8 * i, from + 8 * i, 8);
    }
    std::memset(at, 0, 8);  // the tail of the last word, before the next pixel is written
  }
}

}  // namespace

// One call of `run`, seen by all its threads.
struct Conv::Call {
  const Implementation& implementation;
  const uint8_t* x;
  const float* const* residuals;
  float* y;
  uint8_t* y_bits;
  int64_t height, width;  // of the input; a pointwise call is one long row
  int64_t out_height, out_width, strip_pixels, strips_a_row;
  bool in_place, planes;
  int64_t y_origin = 0;  // the output pixel that y starts with
};

// Where a strip lies.
struct Conv::Strip {
  int64_t image, y, x, n_pixels;

  Strip(const Call& call, int64_t index) {
    const int64_t row = index / call.strips_a_row;
    image = row / call.out_height;
    y = row % call.out_height;
    x = index % call.strips_a_row * call.strip_pixels;
    n_pixels = std::min(call.strip_pixels, call.out_width - x);
  }
};

// Strips prepared together: output rows [y, y + n_rows) of an image, pixels [x, x + n_pixels).
struct Conv::Piece {
  int64_t image, y, n_rows, x, n_pixels;
  Patches patches;    // of the first pixel
  PairPatches pairs;  // in place of them, of bytes
  int64_t row_words;  // from an output row to the next

  int64_t rows(const Axis& axis) const {  // of the input
    return (n_rows - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
  }
  int64_t columns(const Axis& axis) const {
    return (n_pixels - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
  }
};

// Where the results from some pixel on go.
struct Conv::Target {
  Target(const Conv& conv, const Call& call, int64_t pixel)
      : residuals(call.residuals, conv.transform_, pixel) {
    const int64_t n = conv.geometry_.out_channels, bits_stride = (n + 7) / 8;
    out = {conv.transform_.data(),
           conv.transform_.size(),
           residuals.data(),
           n,
           call.y == nullptr ? nullptr : call.y + (pixel - call.y_origin) * n,
           n,
           call.y_bits == nullptr ? nullptr : call.y_bits + pixel * bits_stride,
           bits_stride};
  }
  Target(const Target&) = delete;  // out points into residuals

  Residuals residuals;
  Output out;
};

Conv::Conv(const Geometry& geometry, Transform transform)
    : geometry_(geometry), transform_(std::move(transform)) {
  tile_steps_ = transform_.for_tiles(geometry.out_channels);
  geometry_.numbers = geometry.usable();
  const bool together = geometry.groups == 1 && geometry.x.dilation == 1;
  const bool readable = geometry_.has_bytes() || geometry.group_bytes() % kWordBytes == 0;
  const Axis &y = geometry.y, &x = geometry.x;
  const bool bordered = y.before + y.after + x.before + x.after > 0;
  const bool converted = geometry_.has_bfloats() || geometry_.has_bytes() || geometry_.has_tables();
  reading_ = !(together && readable) ? Reading::gathered
             : bordered || converted ? Reading::padded
                                     : Reading::in_place;
  if (together && !readable && geometry_.has_signs() && y.kernel > 1) reading_ = Reading::spread;
}

Conv::Conv(const Geometry& geometry, const int16_t* weights, const int32_t* constants,
           Transform transform)
    : Conv(geometry, std::move(transform)) {
  pack_weights(reinterpret_cast<const uint8_t*>(weights));
  correct([&](int64_t tap) { return int64_t{constants[tap]}; },
          [](int64_t, int64_t inside, int64_t) { return inside; });
}

Conv::Conv(const Geometry& geometry, const uint8_t* weight_bits, Transform transform,
           const int32_t* lower, const uint8_t* flips)
    : Conv(geometry, std::move(transform)) {
  pack_weights(weight_bits);
  geometry.has_signs() ? count_padding(weight_bits) : no_padding();
  if (lower != nullptr) {
    const auto n = static_cast<size_t>(geometry.out_channels);
    lower_.assign(lower, lower + n);
    lower_.resize(n + kLanes, INT32_MIN);
    flips_.assign(flips, flips + (n + 7) / 8);
    flips_.resize(flips_.size() + 2, 0);
  }
}

Numbers Geometry::usable() const {
  const bool has_room = groups == 1 && x.dilation == 1 && out_channels % kLanes == 0 &&
                        x.stride * in_channels % 2 == 0;
  const bool must_widen = has_bfloats() && !(has_room && bfloat_kernels() != nullptr);
  return must_widen ? Numbers::floats : numbers;
}

// A row of taps is a whole number of pairs; a pair that is half empty has 0 for a weight.
std::vector<uint8_t> Conv::narrowed(const uint8_t* weights) const {
  const int64_t n_row = geometry_.x.kernel * geometry_.in_channels, n_even = n_row + n_row % 2;
  const int64_t n_rows = geometry_.out_channels * geometry_.y.kernel;
  std::vector<uint8_t> pairs(static_cast<size_t>(n_rows * n_even * 2), 0);
  for (int64_t r = 0; r < n_rows; ++r)
    bfloat_kernels()->narrow(reinterpret_cast<const float*>(weights) + r * n_row, n_row,
                             reinterpret_cast<uint16_t*>(pairs.data()) + r * n_even);
  return pairs;
}

// A row of taps is a whole number of words, filled up with zeros.
std::vector<uint8_t> Conv::in_words(const uint8_t* weights, int64_t row_bytes) const {
  const int64_t n_even = ceil_div(row_bytes, kWordBytes) * kWordBytes;
  const int64_t n_rows = geometry_.out_channels * geometry_.y.kernel;
  std::vector<uint8_t> words(static_cast<size_t>(n_rows * n_even), 0);
  for (int64_t r = 0; r < n_rows; ++r)
    std::memcpy(words.data() + r * n_even, weights + r * row_bytes, static_cast<size_t>(row_bytes));
  return words;
}

// A code for every four channels of a tap, two in a byte; a row of taps is a whole number of words.
std::vector<uint8_t> Conv::coded(const uint8_t* weight_bits) const {
  const int64_t n_taps = geometry_.x.kernel, n_tables = geometry_.n_tables();
  const int64_t tap_bytes = (geometry_.in_channels + 7) / 8;
  const int64_t row_bytes = ceil_div(n_taps * n_tables, kCodesAWord) * kWordBytes;
  const int64_t n_rows = geometry_.out_channels * geometry_.y.kernel;
  std::vector<uint8_t> codes(static_cast<size_t>(n_rows * row_bytes), 0);
  for (int64_t r = 0; r < n_rows; ++r)
    for (int64_t i = 0; i < n_taps * n_tables; ++i) {
      const uint8_t* tap = weight_bits + (r * n_taps + i / n_tables) * tap_bytes;
      const int64_t four = i % n_tables;
      const uint32_t signs = tap[four / 2] >> four % 2 * 4 & 15u;
      codes[static_cast<size_t>(r * row_bytes + i / 2)] |=
          static_cast<uint8_t>(table_code(signs) << i % 2 * 4);
    }
  return codes;
}

void Conv::pack_weights(const uint8_t* weight_bits) {
  int64_t n_bytes =
      geometry_.y.kernel * geometry_.x.kernel *
      (geometry_.has_bytes() ? geometry_.copied_group_bytes() : geometry_.group_bytes());
  std::vector<uint8_t> pairs;
  const bool in_rows =
      reading_ == Reading::spread || (geometry_.has_bytes() && reading_ == Reading::padded);
  if (geometry_.has_bfloats() || geometry_.has_tables() || in_rows) {
    pairs = in_rows ? in_words(weight_bits, geometry_.x.kernel * geometry_.copied_group_bytes())
            : geometry_.has_tables() ? coded(weight_bits)
                                     : narrowed(weight_bits);
    weight_bits = pairs.data();
    n_bytes = static_cast<int64_t>(pairs.size()) / geometry_.out_channels;
  }
  const int64_t n_group = geometry_.out_channels / geometry_.groups;
  patch_words_ = ceil_div(n_bytes, kWordBytes);
  n_blocks_ = ceil_div(n_group, kLanes);
  const int64_t line_words = kCacheLine / kWordBytes;
  const int64_t n_words = geometry_.groups * n_blocks_ * patch_words_ * kLanes;
  weight_memory_.assign(static_cast<size_t>(n_words + line_words), 0);
  const auto address = reinterpret_cast<uintptr_t>(weight_memory_.data());
  uint32_t* to =
      weight_memory_.data() + (kCacheLine - address % kCacheLine) % kCacheLine / kWordBytes;
  weights_ = to;
  for (int64_t c = 0; c < geometry_.out_channels; ++c) {
    const int64_t block = c / n_group * n_blocks_ + c % n_group / kLanes;
    const int64_t lane = c % n_group % kLanes;
    for (int64_t i = 0; i < n_bytes; ++i)
      to[(block * patch_words_ + i / kWordBytes) * kLanes + lane] |=
          static_cast<uint32_t>(weight_bits[c * n_bytes + i]) << 8 * (i % kWordBytes);
  }
}

// A row of corrections for each pattern of taps inside the image: `tap` gives a number for each tap of
// an output channel, `corrected` makes the correction of their sums.
template <class Tap, class Corrected>
void Conv::correct(const Tap& tap, const Corrected& corrected) {
  std::vector<Inside> rows, columns;
  row_class_ = classify(geometry_.y, rows);
  const std::vector<int32_t> column_class = classify(geometry_.x, columns);
  const int64_t stride = geometry_.out_channels + kLanes;
  correction_.assign(rows.size() * columns.size() * static_cast<size_t>(stride), 0);
  const int64_t n_y = geometry_.y.kernel, n_x = geometry_.x.kernel;
  // sums[y][x]: of all taps above y and left of x
  std::vector<int64_t> sums(static_cast<size_t>((n_y + 1) * (n_x + 1)), 0);
  const auto sum = [&](int64_t y, int64_t x) -> int64_t& {
    return sums[static_cast<size_t>(y * (n_x + 1) + x)];
  };
  for (int64_t c = 0; c < geometry_.out_channels; ++c) {
    for (int64_t y = 0; y < n_y; ++y)
      for (int64_t x = 0; x < n_x; ++x)
        sum(y + 1, x + 1) =
            tap((c * n_y + y) * n_x + x) + sum(y, x + 1) + sum(y + 1, x) - sum(y, x);
    int32_t* to = correction_.data() + c;
    for (const Inside& row : rows)
      for (const Inside& column : columns) {
        const int64_t bottom = row.first + row.count, right = column.first + column.count;
        const int64_t inside = sum(bottom, right) - sum(row.first, right) -
                               sum(bottom, column.first) + sum(row.first, column.first);
        *to = static_cast<int32_t>(corrected(row.count * column.count, inside, sum(n_y, n_x)));
        to += stride;
      }
  }
  for (size_t row = 0; row < rows.size(); ++row)
    for (int32_t column : column_class)
      correction_of_.push_back(correction_.data() +
                               (static_cast<int64_t>(row * columns.size()) + column) * stride);
  if (is_pointwise())  // a row of any length
    correction_of_.assign(kMaxPixels, correction_.data());
}

void Conv::count_padding(const uint8_t* weight_bits) {
  const int64_t n_channels = geometry_.in_channels / geometry_.groups;
  const int64_t n_bytes = geometry_.group_bytes();
  correct(
      [&](int64_t tap) {  // its −1 weights
        int64_t n = 0;
        for (int64_t i = 0; i < n_bytes; ++i)
          n += __builtin_popcount(weight_bits[tap * n_bytes + i]);
        return n;
      },
      [&](int64_t n_inside, int64_t inside, int64_t all) {
        return n_channels * n_inside + 2 * (all - inside);
      });
}

// Zeros times weights are zeros: nothing to correct.
void Conv::no_padding() {
  row_class_.assign(static_cast<size_t>(std::max<int64_t>(geometry_.y.out_size(), 1)), 0);
  const int64_t width = std::max<int64_t>(geometry_.x.out_size(), kMaxPixels);
  correction_of_.assign(static_cast<size_t>(width), nullptr);
}

Conv::Call Conv::start(const Implementation& implementation, const Arguments& a) const {
  const Axis &rows = geometry_.y, &columns = geometry_.x;
  Call call{implementation,  a.from<uint8_t>(),  a.others, a.y, a.y_bits, rows.size, columns.size,
            rows.out_size(), columns.out_size(), 0,        0,   false,    a.planes};
  const bool aligned = reinterpret_cast<uintptr_t>(a.x) % kWordBytes == 0;
  call.in_place = reading_ == Reading::in_place && aligned && !a.planes;
  return call;
}

void Conv::run_rows(const Implementation& implementation, const uint8_t* image, int64_t first,
                    int64_t last, float* y, bool planes) const {
  Call call = start(implementation, {image, 1, nullptr, y, nullptr, 1, planes});
  call.strip_pixels = std::min(call.out_width, kStripPixels);
  call.strips_a_row = ceil_div(call.out_width, call.strip_pixels);
  call.y_origin = first * call.out_width;
  run_part(call, first * call.strips_a_row, last * call.strips_a_row, 0, n_blocks_);
}

void Conv::run(const Implementation& implementation, const Arguments& a) const {
  const Axis &rows = geometry_.y, &columns = geometry_.x;
  Call call = start(implementation, a);
  int64_t n_images = a.n;
  if (is_pointwise() && !a.planes) {
    call.width = call.out_width = n_images * rows.size * columns.size;
    call.height = call.out_height = n_images = call.width > 0 ? 1 : 0;
  }
  if (n_images == 0 || call.out_height <= 0 || call.out_width <= 0) return;
  call.strip_pixels = std::min(call.out_width, kStripPixels);
  call.strips_a_row = ceil_div(call.out_width, call.strip_pixels);

  // cut along whichever of strips and channel blocks splits more evenly, and where both do, so that
  // the larger of images and weights is read once
  const int64_t n_strips = n_images * call.out_height * call.strips_a_row;
  const int64_t n_pairs = ceil_div(n_blocks_, kMaxBlocks);
  const int64_t macs = n_strips * call.strip_pixels * geometry_.out_channels * patch_words_ *
                       kWordBits * (geometry_.has_tables() ? kTableMacs : 1);
  const int n_threads = useful_threads(macs, a.n_threads);
  const auto evenness = [&](int64_t n) {
    return static_cast<double>(n) / static_cast<double>(ceil_div(n, n_threads) * n_threads);
  };
  const double better = evenness(n_strips) - evenness(n_pairs);
  const int64_t image_bytes = n_images * call.height * call.width * geometry_.copied_pixel_bytes();
  const int64_t weight_bytes = n_blocks_ * patch_words_ * kLanes * kWordBytes;
  const bool by_strip =
      geometry_.groups > 1 || better > 0.05 || (better >= -0.05 && image_bytes >= weight_bytes);
  const int64_t n = by_strip ? n_strips : n_pairs;
  const int n_parts = useful_tiles(macs, n_threads, n);
  parallel(n_parts, n_threads, [&](int part) {
    const int64_t first = n * part / n_parts, last = n * (part + 1) / n_parts;
    by_strip
        ? run_part(call, first, last, 0, n_blocks_)
        : run_part(call, 0, n_strips, first * kMaxBlocks, std::min(last * kMaxBlocks, n_blocks_));
  });
}

void Conv::run_part(const Call& call, int64_t first_strip, int64_t last_strip, int64_t first_block,
                    int64_t last_block) const {
  if (first_block >= last_block) return;
  const auto run_one = geometry_.has_signs()     ? &Conv::run_strip<Numbers::signs>
                       : geometry_.has_bfloats() ? &Conv::run_strip<Numbers::bfloats>
                       : geometry_.has_tables()  ? &Conv::run_strip<Numbers::tables>
                                                 : &Conv::run_strip<Numbers::floats>;
  for (int64_t group = 0; group < geometry_.groups; ++group)
    for (int64_t begin = first_strip; begin < last_strip;) {
      const int64_t end = piece_end(call, begin, last_strip);
      const Piece piece = prepare(call, group, begin, end);
      for (int64_t block = first_block; block < last_block; block += kMaxBlocks) {
        const int n_blocks = static_cast<int>(std::min<int64_t>(kMaxBlocks, last_block - block));
        for (int64_t s = begin; s < end; ++s) {
          const Strip strip(call, s);
          if (geometry_.has_bytes()) {
            run_bytes(call, piece, strip, group, block, n_blocks);
            continue;
          }
          Patches patches = piece.patches;
          patches.first +=
              piece.row_words * (strip.y - piece.y) + patches.pixel_stride * (strip.x - piece.x);
          (this->*run_one)(call, patches, strip, group, block, n_blocks);
        }
      }
      begin = end;
    }
}

// Tiles of a strip are as equal as they can be: 28 pixels are four times 7. Where the implementation
// cannot finish a tile in registers, all are computed first: their sums stay in the first cache, and
// are not loaded while their stores are on the way.
template <Numbers numbers>
void Conv::run_strip(const Call& call, const Patches& patches, const Strip& strip, int64_t group,
                     int64_t block, int n_blocks) const {
  const Implementation& how = call.implementation;
  const int64_t n_out = geometry_.out_channels, n_group = n_out / geometry_.groups;
  const int64_t block_words = patch_words_ * kLanes;
  const uint32_t* weights = weights_ + (group * n_blocks_ + block) * block_words;
  const auto* float_weights = reinterpret_cast<const float*>(weights);
  const int64_t channel = group * n_group + block * kLanes;
  const int64_t n_channels = std::min<int64_t>(n_blocks * kLanes, n_group - block * kLanes);
  const Thresholds thresholds{lower_.data(), flips_.data()};
  constexpr bool signs = numbers == Numbers::signs, bfloats = numbers == Numbers::bfloats;
  constexpr bool tables = numbers == Numbers::tables;
  const bool can_finish = bfloats || (signs    ? how.finished_tile != nullptr
                                      : tables ? how.finished_lookups != nullptr
                                               : how.finished_products != nullptr);
  const bool in_registers = can_finish && n_channels == n_blocks * kLanes;
  const bool pointwise = is_pointwise();
  const int32_t* const* correction = correction_of_.data();
  if (!pointwise) correction += row_class_[static_cast<size_t>(strip.y)] * call.out_width + strip.x;
  const int64_t first = (strip.image * call.out_height + strip.y) * call.out_width + strip.x;

  using Sum = std::conditional_t<signs, int32_t, float>;
  alignas(kCacheLine) Sum sums[kStripPixels * kMaxBlocks * kLanes];
  const auto n = static_cast<int>(strip.n_pixels);
  const int n_tiles = (n + kMaxPixels - 1) / kMaxPixels;
  const int least = n / n_tiles, n_larger = n % n_tiles;
  Patches tile = patches;
  for (int t = 0, x = 0, n_pixels; t < n_tiles; ++t, x += n_pixels) {
    n_pixels = least + (t < n_larger);
    tile.first = patches.first + x * patches.pixel_stride;
    const int64_t at = static_cast<int64_t>(x) * n_blocks * kLanes;
    if (!in_registers) {
      if constexpr (signs)
        how.disagreements(tile, n_pixels, weights, block_words, n_blocks, sums + at);
      else if constexpr (tables)
        how.look_up(tile, n_pixels, weights, block_words, n_blocks, sums + at);
      else
        how.products(tile, n_pixels, float_weights, block_words, n_blocks, sums + at);
      continue;
    }
    const Target target(*this, call, first + x);
    if constexpr (signs)
      how.finished_tile(tile, n_pixels, weights, block_words, n_blocks,
                        correction + (pointwise ? 0 : x), channel,
                        has_thresholds() ? nullptr : &tile_steps_, &thresholds, target.out);
    else if constexpr (bfloats)
      bfloat_kernels()->finished(tile, n_pixels, weights, block_words, n_blocks, channel,
                                 tile_steps_, target.out);
    else if constexpr (tables)
      how.finished_lookups(tile, n_pixels, weights, block_words, n_blocks, channel, tile_steps_,
                           target.out);
    else
      how.finished_products(tile, n_pixels, float_weights, block_words, n_blocks, channel,
                            tile_steps_, target.out);
  }
  if (in_registers) return;
  if constexpr (!signs) {
    how.finish_floats(sums, n_blocks * kLanes, n, channel, n_channels,
                      Target(*this, call, first).out);
  } else {
    // neighbors with the same taps inside share a correction: mostly all but the first and the last
    for (int64_t p = 0; p < n;) {
      int64_t end = pointwise ? n : p + 1;
      while (end < n && correction[end] == correction[p]) ++end;
      const Target target(*this, call, first + p);
      const int32_t* from = sums + p * n_blocks * kLanes;
      const int32_t* shared = correction[pointwise ? 0 : p];
      has_thresholds()
          ? how.finish_thresholds(from, n_blocks, shared, end - p, channel, n_channels, thresholds,
                                  target.out)
          : how.finish_counts(from, n_blocks, shared, end - p, channel, n_channels, target.out);
      p = end;
    }
  }
}

// As `run_strip`, of bytes: where a tile is not finished in registers, its sums are floats by then.
void Conv::run_bytes(const Call& call, const Piece& piece, const Strip& strip, int64_t group,
                     int64_t block, int n_blocks) const {
  const Implementation& how = call.implementation;
  const int64_t n_out = geometry_.out_channels, n_group = n_out / geometry_.groups;
  const int64_t block_words = patch_words_ * kLanes;
  const uint32_t* weights = weights_ + (group * n_blocks_ + block) * block_words;
  const int64_t channel = group * n_group + block * kLanes;
  const int64_t n_channels = std::min<int64_t>(n_blocks * kLanes, n_group - block * kLanes);
  FinishedPairs* finished = n_channels == n_blocks * kLanes ? finished_pairs(how) : nullptr;
  const bool pointwise = is_pointwise();
  const int32_t* const* correction = correction_of_.data();
  if (!pointwise) correction += row_class_[static_cast<size_t>(strip.y)] * call.out_width + strip.x;
  const int64_t first = (strip.image * call.out_height + strip.y) * call.out_width + strip.x;

  alignas(kCacheLine) float sums[kStripPixels * kMaxBlocks * kLanes];
  const auto n = static_cast<int>(strip.n_pixels);
  const int n_tiles = (n + kMaxPixels - 1) / kMaxPixels;
  const int least = n / n_tiles, n_larger = n % n_tiles;
  PairPatches tile = piece.pairs;
  tile.first += 2 * piece.row_words * (strip.y - piece.y) + tile.pixel_stride * (strip.x - piece.x);
  for (int t = 0, x = 0, n_pixels; t < n_tiles; ++t, x += n_pixels) {
    n_pixels = least + (t < n_larger);
    const int32_t* const* corrected = correction + (pointwise ? 0 : x);
    if (finished != nullptr) {
      const Target target(*this, call, first + x);
      finished(tile, n_pixels, weights, block_words, n_blocks, corrected, channel, tile_steps_,
               target.out);
    } else {
      how.pair_products(tile, n_pixels, weights, block_words, n_blocks, corrected, channel,
                        sums + static_cast<int64_t>(x) * n_blocks * kLanes);
    }
    tile.first += n_pixels * tile.pixel_stride;
  }
  if (finished == nullptr)
    how.finish_floats(sums, n_blocks * kLanes, n, channel, n_channels,
                      Target(*this, call, first).out);
}

// The strips after `first` that are prepared with it: of one image, as many as the cache holds.
int64_t Conv::piece_end(const Call& call, int64_t first, int64_t last) const {
  const int64_t bytes_a_strip =
      reading_ == Reading::gathered ? call.strip_pixels * patch_words_ * kWordBytes
      : reading_ == Reading::spread
          ? geometry_.y.stride * call.strip_pixels * (patch_words_ / geometry_.y.kernel) *
                kWordBytes
          : geometry_.y.stride * call.width *
                    std::max(geometry_.pixel_bytes(), geometry_.copied_pixel_bytes()) /
                    call.strips_a_row +
                1;
  const int64_t strips_an_image = call.out_height * call.strips_a_row;
  const int64_t weight_bytes = n_blocks_ * patch_words_ * kLanes * kWordBytes;
  const int64_t piece_bytes = geometry_.has_tables()            ? kTablePieceBytes
                              : weight_bytes > kLargePieceBytes ? kLargePieceBytes
                                                                : kPieceBytes;
  const int64_t n = std::max<int64_t>(piece_bytes / bytes_a_strip, 1);
  return std::min({first + n, last, (first / strips_an_image + 1) * strips_an_image});
}

Conv::Piece Conv::prepare(const Call& call, int64_t group, int64_t first_strip,
                          int64_t last_strip) const {
  const Strip first(call, first_strip), last(call, last_strip - 1);
  const Axis &y = geometry_.y, &x = geometry_.x;
  const int64_t pixel_bytes = geometry_.pixel_bytes(), pixel_words = pixel_bytes / kWordBytes;
  Piece piece{};
  piece.image = first.image;
  piece.y = first.y;
  piece.n_rows = last.y - first.y + 1;
  // a piece of several rows is prepared from edge to edge
  piece.x = piece.n_rows == 1 ? first.x : 0;
  piece.n_pixels = piece.n_rows == 1 ? last.x + last.n_pixels - first.x : call.out_width;
  if (call.in_place) {
    const int64_t row_words = call.width * pixel_words;
    const int64_t row = piece.image * call.height + piece.y * y.stride;
    const auto* words = reinterpret_cast<const uint32_t*>(call.x);
    piece.patches = {words + row * row_words + piece.x * x.stride * pixel_words,
                     x.stride * pixel_words, y.kernel, y.dilation * row_words,
                     x.kernel * pixel_words};
    piece.row_words = y.stride * row_words;
    return piece;
  }
  const int64_t copied_bytes = geometry_.copied_pixel_bytes();
  const int64_t row_bytes = ceil_div(piece.columns(x) * copied_bytes, kWordBytes) * kWordBytes;
  uint8_t* rows = scratch(0, piece.rows(y) * row_bytes);
  pad_rows(call, piece, rows);
  if (reading_ == Reading::spread) {
    const int64_t run_words = patch_words_ / y.kernel, row_words = piece.n_pixels * run_words;
    uint8_t* runs = scratch(1, piece.rows(y) * row_words * kWordBytes);
    spread(piece, rows, runs);
    piece.patches = {reinterpret_cast<const uint32_t*>(runs), run_words, y.kernel,
                     y.dilation * row_words, run_words};
    piece.row_words = y.stride * row_words;
    return piece;
  }
  if (reading_ != Reading::gathered) {
    const int64_t row_words = row_bytes / kWordBytes;
    piece.patches = {
        reinterpret_cast<const uint32_t*>(rows), x.stride * copied_bytes / kWordBytes, y.kernel,
        y.dilation * row_words,
        geometry_.has_tables() ? x.kernel * geometry_.n_tables() : patch_words_ / y.kernel};
    piece.row_words = y.stride * row_words;
    piece.pairs = {reinterpret_cast<const int16_t*>(rows), x.stride * copied_bytes / 2, y.kernel,
                   2 * y.dilation * row_words, patch_words_ / y.kernel};
    return piece;
  }
  uint8_t* patches = scratch(1, piece.n_rows * piece.n_pixels * patch_words_ * kWordBytes);
  gather(piece, group, rows, patches);
  piece.patches = {reinterpret_cast<const uint32_t*>(patches), patch_words_, 1, 0, patch_words_};
  piece.row_words = piece.n_pixels * patch_words_;
  piece.pairs = {reinterpret_cast<const int16_t*>(patches), 2 * patch_words_, 1, 0, patch_words_};
  return piece;
}

// What a piece reads of its image, zeros where the border is.
void Conv::pad_rows(const Call& call, const Piece& piece, uint8_t* to) const {
  const Axis &y = geometry_.y, &x = geometry_.x;
  const int64_t pixel_bytes = geometry_.copied_pixel_bytes(), n_columns = piece.columns(x);
  const int64_t first = piece.x * x.stride - x.before;  // may be negative: in the border
  const int64_t begin = std::clamp<int64_t>(first, 0, call.width);
  const int64_t end = std::clamp<int64_t>(first + n_columns, begin, call.width);
  // all of it may lie before the image, or behind: then begin < first
  const auto before =
      static_cast<size_t>(std::clamp<int64_t>(begin - first, 0, n_columns) * pixel_bytes);
  const auto inside = static_cast<size_t>((end - begin) * pixel_bytes);
  // the last word of a row may be half full; a last row's is read one word further
  const auto all = static_cast<size_t>(ceil_div(n_columns * pixel_bytes, kWordBytes) * kWordBytes);
  if (geometry_.has_bfloats() || geometry_.has_bytes())
    std::memset(to + static_cast<size_t>(piece.rows(y)) * all, 0, kWordBytes);
  for (int64_t r = 0; r < piece.rows(y); ++r, to += all) {
    const int64_t row = piece.y * y.stride - y.before + r;
    if (row < 0 || row >= call.height) {
      std::memset(to, 0, all);
      continue;
    }
    std::memset(to, 0, before);
    copy_row(call, piece.image, row, begin, end, to + before);
    std::memset(to + before + inside, 0, all - before - inside);
  }
}

// Columns [begin, end) of a row, channels innermost, narrowed where that is asked for; bytes widened.
void Conv::copy_row(const Call& call, int64_t image, int64_t row, int64_t begin, int64_t end,
                    uint8_t* to) const {
  const int64_t pixel_bytes = geometry_.pixel_bytes(), n_bytes = (end - begin) * pixel_bytes;
  const uint8_t* from = call.x + ((image * call.height + row) * call.width + begin) * pixel_bytes;
  if (geometry_.has_bytes()) {
    auto* pixels = reinterpret_cast<uint16_t*>(to);
    for (int64_t i = 0; i < n_bytes; ++i) pixels[i] = from[i];
    return;
  }
  if (call.planes) {
    uint8_t* woven = geometry_.has_bfloats() || geometry_.has_tables() ? scratch(1, n_bytes) : to;
    interleave(call, image, row, begin, end, woven);
    from = woven;
  }
  if (geometry_.has_bfloats())
    bfloat_kernels()->narrow(reinterpret_cast<const float*>(from), n_bytes / 4,
                             reinterpret_cast<uint16_t*>(to));
  else if (geometry_.has_tables())
    call.implementation.make_tables(reinterpret_cast<const float*>(from), end - begin,
                                    geometry_.in_channels, reinterpret_cast<float*>(to));
  else if (from != to)
    std::memcpy(to, from, static_cast<size_t>(n_bytes));
}

// Columns [begin, end) of a row from planes, channels innermost.
void Conv::interleave(const Call& call, int64_t image, int64_t row, int64_t begin, int64_t end,
                      uint8_t* to) const {
  const int64_t n = geometry_.in_channels;
  auto* pixel = reinterpret_cast<float*>(to);
  if (n == 3) {  // red, green and blue: three streams that compilers know how to weave
    const float* red = reinterpret_cast<const float*>(call.x) +
                       (image * n * call.height + row) * call.width + begin;
    const float *green = red + call.height * call.width, *blue = green + call.height * call.width;
    weave(red, green, blue, end - begin, pixel);
    return;
  }
  for (int64_t c = 0; c < n; ++c) {
    const float* plane =
        reinterpret_cast<const float*>(call.x) + ((image * n + c) * call.height + row) * call.width;
    for (int64_t x = begin; x < end; ++x) pixel[(x - begin) * n + c] = plane[x];
  }
}

void Conv::spread(const Piece& piece, const uint8_t* rows, uint8_t* to) const {
  const Axis &y = geometry_.y, &x = geometry_.x;
  const int64_t pixel_bytes = geometry_.pixel_bytes(), run_bytes = x.kernel * pixel_bytes;
  const int64_t row_bytes = ceil_div(piece.columns(x) * pixel_bytes, kWordBytes) * kWordBytes;
  const int64_t run_words = patch_words_ / y.kernel;
  const auto how = run_words == 1 ? spread_row<1> : run_words == 2 ? spread_row<2> : spread_row<0>;
  for (int64_t r = 0; r < piece.rows(y); ++r, rows += row_bytes)
    how(rows, x.stride * pixel_bytes, piece.n_pixels, run_bytes,
        to + r * piece.n_pixels * run_words * kWordBytes);
}

void Conv::gather(const Piece& piece, int64_t group, const uint8_t* rows, uint8_t* to) const {
  const Axis &y = geometry_.y, &x = geometry_.x;
  const int64_t pixel_bytes = geometry_.copied_pixel_bytes();
  const int64_t group_bytes = geometry_.copied_group_bytes();
  const int64_t row_bytes = ceil_div(piece.columns(x) * pixel_bytes, kWordBytes) * kWordBytes;
  // taps of a row lie together unless others stand between them
  const bool together = geometry_.groups == 1 && x.dilation == 1;
  const Taps taps{y.kernel, y.dilation * row_bytes, together ? 1 : x.kernel,
                  x.dilation * pixel_bytes, together ? x.kernel * group_bytes : group_bytes};
  const auto how = taps.run_bytes <= 8    ? gather_row<1>
                   : taps.run_bytes <= 16 ? gather_row<2>
                                          : gather_row<0>;
  const int64_t patch_bytes = patch_words_ * kWordBytes;
  for (int64_t r = 0; r < piece.n_rows; ++r, to += piece.n_pixels * patch_bytes)
    how(taps, rows + r * y.stride * row_bytes + group * group_bytes, x.stride * pixel_bytes,
        piece.n_pixels, patch_bytes, to);
}

}  // namespace irbin
