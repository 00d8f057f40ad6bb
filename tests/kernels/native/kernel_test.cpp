// Every supported implementation against plain loops (naive.h), exactly. No Python and no library:
// this is what runs under sanitizers and in another processor's emulator (.ci/sanitize, .ci/neon).
//
// What kernels read lies in allocations of exactly its size, where AddressSanitizer sees one byte
// read too many; what they write holds other values before.
//
//     kernel_test [cases]    so many random cases of each kind, 1500 by default
#include <cstdlib>
#include <utility>

#include "check.h"
#include "values.h"

namespace {

using check::Check;
using check::Expected;
using check::Score;
using draw::Random;
using draw::Shifted;
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

Expected expect(Floats y, int64_t n_channels, bool zeros_alike) {
  Bytes bits = naive::pack(y, n_channels);
  return {std::move(y), std::move(bits), zeros_alike};
}

bool has_clamp(const Steps& steps) {
  return std::any_of(steps.begin(), steps.end(),
                     [](const naive::Step& s) { return s.kind == StepKind::clamp; });
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
  std::string words = g.floats ? "conv of floats" : "conv of signs";
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

void check_steps(Check& check, Random& random, const Problem& problem, const uint8_t* weights,
                 const uint8_t* x, const Floats& dots) {
  const Geometry& g = problem.geometry;
  const std::string words = describe(g, problem.n_images, problem.shift, problem.n_threads);
  const bool can_pack = g.groups == 1 || g.out_channels / g.groups % 8 == 0;
  for (int recipe = 0; recipe < n_recipes; ++recipe) {
    const Steps steps = draw_steps(random, recipe, g.out_channels);
    Transform transform = build(steps, g.out_channels);
    const std::vector<Floats> residuals = draw_residuals(random, transform, dots.size());
    Floats y = naive::apply(steps, dots, g.out_channels, residuals);
    const Conv conv(g, weights, std::move(transform), nullptr, nullptr);
    check(words + " recipe " + std::to_string(recipe),
          expect(std::move(y), g.out_channels, has_clamp(steps)), check.draw_wanted(can_pack),
          [&](const Implementation& how, float* to, uint8_t* to_bits) {
            conv.run(how, x, problem.n_images, addresses(residuals).data(), to, to_bits,
                     problem.n_threads);
          });
  }
}

void check_thresholds(Check& check, Random& random, const Problem& problem, const uint8_t* weights,
                      const uint8_t* x, const Floats& dots) {
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
  const Conv conv(g, weights, Transform(), lower.data(), flips.data());
  check(describe(g, problem.n_images, problem.shift, problem.n_threads) + " thresholds",
        {{}, naive::pack(signs, g.out_channels), false}, {false, true},
        [&](const Implementation& how, float* to, uint8_t* to_bits) {
          conv.run(how, x, problem.n_images, nullptr, to, to_bits, problem.n_threads);
        });
}

void check_signs(Check& check, Random& random, const Problem& problem) {
  const Geometry& g = problem.geometry;
  const int64_t per_group = g.in_channels / g.groups;
  const Signs x = random.signs(problem.n_images * g.y.size * g.x.size * g.in_channels);
  const Signs w = random.signs(g.out_channels * g.y.kernel * g.x.kernel * per_group);
  const Shifted bits(naive::pack(x, per_group), problem.shift);
  const Bytes weight_bits = naive::pack(w, per_group);
  const std::vector<int32_t> found = naive::dots(g, problem.n_images, x, w);
  const Floats dots(found.begin(), found.end());
  check_steps(check, random, problem, weight_bits.data(), bits.data(), dots);
  check_thresholds(check, random, problem, weight_bits.data(), bits.data(), dots);
}

// The same convolution of floats, few of them special or every sum would be NaN; of fewer channels,
// for std::fma is slow.
void check_floats(Check& check, Random& random, Problem problem) {
  Geometry& g = problem.geometry;
  g.floats = true;
  g.in_channels = g.groups * naive::packed_bytes(g.in_channels / g.groups);
  const auto draw = [&](int64_t n) {
    Floats made = random.numbers(n);
    for (float& one : made)
      if (!(std::abs(one) <= 4) && !random.chance(1)) one = 0.75f;
    return made;
  };
  const Floats x = draw(problem.n_images * g.y.size * g.x.size * g.in_channels);
  const Floats w = draw(g.out_channels * g.y.kernel * g.x.kernel * (g.in_channels / g.groups));
  check_steps(check, random, problem, reinterpret_cast<const uint8_t*>(w.data()),
              reinterpret_cast<const uint8_t*>(x.data()),
              naive::sums(g, problem.n_images, x, w));
}

void check_conv(Check& check, Random& random, const Problem& problem) {
  check_signs(check, random, problem);
  check_floats(check, random, problem);
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
      {{one, {62, 1, 1, 1, 0, 3}, 4096, 16, 1}, 1, 0, 1},  // a piece that starts in the border
      {{one, {62, 1, 1, 1, 0, 3}, 1100, 3, 1}, 1, 0, 1},   // … gathered
      {{one, {1, 1, 1, 1, 150, 150}, 1100, 3, 1}, 1, 0, 1},  // pieces of border alone
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
    Floats y = naive::apply(steps, x, n_channels, residuals);
    check("rows " + std::to_string(n_pixels) + " x " + std::to_string(n_channels) + " recipe " +
              std::to_string(recipe),
          expect(std::move(y), n_channels, has_clamp(steps)), check.draw_wanted(true),
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
        {{}, naive::pack(turned, n_channels), false}, {false, true},
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
    Floats result = naive::apply(last, pooled, n_channels, residuals);
    const MaxPool pool(y, x, n_channels, build(first, n_channels), std::move(after));
    check(describe({y, x, n_channels, n_channels, 1}, n_images, 0, n_threads) + " as a pooling",
          expect(std::move(result), n_channels, true), check.draw_wanted(true),
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
  const int n_cases = n_arguments > 1 ? std::atoi(arguments[1]) : 1500;
  std::vector<Score> all = check::scores();
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
