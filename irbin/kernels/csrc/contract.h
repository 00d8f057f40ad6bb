// What an implementation gives, and in which shape it gets its work: pointers, sizes, nothing else.
//
// A kernel counts a *tile*: up to 8 pixels of one output row times up to 2 blocks of 16 output channels
// (`disagreements`). What happens to the counts comes after, for a run of pixels (`finish_counts`).
// Only local functions and these plain structs cross between files, so that no instruction set leaks
// into another's code.
#pragma once

#include <cstdint>

namespace irbin {

constexpr int kLanes = 16;     // output channels of a block
constexpr int kMaxPixels = 8;  // of a tile
constexpr int kMaxBlocks = 2;  // of a tile
constexpr int kWordBits = 32;

// The activation words that meet a tile's weights. Pixel p, segment s, word j is
// first[p * pixel_stride + s * segment_stride + j]; strides are in words.
struct Patches {
  const uint32_t* first;
  int64_t pixel_stride;
  int64_t n_segments;
  int64_t segment_stride;
  int64_t segment_words;
};

// The same of 16-bit numbers, a row of taps in pairs, for pixels may start inside a word: pixel p,
// segment s, pair j begins at first[p * pixel_stride + s * segment_stride + 2 * j]; strides are in
// numbers. A pair that is half empty meets a weight of 0 there.
struct PairPatches {
  const int16_t* first;
  int64_t pixel_stride;
  int64_t n_segments;
  int64_t segment_stride;
  int64_t segment_pairs;
};

// What a processor can do, and its system allows.
enum Feature : uint32_t {
  kAvx2 = 1,
  kAvx512 = 2,
  kVpopcntdq = 4,
  kNeon = 8,
  kBf16 = 16,
  kVnni = 32
};

struct FeatureName {
  Feature feature;
  const char* name;
};
constexpr FeatureName kFeatureNames[] = {
    {kAvx2, "AVX2"},  // and FMA, without which it is not taken
    {kAvx512, "AVX-512 F, BW, DQ, VL"},
    {kVpopcntdq, "AVX-512 VPOPCNTDQ"},
    {kNeon, "NEON"},
    {kBf16, "AVX-512 BF16"},
    {kVnni, "AVX-512 VNNI"},
};

enum class StepKind : int32_t {
  multiply,
  add,
  residual,
  clamp,
  prelu,
  write,
  elu,  // from here on activations, which activations.inl computes
  sigmoid,
  silu,
  hardsigmoid,
  hardswish,
  gelu,
  gelu_tanh,
  tanh,
  mish,
  hold,  // keeps in mind what stands there
  keep   // at most −2^-126 where what was held is below 0, at least +0 elsewhere; a NaN stays
};
constexpr bool has_values(StepKind kind) {
  return kind == StepKind::multiply || kind == StepKind::add || kind == StepKind::prelu ||
         kind == StepKind::elu;
}

// One step of an output transform, each rounded to float32 by itself. A `write` computes nothing: y is
// what stands there, and the steps behind it are for the signs alone.
struct Step {
  StepKind kind;
  int32_t residual;     // which tensor a residual step adds
  float low, high;      // of a clamp
  const float* values;  // per channel, up to a whole block; multiply, add, prelu, elu
  int32_t before = 0;  // of a residual tensor that has fewer channels: those in front of its first,
  int32_t channels = 0;  // how many it has, 0 for all; what it lacks is +0
};

// Where results go. Pointers stand at the first pixel and channel 0.
struct Output {
  const Step* steps;
  int64_t n_steps;
  const float* const* residuals;
  int64_t residual_stride;  // floats from pixel to pixel, of every residual
  float* y;                 // or null
  int64_t y_stride;         // floats from pixel to pixel
  uint8_t* bits;            // or null
  int64_t bits_stride;      // bytes from pixel to pixel
};

// The steps as a tile in registers takes them: first the usual ones, a product and a sum, perhaps a
// residual, perhaps a clamp; then the rest.
struct TileSteps {
  const float *multiply, *add;   // per channel
  const Step *residual, *clamp;  // or null
  const Step *rest, *end;
};

// For each channel: bit = (dot < lower) xor flip.
struct Thresholds {
  const int32_t* lower;  // per channel, up to a whole block
  const uint8_t* flips;  // a bit per channel, 8 channels a byte
};

// A row of a convolution of every channel by itself. Pixel p, channel c is the sum of
// rows[i][p * pixel_stride + j * tap_stride + c] * weights[(i * n_columns + j) * n_channels + c], in the
// order (row, column) from +0, each product and sum rounded once (fused multiply-add). Strides are in
// floats.
struct DepthwiseRow {
  const float* const* rows;
  int64_t n_rows, n_columns;
  int64_t tap_stride, pixel_stride;
  const float* weights;
  int64_t n_channels;
};

using FinishedPairs = void(const PairPatches&, int n_pixels, const uint32_t* weights,
                           int64_t block_stride, int n_blocks, const int32_t* const* correction,
                           int64_t channel, const TileSteps&, const Output&);

struct Implementation {
  const char* name;
  const char* description;
  uint32_t needs;  // features, added up

