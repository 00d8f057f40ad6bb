// Two pools on one processor fight: OpenMP's workers spin for a while after each region, and take the
// core that another pool's worker wants. So we run on the OpenMP runtime that is already in the
// process (torch brings one), found by its name; without one, on a few threads of our own.
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#endif

namespace irbin {
namespace {

struct Job {
  const std::function<void(int)>* work;
  std::atomic<int> next{0};
  int n;
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // of whoever failed first; read when all are done
};

// No exception may leave a thread of a pool: that would end the process.
void take(Job& job) noexcept {
  try {
    for (int i; (i = job.next.fetch_add(1, std::memory_order_relaxed)) < job.n;) (*job.work)(i);
  } catch (...) {
    job.next.store(job.n, std::memory_order_relaxed);
    if (!job.failed.exchange(true)) job.error = std::current_exception();
  }
}

// GOMP_parallel is the entry point that compiled OpenMP code calls; libgomp and LLVM's runtime have it.
using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

struct OpenMp {
  GompParallel run = nullptr;
  std::string name = "own";
};

#if defined(__linux__)
int look_at(dl_phdr_info* info, size_t, void* found) {
  const std::string path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
  const std::string file = path.substr(path.rfind('/') + 1);
  if (file.rfind("libgomp", 0) != 0 && file.rfind("libiomp5", 0) != 0 &&
      file.rfind("libomp", 0) != 0)
    return 0;
  static_cast<std::vector<std::string>*>(found)->push_back(path);
  return 0;
}

OpenMp find_openmp() {
  std::vector<std::string> paths;
  dl_iterate_phdr(look_at, &paths);
  for (const std::string& path : paths)
    if (void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD))
      if (void* symbol = dlsym(library, "GOMP_parallel"))
        return {reinterpret_cast<GompParallel>(symbol), path.substr(path.rfind('/') + 1)};
  return {};
}
#else
OpenMp find_openmp() { return {}; }
#endif

class Pool;

// What a fork must not tear: held while it happens, so that a child never finds it locked.
std::mutex shared;
Pool* own_pool = nullptr;
std::atomic<bool> is_forked{false};

// Looked for again until there is one: torch may be imported after the first call.
const OpenMp& openmp() {
  static OpenMp known;
  static std::atomic<bool> is_known{false};
  static const OpenMp none;
  if (is_forked.load(std::memory_order_relaxed)) return none;
  if (is_known.load(std::memory_order_acquire)) return known;
  const std::lock_guard guard(shared);
  if (!is_known.load(std::memory_order_relaxed)) {
    OpenMp now = find_openmp();
    if (now.run == nullptr) return none;
    known = std::move(now);
    is_known.store(true, std::memory_order_release);
  }
  return known;
}

// A pool for processes without OpenMP: workers sleep until there is a job, and help one at a time.
class Pool {
 public:
  static Pool& get() {
    // never destroyed: workers may outlive static destructors, and are not there in a forked child
    const std::lock_guard guard(shared);
    if (own_pool == nullptr) own_pool = new Pool;
    return *own_pool;
  }

  void run(Job& job) {
    const std::unique_lock busy(one_at_a_time_, std::try_to_lock);
    if (!busy.owns_lock()) return take(job);  // another thread has the workers: do it alone
    grow(job.n - 1);
    {
      const std::lock_guard guard(lock_);
      job_ = &job;
      wanted_ = std::min<int>(job.n - 1, static_cast<int>(workers_.size()));
      running_ = wanted_;
    }
    wake_.notify_all();
    take(job);
    std::unique_lock guard(lock_);
    done_.wait(guard, [&] { return running_ == 0; });
    job_ = nullptr;
  }

 private:
  // As many as the system gives: fewer do the same work.
  void grow(int n) {
    try {
      while (static_cast<int>(workers_.size()) < n) {
        workers_.emplace_back([this] { serve(); });
        workers_.back().detach();
      }
    } catch (const std::exception&) {
    }
  }

  void serve() {
    for (;;) {
      Job* job = nullptr;
      {
        std::unique_lock guard(lock_);
        wake_.wait(guard, [&] { return wanted_ > 0; });
        --wanted_;
        job = job_;
      }
      take(*job);
      const std::lock_guard guard(lock_);
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex one_at_a_time_, lock_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  Job* job_ = nullptr;
  int wanted_ = 0, running_ = 0;
};

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int watching =
    pthread_atfork([] { shared.lock(); }, [] { shared.unlock(); },
                   [] {
                     own_pool = nullptr;
                     is_forked.store(true, std::memory_order_relaxed);
                     shared.unlock();
                   });
#endif

}  // namespace

void parallel(int n, const std::function<void(int)>& work) {
  if (n <= 1) {
    if (n == 1) work(0);
    return;
  }
  Job job;
  job.work = &work;
  job.n = n;
  if (const OpenMp& pool = openmp(); pool.run != nullptr)
    pool.run([](void* data) { take(*static_cast<Job*>(data)); }, &job, static_cast<unsigned>(n), 0);
  else
    Pool::get().run(job);
  if (job.failed.load(std::memory_order_acquire)) std::rethrow_exception(job.error);
}

int useful_threads(int64_t n_macs, int n_threads) {
  // a region costs microseconds to open and close, as long as some millions of 1-bit MACs take
  constexpr int64_t least_each = 4'000'000;
  return static_cast<int>(std::clamp<int64_t>(n_macs / least_each, 1, std::max(n_threads, 1)));
}

const char* thread_pool() { return openmp().name.c_str(); }

}  // namespace irbin
