// A pool of our own that nobody waits for. Tiles are dealt from a counter, to the caller too: a thread
// that the system does not run has taken none, and costs nothing. Only a tile that was begun is waited
// for. It cannot be computed anew by another thread: the next layer may own its buffers by the time the
// first one writes. So a wait much longer than a tile, for a worker that lost its processor, is followed
// by a time without workers, twice as long whenever the next attempt ends as badly: what is lost on a
// busy machine is a small share, and what is lost when it is quiet again is a second at most.
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace irbin {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

constexpr auto kSpin = microseconds(30);       // about what waking a thread costs both sides
constexpr auto kLongWait = microseconds(400);  // longer than the system needs to wake a thread
constexpr int kTilesWaited = 4;                // a worker's tile may take as many of the caller's
constexpr int kAloneTimes = 2;                 // as much is lost alone as was lost waiting
constexpr auto kLongestAlone = std::chrono::seconds(1);

// When workers are asked for help.
class Trust {
 public:
  bool is_there(Clock::time_point now) const { return now >= alone_until_; }

  // After a job with workers that began at `start`: how long the caller had to wait for them.
  void learn(Clock::time_point start, Clock::time_point now, Clock::duration waited,
             Clock::duration longest_tile) {
    if (waited > std::max<Clock::duration>(kLongWait, longest_tile * kTilesWaited)) {
      alone_ = std::min<Clock::duration>(std::max(waited * kAloneTimes, alone_ * 2), kLongestAlone);
      alone_until_ = now + alone_;
      helped_ = {};
    } else if ((helped_ += now - start) > alone_) {
      alone_ = {};  // helped for as long as it was left alone
    }
  }

 private:
  Clock::time_point alone_until_{};
  Clock::duration alone_{}, helped_{};
};

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class Done>
bool spin(const Done& done) {
  const auto end = Clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause();
    }
  } while (Clock::now() < end);
  return false;
}

// Shared by whoever looks at it: a worker that comes late finds no tile, and never reads `work`, which
// lives on the caller's stack.
class Job {
 public:
  Job(int n, int n_helpers, const std::function<void(int)>& work)
      : work_(&work), n_(n), seats_(n_helpers) {}

  void help() noexcept {
    if (seats_.fetch_sub(1, std::memory_order_relaxed) > 0) take();
  }

  // Returns how long its longest tile took. No exception may leave a worker: that would end the process.
  Clock::duration take() noexcept {
    Clock::duration longest{};
    auto begin = Clock::now();
    for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n_;) {
      int n_done = 1;
      try {
        (*work_)(i);
      } catch (...) {
        n_done += n_ - std::min(next_.exchange(n_), n_);  // those that nobody will take
        if (!failed_.exchange(true)) error_ = std::current_exception();
      }
      if (done_.fetch_add(n_done, std::memory_order_acq_rel) + n_done == n_) {
        const std::lock_guard guard(lock_);
        all_done_.notify_one();
      }
      const auto end = Clock::now();
      longest = std::max(longest, end - begin);
      begin = end;
    }
    return longest;
  }

  void wait() {
    if (is_done() || spin([this] { return is_done(); })) return;
    std::unique_lock guard(lock_);
    all_done_.wait(guard, [this] { return is_done(); });
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  bool is_done() const { return done_.load(std::memory_order_acquire) == n_; }

  const std::function<void(int)>* work_;
  const int n_;
  std::atomic<int> seats_, next_{0}, done_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;  // of whoever failed first; read when all are done
  std::mutex lock_;
  std::condition_variable all_done_;
};

class Pool;

// What a fork must not tear: held while it happens, so that a child never finds it locked.
std::mutex shared;
Pool* own_pool = nullptr;

// Its workers help one caller at a time; who finds them taken works alone.
class Pool {
 public:
  static Pool& get() {
    // never destroyed: workers may outlive static destructors, and are not there in a forked child
    const std::lock_guard guard(shared);
    if (own_pool == nullptr) own_pool = new Pool;
    return *own_pool;
  }

  void run(const std::shared_ptr<Job>& job, int n_helpers) {
    const std::unique_lock busy(one_at_a_time_, std::try_to_lock);
    const auto start = Clock::now();
    const bool helped = busy.owns_lock() && trust_.is_there(start) && offer(job, n_helpers);
    const auto longest_tile = job->take();
    if (!helped) return;
    const auto begin = Clock::now();
    job->wait();
    const auto end = Clock::now();
    trust_.learn(start, end, end - begin, longest_tile);
  }

 private:
  // False where a worker holds the lock: it may not be running.
  bool offer(const std::shared_ptr<Job>& job, int n_helpers) {
    grow(n_helpers);
    int n_asleep;
    {
      const std::unique_lock guard(lock_, std::try_to_lock);
      if (!guard.owns_lock()) return false;
      job_ = job;
      version_.fetch_add(1, std::memory_order_release);
      n_asleep = n_asleep_;
    }
    for (int i = 0; i < std::min(n_asleep, n_helpers); ++i) wake_.notify_one();
    return true;
  }

  // As many as the system gives: fewer do the same work.
  void grow(int n) {
    try {
      for (; n_workers_ < n; ++n_workers_) std::thread([this] { serve(); }).detach();
    } catch (const std::exception&) {
    }
  }

  void serve() {
    for (uint64_t seen = 0;;) {
      const auto is_new = [&] { return version_.load(std::memory_order_acquire) != seen; };
      spin(is_new);
      std::shared_ptr<Job> job;
      {
        std::unique_lock guard(lock_);
        ++n_asleep_;
        wake_.wait(guard, is_new);
        --n_asleep_;
        seen = version_.load(std::memory_order_relaxed);
        job = job_;
      }
      job->help();
    }
  }

  std::mutex one_at_a_time_, lock_;
  std::condition_variable wake_;
  std::shared_ptr<Job> job_;
  std::atomic<uint64_t> version_{0};
  int n_workers_ = 0, n_asleep_ = 0;
  Trust trust_;
};

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int watching = pthread_atfork([] { shared.lock(); }, [] { shared.unlock(); },
                                                     [] {
                                                       own_pool = nullptr;
                                                       shared.unlock();
                                                     });
#endif

}  // namespace

void parallel(int n, int n_threads, const std::function<void(int)>& work) {
  const int n_helpers = std::min(n, n_threads) - 1;
  if (n_helpers < 1) {
    for (int i = 0; i < n; ++i) work(i);
    return;
  }
  const auto job = std::make_shared<Job>(n, n_helpers, work);
  Pool::get().run(job, n_helpers);
  job->rethrow();
}

int useful_threads(int64_t n_macs, int n_threads) {
  // a worker may have to be woken, which takes as long as some millions of 1-bit MACs
  constexpr int64_t least_each = 4'000'000;
  return static_cast<int>(std::clamp<int64_t>(n_macs / least_each, 1, std::max(n_threads, 1)));
}

int useful_tiles(int64_t n_macs, int n_threads, int64_t n_most) {
  constexpr int64_t a_tile = 32'000'000;
  if (n_threads <= 1) return 1;
  const int64_t rounds = std::max<int64_t>((n_macs / a_tile + n_threads - 1) / n_threads, 1);
  return static_cast<int>(std::clamp<int64_t>(rounds * n_threads, 1, std::max<int64_t>(n_most, 1)));
}

}  // namespace irbin
