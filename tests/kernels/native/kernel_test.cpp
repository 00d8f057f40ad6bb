// Every supported implementation against plain loops (naive.h), exactly. No Python and no library:
// this is what runs under sanitizers and under another processor's emulator (.ci/sanitize, .ci/neon).
//
// What kernels read lies in allocations of exactly its size, where AddressSanitizer sees one byte
// read too many; what they write holds other values before.
//
//     kernel_test [cases]    so many random cases of each kind, 600 by default
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>

#include "implementations.h"
#include "naive.h"
#include "values.h"

namespace {

using irbin::Axis;
using irbin::Conv;
using irbin::Geometry;
using irbin::Implementation;
using irbin::MaxPool;
using irbin::StepKind;
using irbin::Transform;
using naive::Bytes;
using naive::Floats;
using naive::Signs;
using naive::Steps;

// ---- numbers, the same on every machine: the distributions of <random> do not promise that

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  int64_t between(int64_t first, int64_t last) {
    return first + static_cast<int64_t>(engine_() % static_cast<uint64_t>(last - first + 1));
  }
  bool chance(int64_t percent) { return between(1, 100) <= percent; }
  template <class T>
  T one_of(std::initializer_list<T> all) {
    return all.begin()[between(0, static_cast<int64_t>(all.size()) - 1)];
  }
  // One in eight is a value that arithmetic treats in a way of its own.
  float number() {
    constexpr float inf = std::numeric_limits<float>::infinity();
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    if (between(1, 8) == 1)
      return one_of({0.0f, -0.0f, 1e-45f, -1e-45f, 1e-38f, 3e38f, -3e38f, inf, -inf, nan, 1.0f});
    return static_cast<float>(between(-4'000'000, 4'000'000)) * 1e-6f;
  }
  Floats numbers(int64_t n) {
    Floats made(static_cast<size_t>(n));
    for (float& x : made) x = number();
    return made;
  }
  Signs signs(int64_t n) {
    Signs made(static_cast<size_t>(n));
    for (int8_t& x : made) x = engine_() >> 40 & 1 ? 1 : -1;
    return made;
  }

 private:
  std::mt19937_64 engine_;
};

// Bytes that end where their allocation ends and start at an odd address if `shift` is odd.
class Shifted {
 public:
  Shifted(const Bytes& from, int64_t shift)
      : memory_(new uint8_t[from.size() + static_cast<size_t>(shift)]), shift_(shift) {
    if (!from.empty()) std::memcpy(memory_.get() + shift, from.data(), from.size());
  }
  const uint8_t* data() const { return memory_.get() + shift_; }

 private:
  std::unique_ptr<uint8_t[]> memory_;
  int64_t shift_;
};

// ---- the score

struct Score {
  const Implementation* how;
  int64_t passed = 0, failed = 0;
};

std::vector<Score> scores() {
  std::vector<Score> all;
  for (const Implementation* one : irbin::implementations())
    if (is_supported(*one)) all.push_back({one});
  return all;
}

// The same bits, but for which NaN and which zero it is: where two zeros meet in a maximum or a
// clamp, processors differ in which of them they keep, and nothing behind it can tell.
bool same(const Floats& a, const Floats& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return x == y || (std::isnan(x) && std::isnan(y));
  });
}

struct Wanted {
  bool y, bits;
};

class Check {
 public:
  Check(std::vector<Score>& scores, Random& random) : scores_(scores), random_(random) {}

  Wanted draw_wanted(bool can_pack) {
    if (!can_pack) return {true, false};
    return random_.one_of({Wanted{true, false}, Wanted{false, true}, Wanted{true, true}});
  }

  // run(implementation, y or null, bits or null) must give y, (pixels, n_channels), and its signs.
  template <class Run>
  void operator()(const std::string& what, const Floats& y, const Bytes& bits, Wanted wanted,
                  const Run& run) {
    for (Score& score : scores_) {
      Floats found_y(wanted.y ? y.size() : 0, 12345.678f);
      Bytes found_bits(wanted.bits ? bits.size() : 0, 0xa5);
      run(*score.how, wanted.y ? found_y.data() : nullptr,
          wanted.bits ? found_bits.data() : nullptr);
      const bool ok = (!wanted.y || same(found_y, y)) && (!wanted.bits || found_bits == bits);
      ++(ok ? score.passed : score.failed);
      if (!ok && score.failed <= 5)
        std::printf("FAILED %s: %s, y %d bits %d\n", score.how->name, what.c_str(), wanted.y,
                    wanted.bits);
    }
  }

 private:
  std::vector<Score>& scores_;
  Random& random_;
};

// ---- steps