  // counts[p * n_blocks * 16 + channel] = popcount(activations xor weights).
  // weights: (block, word, 16), blocks block_stride words apart. At most 2^24 bits a product.
  void (*disagreements)(const Patches&, int n_pixels, const uint32_t* weights, int64_t block_stride,
                        int n_blocks, int32_t* counts);

  // dot = correction − 2·count, then the steps, on channels [channel, channel + n_channels) of pixels
  // whose counts stand n_blocks * 16 apart. correction points at channel 0 of a row of numbers.
  void (*finish_counts)(const int32_t* counts, int n_blocks, const int32_t* correction,
                        int64_t n_pixels, int64_t channel, int64_t n_channels, const Output&);

  // The same dot against thresholds; writes output.bits alone.
  void (*finish_thresholds)(const int32_t* counts, int n_blocks, const int32_t* correction,
                            int64_t n_pixels, int64_t channel, int64_t n_channels,
                            const Thresholds&, const Output&);

  // Counts a tile and finishes it while the counts are in registers: the same results as
  // `disagreements` and `finish_counts` or `finish_thresholds`, for whole blocks only. Without
  // steps, thresholds are used; correction[p] points at channel 0. Null where it would gain nothing.
  void (*finished_tile)(const Patches&, int n_pixels, const uint32_t* weights, int64_t block_stride,
                        int n_blocks, const int32_t* const* correction, int64_t channel,
                        const TileSteps* steps, const Thresholds* thresholds, const Output&);

  // sums[p * n_blocks * 16 + channel] = the words as floats times the weights, summed in order from 0,
  // each product and sum rounded once (fused multiply-add).
  void (*products)(const Patches&, int n_pixels, const float* weights, int64_t block_stride,
                   int n_blocks, float* sums);

  // The same, finished in registers, for whole blocks only; null where it would gain nothing.
  void (*finished_products)(const Patches&, int n_pixels, const float* weights,
                            int64_t block_stride, int n_blocks, int64_t channel, const TileSteps&,
                            const Output&);

  // The steps on floats, channels [channel, channel + n_channels) of pixel p at x + p * x_stride.
  void (*finish_floats)(const float* x, int64_t x_stride, int64_t n_pixels, int64_t channel,
                        int64_t n_channels, const Output&);

  // y[i] = the largest of inputs[k][i]; NaN if one of them is.
  void (*maximum)(const float* const* inputs, int64_t n_inputs, int64_t n_floats, float* y);

  // y[i] = (inputs[0][i] + inputs[1][i] + …) / divisor: sums in order from +0, each rounded, then the
  // quotient.
  void (*average)(const float* const* inputs, int64_t n_inputs, int64_t n_floats, float divisor,
                  float* y);

