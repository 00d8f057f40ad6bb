// Layers that make an image row by row: averages, depthwise convolutions, boxes cut out or padded,
// channels joined, and products or sums with one pixel of each image. Steps may follow all of them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "contract.h"
#include "conv.h"
#include "operator.h"
#include "steps.h"

namespace irbin {

// A thread's own memory: taps of a window, and rows with their border that several results read.
struct Scratch {
  std::vector<const float*> taps;
  std::vector<float> made;  // a row before its steps
  std::vector<float> rows;
  std::vector<int64_t> numbers;  // of the row that stands in each place
};

// What all of them share: rows are made one by one, then go through the steps.
class Lines : public Operator {
 public:
  void run(const Implementation&, const Arguments&) const final;
  int n_others() const final { return after_.n_residuals() + n_further_; }

 protected:
  // Results are (n, height, width, n_channels); floats_read: of one value of them, about.
  Lines(int64_t height, int64_t width, int64_t n_channels, int n_further, int64_t floats_read,
        Transform after)
      : height_(height),
        width_(width),
        n_channels_(n_channels),
        n_further_(n_further),
        floats_read_(floats_read),
        after_(std::move(after)) {}

  int64_t width() const { return width_; }
  int64_t n_channels() const { return n_channels_; }
  // Of the tensors behind the residuals.
  const float* further(const Arguments& a, int i) const {
    return a.others[after_.n_residuals() + i];
  }

 private:
  // Row `row` of an image's result. Rows come in order.
  virtual void line(const Implementation&, const Arguments&, int64_t image, int64_t row, float* to,
                    Scratch&) const = 0;

  // The same with the steps behind; for those who make a row and finish it at once.
  virtual void finished_line(const Implementation&, const Arguments&, int64_t image, int64_t row,
                             const Output&, Scratch&) const;

  int64_t height_, width_, n_channels_;
  int n_further_;
  int64_t floats_read_;
  Transform after_;
};

// Pixels [begin, end) of an axis, counted as `count`: what they are divided by.
struct Span {
  int64_t begin, end, count;
};

// Means of rectangles: sums from +0 in the order (row, column), divided by both counts' product.
class Average final : public Lines {
 public:
  Average(int64_t height, int64_t width, int64_t n_channels, std::vector<Span> rows,
          std::vector<Span> columns, Transform after);

 private:
  void line(const Implementation&, const Arguments&, int64_t image, int64_t row, float* to,
            Scratch&) const override;

  int64_t in_height_, in_width_;
  std::vector<Span> rows_, columns_;
};

// A convolution of every channel with weights of its own: fused multiply-adds from +0 in the order (row,
// column), padding as zeros.
class Depthwise final : public Lines {
 public:
  // weights: (kernel_y, kernel_x, n_channels).
  Depthwise(const Axis& y, const Axis& x, int64_t n_channels, const float* weights,
            Transform after);

 private:
  void line(const Implementation&, const Arguments&, int64_t image, int64_t row, float* to,
            Scratch&) const override;
  void finished_line(const Implementation&, const Arguments&, int64_t image, int64_t row,
                     const Output&, Scratch&) const override;

  const float* padded(const float* image, int64_t number, int64_t row, Scratch&) const;

  Axis y_, x_;
  std::vector<float> weights_, zeros_;  // a row of zeros
};

// Places [before, before + count) of an axis of `size` places hold start, start + step, … of one that has
// `from` of them.
struct BoxAxis {
  int64_t from, before, count, start, step, size;
};

// A box of an image, with a value where it reaches beyond.
class Crop final : public Lines {
 public:
  Crop(const BoxAxis& y, const BoxAxis& x, const BoxAxis& channels, float value, Transform after);

 private:
  void line(const Implementation&, const Arguments&, int64_t image, int64_t row, float* to,
            Scratch&) const override;
  void pixel(const float* from, float* to) const;

  BoxAxis y_, x_, channels_;
  float value_;
};

// Images one behind the other along their channels.
class Join final : public Lines {
 public:
  Join(int64_t height, int64_t width, std::vector<int64_t> channels, Transform after);

 private:
  void line(const Implementation&, const Arguments&, int64_t image, int64_t row, float* to,
            Scratch&) const override;

  int64_t height_;
  std::vector<int64_t> channels_;
};

// A place between two of an axis: (1 − weight) of one and weight of the other, both factors rounded.
struct Between {
  int64_t first, second;
  float first_weight, second_weight;
};

// Every number is made of four: two of a row, then the two rows, each product and each sum rounded.
class Resize final : public Lines {
 public:
  Resize(int64_t height, int64_t width, int64_t n_channels, std::vector<Between> rows,
         std::vector<Between> columns, Transform after);

 private:
  void line(const Implementation&, const Arguments&, int64_t image, int64_t row, float* to,
            Scratch&) const override;

  int64_t in_height_, in_width_;
  std::vector<Between> rows_, columns_;
};

enum class Meeting : int32_t { multiply, add, subtract };

// Means of every `count` neighboring channels: sums in order from +0, then one division.
class ChannelMean final : public Lines {
 public:
  ChannelMean(int64_t height, int64_t width, int64_t n_channels, int64_t count, Transform after);

 private:
  void line(const Implementation&, const Arguments&, int64_t image, int64_t row, float* to,
            Scratch&) const override;

  int64_t height_, count_;
};

// Every pixel meets the one pixel of another tensor that its image has there.
class Gate final : public Lines {
 public:
  Gate(int64_t height, int64_t width, int64_t n_channels, Meeting, Transform after);

 private:
  void line(const Implementation&, const Arguments&, int64_t image, int64_t row, float* to,
            Scratch&) const override;

  int64_t height_;
  Meeting meeting_;
};

}  // namespace irbin