Transform build(const Steps& steps, int64_t n_channels) {
  Transform made;
  for (const naive::Step& s : steps)
    made.append(s.kind, s.residual, s.low, s.high, s.values.empty() ? nullptr : s.values.data(),
                n_channels);
  return made;
}

enum Recipe { none, product, affine, relu6, prelu, two_residuals, before, n_recipes };

Steps draw_steps(Random& random, int recipe, int64_t n_channels) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const auto per_channel = [&](StepKind kind) {
    return naive::Step{kind, random.numbers(n_channels)};
  };
  const naive::Step first{StepKind::residual, {}, 0}, second{StepKind::residual, {}, 1};
  const naive::Step clamp{StepKind::clamp, {}, 0, random.one_of({0.0f, -1.5f, -inf}),
                          random.one_of({6.0f, inf})};
  switch (recipe) {
    case product: return {per_channel(StepKind::multiply)};
    case affine: return {per_channel(StepKind::multiply), per_channel(StepKind::add)};
    case relu6:
      return {per_channel(StepKind::multiply), per_channel(StepKind::add), first, clamp};
    case prelu: return {per_channel(StepKind::prelu)};
    case two_residuals:
      return {second, per_channel(StepKind::prelu), first, per_channel(StepKind::add), clamp};
    case before: return {per_channel(StepKind::multiply), per_channel(StepKind::add), clamp};
    default: return {};
  }
}

// Tensors that the steps' residual steps add.
std::vector<Floats> draw_residuals(Random& random, const Transform& transform, size_t n_floats) {
  std::vector<Floats> made;
  for (int i = 0; i < transform.n_residuals(); ++i)
    made.push_back(random.numbers(static_cast<int64_t>(n_floats)));
  return made;
}

std::vector<const float*> addresses(const std::vector<Floats>& tensors) {
  std::vector<const float*> found;
  for (const Floats& tensor : tensors) found.push_back(tensor.data());
  return found;
}

// ---- convolution

