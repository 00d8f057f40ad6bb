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

// A plan and the memory that it computes in, which is its base 0: for one thread at a time.
struct Seat {
  int kind;  // plans of a kind do the same, for as many images
  const Plan* plan;
  uint8_t* memory;
  int64_t reached = 0;
};

// A part of a batch, for any plan of that kind.
struct Part {
  int kind;
  std::vector<Base> bases;        // base 0 is the seat's
  std::vector<uint8_t*> results;  // where they are to be
};

// A result in a seat's memory.
struct Made {
  int64_t offset, n_bytes;
};

// Runs parts of a batch side by side, each from the first layer to the last on one thread. `seats`: at
// least min(n_threads, parts) of every kind, or as many as there are parts of that kind. `made`: the
// results of each kind. `failed` becomes the seat whose plan threw.
void run_parts(const Implementation&, std::vector<Seat>& seats, const std::vector<Part>& parts,
               const std::vector<std::vector<Made>>& made, int n_threads, int64_t& failed);

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
