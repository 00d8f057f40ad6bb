// A convolution made ready to run, of signs or of floats: weights in blocks, the padding correction,
// the transform.
#pragma once

#include <cstdint>
#include <vector>

#include "contract.h"
#include "operator.h"
#include "steps.h"

namespace irbin {

struct Axis {
  int64_t size, kernel, stride, dilation, before, after;  // before, after: zero padding

  int64_t out_size() const { return (padded() - (kernel - 1) * dilation - 1) / stride + 1; }
  int64_t padded() const { return size + before + after; }
  bool is_pointwise() const { return kernel == 1 && stride == 1 && before == 0 && after == 0; }
};

// What is multiplied: signs, float32, float32 that is rounded to bfloat16 first, bytes with weights of
// 16 bits, in integers, or float32 with weights that are signs, whose sums are looked up in tables.
enum class Numbers { signs, floats, bfloats, bytes, tables };

struct Geometry {
  Axis y, x;
  int64_t in_channels, out_channels, groups;
  Numbers numbers = Numbers::signs;

  bool has_signs() const { return numbers == Numbers::signs; }
  bool has_bfloats() const { return numbers == Numbers::bfloats; }
  bool has_bytes() const { return numbers == Numbers::bytes; }
  bool has_tables() const { return numbers == Numbers::tables; }
  int64_t group_bytes() const {  // as they are given: a bit a sign, a byte, or float32
    const int64_t n = in_channels / groups;
    return has_signs() ? (n + 7) / 8 : has_bytes() ? n : n * 4;
  }
  int64_t pixel_bytes() const { return groups * group_bytes(); }
  int64_t copied_group_bytes() const {  // both narrowed and widened numbers have 16 bits
    if (has_tables()) return n_tables() * kLanes * 4;
    return has_bfloats() || has_bytes() ? in_channels / groups * 2 : group_bytes();
  }
  int64_t n_tables() const { return (in_channels + 3) / 4; }  // of a pixel
  int64_t copied_pixel_bytes() const { return groups * copied_group_bytes(); }
  // `numbers`, but floats where bfloats need what is not there: a processor that has them, whole
  // blocks, pixels that start on words.
  Numbers usable() const;
  int64_t n_macs() const {  // an image
    return y.out_size() * x.out_size() * out_channels * (in_channels / groups) * y.kernel *
           x.kernel;
  }
};

class Conv final : public Operator {
 public:
  // weights: (out_channels, kernel_y, kernel_x, group_bytes), bits as in a packed file, or floats. Of
  // tables, whose columns are neighbors and all in one group, bits of in_channels each.
  // lower, flips: both null, or as in `Thresholds`, (out_channels,) and (⌈out_channels / 8⌉,).
  Conv(const Geometry&, const uint8_t* weights, Transform, const int32_t* lower,
       const uint8_t* flips);

  // Of bytes: weights (out_channels, kernel_y, kernel_x, in_channels / groups), and constants
  // (out_channels, kernel_y, kernel_x), what each tap inside the image adds. No sum leaves int32.
  Conv(const Geometry&, const int16_t* weights, const int32_t* constants, Transform);

  // x: (n, height, width, pixel_bytes). y: (n, out_height, out_width, out_channels), y_bits likewise
  // with ⌈out_channels / 8⌉ bytes. Others are residuals, of y's shape. With `planes`, x is
  // (n, in_channels, height, width) floats.
  void run(const Implementation&, const Arguments&) const override;
  int n_others() const override { return transform_.n_residuals(); }

  // Rows [first, last) of one image's output, on this thread, to y, which starts with row `first`.
  void run_rows(const Implementation&, const uint8_t* image, int64_t first, int64_t last, float* y,
                bool planes) const;

  const Geometry& geometry() const { return geometry_; }
  bool has_thresholds() const { return !lower_.empty(); }

 private:
  enum class Reading { in_place, padded, spread, gathered };
  struct Call;
  struct Strip;
  struct Piece;
  struct Target;

  Conv(const Geometry&, Transform);
  bool is_pointwise() const { return geometry_.y.is_pointwise() && geometry_.x.is_pointwise(); }
  Call start(const Implementation&, const Arguments&) const;
  void copy_row(const Call&, int64_t image, int64_t row, int64_t begin, int64_t end,
                uint8_t* to) const;
  void interleave(const Call&, int64_t image, int64_t row, int64_t begin, int64_t end,
                  uint8_t* to) const;
  void pack_weights(const uint8_t* weight_bits);
  std::vector<uint8_t> narrowed(const uint8_t* weights) const;
  std::vector<uint8_t> in_words(const uint8_t* weights, int64_t row_bytes) const;
  std::vector<uint8_t> coded(const uint8_t* weight_bits) const;
  void count_padding(const uint8_t* weight_bits);
  template <class Tap, class Corrected>
  void correct(const Tap& tap, const Corrected& corrected);
  void no_padding();
  void run_part(const Call&, int64_t first_strip, int64_t last_strip, int64_t first_block,
                int64_t last_block) const;
  int64_t piece_end(const Call&, int64_t first_strip, int64_t last_strip) const;
  Piece prepare(const Call&, int64_t group, int64_t first_strip, int64_t last_strip) const;
  void pad_rows(const Call&, const Piece&, uint8_t* to) const;
  void spread(const Piece&, const uint8_t* rows, uint8_t* to) const;
  void gather(const Piece&, int64_t group, const uint8_t* rows, uint8_t* to) const;
  void run_bytes(const Call&, const Piece&, const Strip&, int64_t group, int64_t block,
                 int n_blocks) const;
  template <Numbers>
  void run_strip(const Call&, const Patches&, const Strip&, int64_t group, int64_t block,
                 int n_blocks) const;

  Geometry geometry_;
  Transform transform_;
  TileSteps tile_steps_;
  Reading reading_;
  int64_t patch_words_ = 0;  // of one product, a whole number of words
  int64_t n_blocks_ = 0;     // of one group
  std::vector<uint32_t> weight_memory_;
  const uint32_t* weights_ = nullptr;          // (group, block, word, 16), on a cache line
  std::vector<int32_t> correction_;            // (class of row and column, out_channels + 16)
  std::vector<const int32_t*> correction_of_;  // (class of row, out_width), into correction_
  std::vector<int32_t> row_class_;
  std::vector<int32_t> lower_;
  std::vector<uint8_t> flips_;
};

}  // namespace irbin
