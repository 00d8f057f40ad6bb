// Work shared among threads, on the pool that torch's own operators use where there is one.
#pragma once

#include <cstdint>
#include <functional>

namespace irbin {

// Calls work(i) for every i in [0, n) on up to n threads at once; returns when all are done. What
// `work` throws, most likely for want of memory, is thrown again here: the first of it, the rest of the
// work is left out.
void parallel(int n, const std::function<void(int)>& work);

// How many threads are worth it for so many 1-bit MACs (or as much other work).
int useful_threads(int64_t n_macs, int n_threads);

// "libgomp.so.1" …, the OpenMP runtime that is shared, or "own" for threads of our own, as in a forked
// child: OpenMP's threads are not there, and it waits for them for ever.
const char* thread_pool();

}  // namespace irbin