std::string describe(const Geometry& g, int64_t n_images, int64_t shift, int n_threads) {
  std::string words = "conv";
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

struct Problem {
  Geometry geometry;
  int64_t n_images;
  int64_t shift;  // of the input bits, in bytes
  int n_threads;
};

void check_steps(Check& check, Random& random, const Problem& problem, const Bytes& weight_bits,
                 const Shifted& bits, const Floats& dots) {
  const Geometry& g = problem.geometry;
  const std::string words = describe(g, problem.n_images, problem.shift, problem.n_threads);
  const bool can_pack = g.groups == 1 || g.out_channels / g.groups % 8 == 0;
  for (int recipe = 0; recipe < n_recipes; ++recipe) {
    const Steps steps = draw_steps(random, recipe, g.out_channels);
    Transform transform = build(steps, g.out_channels);
    const std::vector<Floats> residuals = draw_residuals(random, transform, dots.size());
    const Floats y = naive::apply(steps, dots, g.out_channels, residuals);
    const Conv conv(g, weight_bits.data(), std::move(transform), nullptr, nullptr);
    check(words + " recipe " + std::to_string(recipe), y, naive::pack(y, g.out_channels),
          check.draw_wanted(can_pack), [&](const Implementation& how, float* to, uint8_t* to_bits) {
            conv.run(how, bits.data(), problem.n_images, addresses(residuals).data(), to, to_bits,
                     problem.n_threads);
          });
  }
}

void check_thresholds(Check& check, Random& random, const Problem& problem,
                      const Bytes& weight_bits, const Shifted& bits, const Floats& dots) {
  const Geometry& g = problem.geometry;
  if (g.groups > 1 && g.out_channels / g.groups % 8 != 0) return;
  const int64_t depth = g.y.kernel * g.x.kernel * (g.in_channels / g.groups);
  std::vector<int32_t> lower(static_cast<size_t>(g.out_channels));
  // half of them where the dots of random signs lie, half anywhere
  for (int32_t& one : lower)
    one = static_cast<int32_t>(random.chance(50) ? random.between(-6, 6)
                                                 : random.between(-depth, depth + 1));
  const Signs flipped = random.signs(g.out_channels);
  const Bytes flips = naive::pack(flipped, g.out_channels);
  Signs signs;
  for (size_t i = 0; i < dots.size(); ++i) {
    const size_t c = i % lower.size();
    signs.push_back((dots[i] < static_cast<float>(lower[c])) != (flipped[c] < 0) ? -1 : 1);
  }
  const Conv conv(g, weight_bits.data(), Transform(), lower.data(), flips.data());
  check(describe(g, problem.n_images, problem.shift, problem.n_threads) + " thresholds", {},
        naive::pack(signs, g.out_channels), {false, true},
        [&](const Implementation& how, float* to, uint8_t* to_bits) {
          conv.run(how, bits.data(), problem.n_images, nullptr, to, to_bits, problem.n_threads);
        });
}

void check_conv(Check& check, Random& random, const Problem& problem) {
  const Geometry& g = problem.geometry;
  const int64_t per_group = g.in_channels / g.groups;
  const Signs x = random.signs(problem.n_images * g.y.size * g.x.size * g.in_channels);
  const Signs w = random.signs(g.out_channels * g.y.kernel * g.x.kernel * per_group);
  const Shifted bits(naive::pack(x, per_group), problem.shift);
  const Bytes weight_bits = naive::pack(w, per_group);
  const std::vector<int32_t> found = naive::dots(g, problem.n_images, x, w);
  const Floats dots(found.begin(), found.end());
  check_steps(check, random, problem, weight_bits, bits, dots);
  check_thresholds(check, random, problem, weight_bits, bits, dots);
}

Axis draw_axis(Random& random, int64_t widest, bool plain) {
  Axis axis{random.between(1, widest), random.between(1, 4), random.between(1, 3),
            random.chance(70) ? 1 : 2, 0, 0};
  if (!plain) axis.before = random.between(0, 3), axis.after = random.between(0, 3);
  const int64_t reach = (axis.kernel - 1) * axis.dilation + 1;
  axis.size = std::max(axis.size, reach - axis.before - axis.after);
  return axis;
}

Problem draw_problem(Random& random) {
  const bool plain = random.chance(40);  // no border: read in place if words are whole
  const bool wide = random.chance(25);   // rows of several strips
  Problem problem{};
  Geometry& g = problem.geometry;
  g.y = draw_axis(random, wide ? 3 : 9, plain);
  g.x = draw_axis(random, wide ? 150 : 9, plain);
  if (random.chance(15))
    for (Axis* axis : {&g.y, &g.x}) *axis = {axis->size, 1, 1, 1, 0, 0};
  g.groups = random.chance(60) ? 1 : random.between(2, 3);
  g.in_channels =
      g.groups * random.one_of({1, 7, 8, 9, 16, 31, 32, 33, 48, 63, 64, 65, 97, 128});
  g.out_channels = g.groups * random.one_of({1, 3, 8, 15, 16, 17, 31, 32, 33, 40, 48, 70});
  problem.n_images = random.between(0, 2);
  problem.shift = random.between(0, 1);
  problem.n_threads = static_cast<int>(random.between(1, 2));
  return problem;
}

// Borders that chance would seldom meet. Work is shared among threads from 8 million 1-bit MACs on.
std::vector<Problem> chosen_problems() {
  const Axis one{1, 1, 1, 1, 0, 0}, three{7, 3, 1, 1, 1, 1}, row{64, 3, 1, 1, 1, 1};
  return {
      {{one, {62, 1, 1, 1, 0, 3}, 32, 16, 1}, 1, 0, 1},    // a strip that starts in the border
      {{one, {1, 1, 1, 1, 70, 70}, 7, 3, 1}, 1, 0, 1},     // strips of border alone
      {{{4, 2, 2, 1, 5, 6}, {6, 2, 3, 2, 9, 8}, 64, 33, 1}, 2, 0, 1},  // border wider than reach
      {{three, {9, 3, 1, 1, 1, 1}, 512, 17, 1}, 1, 0, 1},  // more words than byte totals hold
      {{{5, 3, 1, 1, 0, 0}, {9, 3, 1, 1, 0, 0}, 512, 48, 1}, 1, 0, 1},  // the same in place
      {{{12, 3, 1, 1, 1, 1}, {70, 3, 1, 1, 1, 1}, 128, 33, 1}, 1, 0, 3},  // threads share strips
      {{{24, 3, 1, 1, 1, 1}, {20, 3, 2, 1, 1, 0}, 97, 48, 1}, 2, 1, 2},   // … gathered
      {{{3, 3, 1, 1, 0, 0}, row, 128, 128, 1}, 1, 0, 2},   // threads share blocks of channels
      {{one, one, 2048, 2064, 1}, 2, 0, 2},                // … of a linear layer
      {{one, {130, 1, 1, 1, 0, 0}, 1024, 65, 1}, 2, 1, 2},  // pointwise at an odd address
  };
}

// ---- values: rows, planes, pooling

void check_rows(Check& check, Random& random, int64_t n_pixels, int64_t n_channels, int n_threads) {
  const Floats x = random.numbers(n_pixels * n_channels);
  for (int recipe = 0; recipe < n_recipes; ++recipe) {
    const Steps steps = draw_steps(random, recipe, n_channels);
    const Transform transform = build(steps, n_channels);
    const std::vector<Floats> residuals = draw_residuals(random, transform, x.size());
    const Floats y = naive::apply(steps, x, n_channels, residuals);
    check("rows " + std::to_string(n_pixels) + " x " + std::to_string(n_channels) + " recipe " +
              std::to_string(recipe),
          y, naive::pack(y, n_channels), check.draw_wanted(true),
          [&](const Implementation& how, float* to, uint8_t* to_bits) {
            irbin::transform(how, transform, x.data(), n_pixels, n_channels,
                             addresses(residuals).data(), to, to_bits, n_threads);
          });
  }
}

void check_planes(Check& check, Random& random, int64_t n_images, int64_t n_channels,
                  int64_t n_pixels, int n_threads) {
  const Floats x = random.numbers(n_images * n_channels * n_pixels);
  Floats turned;  // channels innermost
  for (int64_t image = 0; image < n_images; ++image)
    for (int64_t p = 0; p < n_pixels; ++p)
      for (int64_t c = 0; c < n_channels; ++c)
        turned.push_back(x[static_cast<size_t>((image * n_channels + c) * n_pixels + p)]);
  check("planes " + std::to_string(n_images) + " x " + std::to_string(n_channels) + " x " +
            std::to_string(n_pixels),
        {}, naive::pack(turned, n_channels), {false, true},
        [&](const Implementation& how, float*, uint8_t* to_bits) {
          irbin::pack_planes(how, x.data(), n_images, n_channels, n_pixels, to_bits, n_threads);
        });
}

void check_pool(Check& check, Random& random, const Axis& y, const Axis& x, int64_t n_channels,
                int64_t n_images, int n_threads) {
  const Floats from = random.numbers(n_images * y.size * x.size * n_channels);
  for (int recipe : {int{none}, int{before}, int{prelu}}) {
    const Steps first = draw_steps(random, recipe, n_channels);
    const Steps last =
        draw_steps(random, static_cast<int>(random.between(0, n_recipes - 1)), n_channels);
    Transform after = build(last, n_channels);
    const Floats pooled = naive::max_pool(y, x, n_channels, n_images,
                                          naive::apply(first, from, n_channels, {}));
    const std::vector<Floats> residuals = draw_residuals(random, after, pooled.size());
    const Floats result = naive::apply(last, pooled, n_channels, residuals);
    const MaxPool pool(y, x, n_channels, build(first, n_channels), std::move(after));
    check(describe({y, x, n_channels, n_channels, 1}, n_images, 0, n_threads) + " as a pooling",
          result, naive::pack(result, n_channels), check.draw_wanted(true),
          [&](const Implementation& how, float* to, uint8_t* to_bits) {
            pool.run(how, from.data(), n_images, addresses(residuals).data(), to, to_bits,
                     n_threads);
          });
  }
}

void check_values(Check& check, Random& random) {
  const int64_t n_channels = random.one_of({1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97});
  const int n_threads = static_cast<int>(random.between(1, 2));
  check_rows(check, random, random.between(0, 11), n_channels, n_threads);
  check_planes(check, random, random.between(0, 2), n_channels, random.between(0, 150), n_threads);
  Axis y = draw_axis(random, 7, false), x = draw_axis(random, 12, random.chance(30));
  check_pool(check, random, y, x, n_channels, random.between(0, 2), n_threads);
}

}  // namespace

int main(int n_arguments, char** arguments) {
  const int n_cases = n_arguments > 1 ? std::atoi(arguments[1]) : 600;
  std::vector<Score> all = scores();
  Random random(20200901);
  Check check(all, random);
  for (const Problem& problem : chosen_problems()) check_conv(check, random, problem);
  for (int i = 0; i < n_cases; ++i) check_conv(check, random, draw_problem(random));
  check_rows(check, random, 4000, 65, 2);  // enough floats for two threads
  check_planes(check, random, 2, 65, 2000, 2);
  check_pool(check, random, {50, 3, 2, 1, 1, 1}, {50, 3, 2, 1, 1, 1}, 65, 2, 2);
  for (int i = 0; i < n_cases; ++i) check_values(check, random);

  int64_t passed = 0, failed = 0;
  for (const Score& score : all) {
    std::printf("%-17s %lld passed, %lld failed\n", score.how->name,
                static_cast<long long>(score.passed), static_cast<long long>(score.failed));
    passed += score.passed, failed += score.failed;
  }
  std::printf("%lld passed, %lld failed\n", static_cast<long long>(passed),
              static_cast<long long>(failed));
  return failed == 0 && passed > 0 ? 0 : 1;
}
