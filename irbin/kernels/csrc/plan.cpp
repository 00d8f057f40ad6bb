#include "plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "threads.h"

namespace irbin {
namespace {

template <class T>
T* address(const std::vector<Base>& bases, const Place& place) {
  if (place.base < 0) return nullptr;
  return reinterpret_cast<T*>(bases[static_cast<size_t>(place.base)].at + place.offset);
}

// Seats that nobody sits on.
class Room {
 public:
  explicit Room(const std::vector<Seat>& seats) : seats_(seats), is_taken_(seats.size(), false) {}

  size_t take(int kind) {
    const std::lock_guard guard(lock_);
    for (size_t i = 0; i < seats_.size(); ++i)
      if (seats_[i].kind == kind && !is_taken_[i]) {
        is_taken_[i] = true;
        return i;
      }
    throw std::invalid_argument("more threads than plans");
  }

  void leave(size_t seat) {
    const std::lock_guard guard(lock_);
    is_taken_[seat] = false;
  }

 private:
  const std::vector<Seat>& seats_;
  std::vector<bool> is_taken_;
  std::mutex lock_;
};

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

void run_parts(const Implementation& how, std::vector<Seat>& seats, const std::vector<Part>& parts,
               const std::vector<std::vector<Made>>& made, int n_threads, int64_t& failed) {
  Room room(seats);
  std::mutex telling;
  parallel(static_cast<int>(parts.size()), n_threads, [&](int number) {
    const Part& part = parts[static_cast<size_t>(number)];
    const size_t at = room.take(part.kind);
    Seat& seat = seats[at];
    std::vector<Base> bases = part.bases;
    bases[0] = {seat.memory, false};
    try {
      seat.plan->run(how, bases, 0, seat.plan->size(), 1, nullptr, seat.reached);
    } catch (...) {
      const std::lock_guard guard(telling);
      failed = static_cast<int64_t>(at);
      throw;
    }
    const std::vector<Made>& results = made[static_cast<size_t>(part.kind)];
    for (size_t i = 0; i < results.size(); ++i)
      std::memcpy(part.results[i], seat.memory + results[i].offset,
                  static_cast<size_t>(results[i].n_bytes));
    room.leave(at);
  });
}

}  // namespace irbin
