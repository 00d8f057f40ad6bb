// Work shared among threads that the system may or may not run.
#pragma once

#include <cstdint>
#include <functional>

namespace irbin {

// Calls work(i) for every i in [0, n) on up to n_threads threads at once, the caller among them; returns
// when all are done, and waits for no thread that has not begun. What `work` throws, most likely for
// want of memory, is thrown again here: the first of it, the rest of the work is left out.
void parallel(int n, int n_threads, const std::function<void(int)>& work);

// How many threads are worth it for so many 1-bit MACs (or as much other work).
int useful_threads(int64_t n_macs, int n_threads);

// Into how many tiles, of some tens of microseconds, so much work is cut for so many useful threads: a
// multiple of them, but n_most at most.
int useful_tiles(int64_t n_macs, int n_threads, int64_t n_most);

}  // namespace irbin
