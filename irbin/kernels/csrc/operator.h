// What a network is made of: layers made ready, which all run by the same call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract.h"

namespace irbin {

// What an operator reads and writes; pointers nobody checks, sizes it knows itself but for n.
struct Arguments {
  const void* x;
  int64_t n;                   // images; of those that know no images, rows
  const float* const* others;  // `n_others()` further tensors, residuals first
  float* y;                    // or null
  uint8_t* y_bits;             // or null
  int n_threads = 1;           // at most so many
  bool planes = false;  // x is (n, channels, height, width), where an operator takes that too

  template <class T>
  const T* from() const {
    return static_cast<const T*>(x);
  }
};

// Immutable once made: any number of threads may run one.
class Operator {
 public:
  virtual ~Operator() = default;

  virtual void run(const Implementation&, const Arguments&) const = 0;

  // How many tensors it reads beside x.
  virtual int n_others() const { return 0; }

 protected:
  Operator() = default;
  Operator(const Operator&) = delete;
  Operator& operator=(const Operator&) = delete;
};

}  // namespace irbin
