// Operators one after the other, with the places of what they read and write: a network, or a part of
// one, that runs in one call.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "contract.h"
#include "operator.h"

namespace irbin {

// So many bytes behind the base of that number; without a base, nothing is there.
struct Place {
  int32_t base = -1;
  int64_t offset = 0;
};

// Where a call finds what it reads, in the order of its plan's numbers.
struct Base {
  uint8_t* at;
  bool planes;  // (n, channels, height, width), for those of its readers that take it so
};

struct PlannedCall {
  std::shared_ptr<const Operator> what;
  int64_t n;
  Place x, y, y_bits;
  std::vector<Place> others;
};

class Plan {
 public:
  // Throws std::invalid_argument where a tensor is missing, or a base is not one of `n_bases`.
  Plan(std::vector<PlannedCall> calls, int n_bases);

  int64_t size() const { return static_cast<int64_t>(calls_.size()); }
  int n_bases() const { return n_bases_; }

  // Calls [first, last). `seconds`, if not null, gets the time of each, the first one's first.
  // `reached` is the number of the call that runs: of one that throws, afterwards.
  void run(const Implementation&, const std::vector<Base>& bases, int64_t first, int64_t last,
           int n_threads, double* seconds, int64_t& reached) const;

 private:
  std::vector<PlannedCall> calls_;
  int n_bases_;
};

// Computes nothing: what it takes to call it is what it takes to call any.
class Idle final : public Operator {
 public:
  explicit Idle(int n_others) : n_others_(n_others) {}
  void run(const Implementation&, const Arguments&) const override {}
  int n_others() const override { return n_others_; }

 private:
  int n_others_;
};

}  // namespace irbin
