#include "plan.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

namespace irbin {
namespace {

template <class T>
T* address(const std::vector<Base>& bases, const Place& place) {
  if (place.base < 0) return nullptr;
  return reinterpret_cast<T*>(bases[static_cast<size_t>(place.base)].at + place.offset);
}

}  // namespace

Plan::Plan(std::vector<PlannedCall> calls, int n_bases)
    : calls_(std::move(calls)), n_bases_(n_bases) {
  const auto is_known = [&](const Place& place) { return place.base < n_bases_; };
  for (const PlannedCall& call : calls_) {
    if (call.what == nullptr || call.x.base < 0 ||
        static_cast<int>(call.others.size()) < call.what->n_others())
      throw std::invalid_argument("a tensor is missing");
    const bool has_others = std::all_of(call.others.begin(), call.others.end(),
                                        [&](const Place& p) { return p.base >= 0 && is_known(p); });
    if (!has_others || !is_known(call.x) || !is_known(call.y) || !is_known(call.y_bits))
      throw std::invalid_argument("no such base");
  }
}

void Plan::run(const Implementation& how, const std::vector<Base>& bases, int64_t first,
               int64_t last, int n_threads, double* seconds, int64_t& reached) const {
  using Clock = std::chrono::steady_clock;
  std::vector<const float*> others;
  for (reached = first; reached < last; ++reached) {
    const PlannedCall& call = calls_[static_cast<size_t>(reached)];
    others.clear();
    for (const Place& place : call.others) others.push_back(address<const float>(bases, place));
    const Base& from = bases[static_cast<size_t>(call.x.base)];
    const Arguments arguments{from.at + call.x.offset,
                              call.n,
                              others.data(),
                              address<float>(bases, call.y),
                              address<uint8_t>(bases, call.y_bits),
                              n_threads,
                              from.planes};
    const auto start = seconds == nullptr ? Clock::time_point() : Clock::now();
    call.what->run(how, arguments);
    if (seconds != nullptr)
      seconds[reached - first] = std::chrono::duration<double>(Clock::now() - start).count();
  }
}

}  // namespace irbin
