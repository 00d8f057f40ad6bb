// Convolutions to try: random ones, and the borders that chance would seldom meet.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "draw.h"

namespace problems {

using draw::Random;
using irbin::Axis;
using irbin::Geometry;

struct Problem {
  Geometry geometry;
  int64_t n_images;
  int64_t shift;  // of the input bits, in bytes
  int n_threads;
  bool opposite = false;  // all products are −1: what counts disagreements must not overflow
  bool planes = false;    // the input is (n_images, in_channels, height, width) floats
};

inline std::string describe(const Geometry& g, int64_t n_images, int64_t shift, int n_threads) {
  std::string words = g.has_signs()   ? "conv of signs"
                      : g.has_bytes() ? "conv of bytes"
                                      : "conv of floats";
  for (const Axis* a : {&g.y, &g.x}) {
    words += " (size";
    for (int64_t n : {a->size, a->kernel, a->stride, a->dilation, a->before, a->after})
      words += " " + std::to_string(n);
    words += ")";
  }
  return words + " channels " + std::to_string(g.in_channels) + " to " +
         std::to_string(g.out_channels) + " groups " + std::to_string(g.groups) + " images " +
         std::to_string(n_images) + " shift " + std::to_string(shift) + " threads " +
         std::to_string(n_threads);
}

inline Axis draw_axis(Random& random, int64_t widest, bool plain) {
  Axis axis{random.between(1, widest),
            random.between(1, 4),
            random.between(1, 3),
            random.chance(70) ? 1 : 2,
            0,
            0};
  if (!plain) axis.before = random.between(0, 3), axis.after = random.between(0, 3);
  const int64_t reach = (axis.kernel - 1) * axis.dilation + 1;
  axis.size = std::max(axis.size, reach - axis.before - axis.after);
  return axis;
}

inline Problem draw_problem(Random& random) {
  const bool plain = random.chance(40);  // no border: read in place if words are whole
  const bool wide = random.chance(25);   // rows of several strips
  Problem problem{};
  Geometry& g = problem.geometry;
  g.y = draw_axis(random, wide ? 3 : 9, plain);
  g.x = draw_axis(random, wide ? 150 : 9, plain);
  if (random.chance(15))
    for (Axis* axis : {&g.y, &g.x}) *axis = {axis->size, 1, 1, 1, 0, 0};
  g.groups = random.chance(60) ? 1 : random.between(2, 3);
  g.in_channels = g.groups * random.one_of({1, 7, 8, 9, 16, 31, 32, 33, 48, 63, 64, 65, 97, 128});
  g.out_channels = g.groups * random.one_of({1, 3, 8, 15, 16, 17, 31, 32, 33, 40, 48, 70});
  problem.n_images = random.between(0, 2);
  problem.shift = random.between(0, 1);
  problem.n_threads = static_cast<int>(random.between(1, 4));
  problem.opposite = random.chance(5);
  return problem;
}

// Borders that chance would seldom meet. Work is shared among threads from 8 million 1-bit MACs on.
inline std::vector<Problem> chosen_problems() {
  const Axis one{1, 1, 1, 1, 0, 0}, three{7, 3, 1, 1, 1, 1}, row{64, 3, 1, 1, 1, 1};
  return {
      {{one, {62, 1, 1, 1, 0, 3}, 4096, 16, 1}, 1, 0, 1},    // a piece that starts in the border
      {{one, {62, 1, 1, 1, 0, 3}, 1100, 3, 1}, 1, 0, 1},     // … gathered
      {{one, {1, 1, 1, 1, 150, 150}, 1100, 3, 1}, 1, 0, 1},  // pieces of border alone
      {{{4, 2, 2, 1, 5, 6}, {6, 2, 3, 2, 9, 8}, 64, 33, 1}, 2, 0, 1},  // border wider than reach
      {{three, {9, 3, 1, 1, 1, 1}, 512, 17, 1}, 1, 0, 1, true},   // more words than a byte counts
      {{one, {9, 1, 1, 1, 0, 0}, 8160, 17, 1}, 1, 0, 1, true},    // as many as adders take at once,
      {{one, {9, 1, 1, 1, 0, 0}, 8161, 17, 1}, 1, 0, 1, true},    // one more,
      {{three, {9, 3, 1, 1, 1, 1}, 2048, 17, 1}, 1, 0, 1, true},  // and more than twice as many
      {{{5, 3, 1, 1, 0, 0}, {9, 3, 1, 1, 0, 0}, 512, 48, 1}, 1, 0, 1, true},  // … in place
      {{{12, 3, 1, 1, 1, 1}, {70, 3, 1, 1, 1, 1}, 128, 33, 1}, 1, 0, 3},  // threads share strips
      {{{24, 3, 1, 1, 1, 1}, {20, 3, 2, 1, 1, 0}, 97, 48, 1}, 2, 1, 2},   // … gathered
      {{{3, 3, 1, 1, 0, 0}, row, 128, 128, 1}, 1, 0, 2},    // threads share blocks of channels
      {{one, one, 2048, 2064, 1}, 2, 0, 2},                 // … of a linear layer
      {{one, {130, 1, 1, 1, 0, 0}, 1024, 65, 1}, 2, 1, 2},  // pointwise at an odd address
  };
}

}  // namespace problems
