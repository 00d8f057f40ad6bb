// Numbers taken from any places to any places, alone, in pairs, or several added up: what moves images or
// lets tensors of different shapes meet. Steps may follow.
#pragma once

#include <cstdint>
#include <vector>

#include "contract.h"
#include "operator.h"
#include "steps.h"

namespace irbin {

constexpr int kMaxWalkAxes = 8;

enum class WalkKind : int32_t {
  copy,
  multiply,
  add,
  subtract,
  divide,
  maximum,  // NaN if one of them is
  minimum,
  negate,
  absolute,
  sum,      // of `count` numbers in order: each sum is rounded
  softmax,  // of `count` numbers: `count` results
};

// Where the numbers of a leg lie: in an image of a tensor, or in constants.
struct Way {
  int32_t source = 0;  // 0 is x, i the i-th further tensor, −1 constants
  int64_t offset = 0;
  int64_t strides[kMaxWalkAxes] = {};
};

// A box of results and what each is made of.
struct Leg {
  WalkKind kind;
  int32_t n_axes;
  int64_t sizes[kMaxWalkAxes];
  Way to, first, second;
  int64_t count = 1, step = 0;  // of a sum or softmax: how many numbers, from one to the next
  int64_t to_step = 0;          // of a softmax
};

// x and further tensors: (n, sizes[i]) floats. y: (n, n_pixels, n_channels).
class Walk final : public Operator {
 public:
  Walk(int64_t n_pixels, int64_t n_channels, std::vector<int64_t> sizes, std::vector<Leg> legs,
       std::vector<float> constants, Transform after);

  void run(const Implementation&, const Arguments&) const override;
  int n_others() const override {
    return after_.n_residuals() + static_cast<int>(sizes_.size()) - 1;
  }

 private:
  void walk(const Implementation&, const Arguments&, const Leg&, int64_t image, int64_t begin,
            int64_t end, float* y) const;

  int64_t n_pixels_, n_channels_;
  std::vector<int64_t> sizes_;
  std::vector<Leg> legs_;
  std::vector<float> constants_;
  Transform after_;
};

}  // namespace irbin