  // A row of a convolution of every channel by itself, n_pixels of them, and the steps on it. They are
  // pixels `first` and further of the output.
  void (*depthwise)(const DepthwiseRow&, int64_t first, int64_t n_pixels, const Output&);

  // y = (x − mean) / sqrt(variance + epsilon) of n numbers, as `float_reference.layer_norm` sums them;
  // not centered, the mean is taken to be 0.
  void (*normalize)(const float* x, int64_t n, float epsilon, bool is_centered, float* y);

  // In place: e to the power of x[i] · scale + mask[i], less the largest of them; a mask may be missing.
  // Returns their sum, as `float_reference.sums_of_rows` adds. x has room for whole blocks.
  float (*soften)(float* x, int64_t n, float scale, const float* mask);

  // Signs of a block of channel planes: pixel p, channel c at x[c * plane + p].
  void (*pack_planes)(const float* x, int64_t plane, int64_t n_pixels, int64_t n_channels,
                      uint8_t* bits, int64_t bits_stride);

  // n rounds of the inner loop on registers alone; returns the products (1-bit MACs) computed.
  int64_t (*register_loop)(int64_t n_rounds);

  // The same for float products.
  int64_t (*float_register_loop)(int64_t n_rounds);

  // sums[p * n_blocks * 16 + channel] = float32(correction + the numbers times the weights), a sum of
  // integers below 2^31. Words of weights are pairs of 16 bits; correction[p] points at channel 0.
  void (*pair_products)(const PairPatches&, int n_pixels, const uint32_t* weights,
                        int64_t block_stride, int n_blocks, const int32_t* const* correction,
                        int64_t channel, float* sums);

  // The same, finished in registers, for whole blocks only; null where it would gain nothing.
  FinishedPairs* finished_pairs;

  // For every four channels of every pixel, of which those behind the last are 0, the 16 sums
  // (±x0 ± x1) + (±x2 ± x3), in the order of `table_code`.
  void (*make_tables)(const float* x, int64_t n_pixels, int64_t n_channels, float* to);

  // sums[p * n_blocks * 16 + channel] = entries of tables, summed in order from 0. Patches are tables,
  // segment_words of them a segment; a word of weights holds codes of 8, the lowest first, and every
  // segment begins with a word.
  void (*look_up)(const Patches&, int n_pixels, const uint32_t* weights, int64_t block_stride,
                  int n_blocks, float* sums);

  // The same, finished in registers, for whole blocks only; null where it would gain nothing.
  void (*finished_lookups)(const Patches&, int n_pixels, const uint32_t* weights,
                           int64_t block_stride, int n_blocks, int64_t channel, const TileSteps&,
                           const Output&);
};

// Which entry of a table has these signs, a bit each, 1 for what is subtracted. The second half of a
// table is the first one negated, so that registers of 8 floats hold all that is needed.
constexpr uint32_t table_code(uint32_t signs) { return signs < 8 ? signs : signs ^ 7; }
constexpr int kCodesAWord = 8;

// Float convolutions in bfloat16, for those who ask for it; needs kBf16.
struct BfloatKernels {
  // As Implementation::finished_products, on words that are pairs of bfloat16; whole blocks only.
  void (*finished)(const Patches&, int n_pixels, const uint32_t* weights, int64_t block_stride,
                   int n_blocks, int64_t channel, const TileSteps&, const Output&);

  // Rounds to nearest, ties to even.
  void (*narrow)(const float* x, int64_t n, uint16_t* to);
};

extern const BfloatKernels avx512_bf16;

// As Implementation::finished_pairs, a product and a sum in one instruction; needs kVnni.
extern FinishedPairs* const avx512_vnni;

// Defined where the compiler knows their instructions; `implementations.cpp` lists them.
extern const Implementation avx512_vpopcntdq, avx512, avx2, neon, portable;

}  // namespace irbin
