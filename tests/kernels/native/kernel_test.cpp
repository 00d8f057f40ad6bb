// Every supported implementation against plain loops (naive.h), exactly. No Python and no library:
// this is what runs under sanitizers, in another processor's emulator and with AVX-512 made of AVX2
// (.ci/sanitize, .ci/neon, .ci/emulated).
//
// What kernels read lies in allocations of exactly its size, where AddressSanitizer sees one byte
// read too many; what they write holds other values before.
//
//     kernel_test [cases]    so many random cases of each kind, 1500 by default
#include <cstdlib>
#include <memory>
#include <utility>

#include "attention.h"
#include "check.h"
#include "lines.h"
#include "norms.h"
#include "plan.h"
#include "problems.h"
#include "recipes.h"
#include "values.h"
#include "walks.h"

namespace {

using namespace problems;
using namespace recipes;
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
using irbin::PackPlanes;
using irbin::Rows;
using irbin::Transform;
using naive::Bytes;
using naive::Floats;
using naive::Signs;
using naive::Steps;

// ---- convolution

// Of signs or floats.
auto maker(const Geometry& g, const uint8_t* weights) {
  return [g, weights](Transform transform) {
    return Conv(g, weights, std::move(transform), nullptr, nullptr);
  };
}

// `make` gives the convolution with a transform, `dots` are its sums.
template <class Make>
void check_steps(Check& check, Random& random, const Problem& problem, const Make& make,
                 const uint8_t* x, const Floats& dots) {
  const Geometry& g = problem.geometry;
  const std::string words = describe(g, problem.n_images, problem.shift, problem.n_threads);
  const bool can_pack = g.groups == 1 || g.out_channels / g.groups % 8 == 0;
  for (int recipe = 0; recipe < n_recipes; ++recipe) {
    const Steps steps = draw_steps(random, recipe, g.out_channels);
    Transform transform = build(steps, g.out_channels);
    const std::vector<Floats> residuals = draw_residuals(random, transform, dots.size(), g.out_channels);
    const Conv conv = make(std::move(transform));
    check(words + " recipe " + std::to_string(recipe),
          expect(steps, dots, g.out_channels, residuals, has_clamp(steps)),
          check.draw_wanted(can_pack), [&](const Implementation& how, float* to, uint8_t* to_bits) {
            conv.run(how, {x, problem.n_images, addresses(residuals).data(), to, to_bits,
                           problem.n_threads, problem.planes});
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
          conv.run(how, {x, problem.n_images, nullptr, to, to_bits, problem.n_threads});
        });
}

void check_signs(Check& check, Random& random, const Problem& problem) {
  const Geometry& g = problem.geometry;
  const int64_t per_group = g.in_channels / g.groups;
  Signs x = random.signs(problem.n_images * g.y.size * g.x.size * g.in_channels);
  Signs w = random.signs(g.out_channels * g.y.kernel * g.x.kernel * per_group);
  if (problem.opposite) {
    std::fill(x.begin(), x.end(), int8_t{-1});
    std::fill(w.begin(), w.end(), int8_t{1});
  }
  const Shifted bits(naive::pack(x, per_group), problem.shift);
  const Bytes weight_bits = naive::pack(w, per_group);
  const std::vector<int32_t> found = naive::dots(g, problem.n_images, x, w);
  const Floats dots(found.begin(), found.end());
  check_steps(check, random, problem, maker(g, weight_bits.data()), bits.data(), dots);
  check_thresholds(check, random, problem, weight_bits.data(), bits.data(), dots);
}

const uint8_t* as_bytes(const Floats& x) { return reinterpret_cast<const uint8_t*>(x.data()); }

// The same convolution of floats, few of them special or every sum would be NaN; of fewer channels,
// for std::fma is slow.
void check_floats(Check& check, Random& random, Problem problem) {
  Geometry& g = problem.geometry;
  g.numbers = irbin::Numbers::floats;
  g.in_channels = g.groups * naive::packed_bytes(g.in_channels / g.groups);
  const auto draw = [&](int64_t n) {
    Floats made = random.numbers(n);
    for (float& one : made)
      if (!(std::abs(one) <= 4) && !random.chance(1)) one = 0.75f;
    return made;
  };
  const Floats x = draw(problem.n_images * g.y.size * g.x.size * g.in_channels);
  const Floats w = draw(g.out_channels * g.y.kernel * g.x.kernel * (g.in_channels / g.groups));
  const Floats sums = naive::sums(g, problem.n_images, x, w);
  check_steps(check, random, problem, maker(g, as_bytes(w)), as_bytes(x), sums);
  problem.planes = true;
  const Floats planes = naive::planes(x, problem.n_images, g.in_channels);
  check_steps(check, random, problem, maker(g, as_bytes(w)), as_bytes(planes), sums);
}

// Floats with weights that are signs, from planes too.
void check_tables(Check& check, Random& random, Problem problem) {
  Geometry& g = problem.geometry;
  g.numbers = irbin::Numbers::tables;
  g.in_channels = random.one_of({1, 2, 3, 4, 5, 8, 12, 16, 20, 33});
  g.groups = g.x.dilation = 1;
  if (g.x.out_size() <= 0) return;
  Floats x = random.numbers(problem.n_images * g.y.size * g.x.size * g.in_channels);
  for (float& one : x)
    if (!(std::abs(one) <= 4) && !random.chance(1)) one = 0.75f;
  const Signs w = random.signs(g.out_channels * g.y.kernel * g.x.kernel * g.in_channels);
  const Bytes bits = naive::pack(w, g.in_channels);
  const Floats sums = naive::sums_of_signs(g, problem.n_images, x, w);
  check_steps(check, random, problem, maker(g, bits.data()), as_bytes(x), sums);
  problem.planes = true;
  const Floats planes = naive::planes(x, problem.n_images, g.in_channels);
  check_steps(check, random, problem, maker(g, bits.data()), as_bytes(planes), sums);
}

// Numbers of a convolution of bytes: no sum leaves int32, but sums on the way may.
struct ByteConv {
  std::vector<int16_t> weights;
  std::vector<int32_t> constants;

  ByteConv(Random& random, const Geometry& g, bool opposite) {
    const int64_t n_products = g.y.kernel * g.x.kernel * g.in_channels;
    const int64_t most = std::min<int64_t>(32767, INT32_MAX / (510 * n_products));
    for (int64_t i = 0; i < g.out_channels * n_products; ++i)
      weights.push_back(static_cast<int16_t>(opposite ? most : random.between(-most, most)));
    for (size_t i = 0; i < weights.size(); i += static_cast<size_t>(g.in_channels))
      constants.push_back(
          static_cast<int32_t>(random.between(-most, most) * (opposite ? 0 : 255) * g.in_channels));
  }
};

void check_bytes(Check& check, Random& random, Problem problem) {
  Geometry& g = problem.geometry;
  g.numbers = irbin::Numbers::bytes;
  g.in_channels = random.one_of({1, 2, 3, 3, 4, 5, 16});
  g.groups = 1;
  const ByteConv made(random, g, problem.opposite);
  Bytes x(static_cast<size_t>(problem.n_images * g.y.size * g.x.size * g.in_channels), 255);
  for (uint8_t& one : x)
    if (!problem.opposite) one = static_cast<uint8_t>(random.between(0, 255));
  check_steps(
      check, random, problem,
      [&](Transform transform) {
        return Conv(g, made.weights.data(), made.constants.data(), std::move(transform));
      },
      Shifted(x, problem.shift).data(),
      naive::byte_sums(g, problem.n_images, x, made.weights, made.constants));
}

void check_conv(Check& check, Random& random, const Problem& problem) {
  check_signs(check, random, problem);
  check_floats(check, random, problem);
  check_bytes(check, random, problem);
  check_tables(check, random, problem);
}

// ---- values: rows, planes, pooling

void check_rows(Check& check, Random& random, int64_t n_pixels, int64_t n_channels, int n_threads) {
  const Floats x = random.numbers(n_pixels * n_channels);
  for (int recipe = 0; recipe < n_recipes; ++recipe) {
    const Steps steps = draw_steps(random, recipe, n_channels);
    Transform transform = build(steps, n_channels);
    const std::vector<Floats> residuals = draw_residuals(random, transform, x.size(), n_channels);
    const Rows rows(n_channels, std::move(transform));
    check("rows " + std::to_string(n_pixels) + " x " + std::to_string(n_channels) + " recipe " +
              std::to_string(recipe),
          expect(steps, x, n_channels, residuals, has_clamp(steps)), check.draw_wanted(true),
          [&](const Implementation& how, float* to, uint8_t* to_bits) {
            rows.run(how,
                     {x.data(), n_pixels, addresses(residuals).data(), to, to_bits, n_threads});
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
  const PackPlanes planes(n_channels, n_pixels);
  check("planes " + std::to_string(n_images) + " x " + std::to_string(n_channels) + " x " +
            std::to_string(n_pixels),
        {{}, naive::pack(turned, n_channels), false}, {false, true},
        [&](const Implementation& how, float*, uint8_t* to_bits) {
          planes.run(how, {x.data(), n_images, nullptr, nullptr, to_bits, n_threads});
        });
}

// Two passes one after the other, as a plan whose places lie somewhere behind their bases.
void check_plan(Check& check, Random& random, int64_t n_pixels, int64_t n_channels, int n_threads) {
  const Floats x = random.numbers(n_pixels * n_channels);
  const Steps first = draw_steps(random, relu6, n_channels),
              last = draw_steps(random, rprelu, n_channels);
  const Floats added = random.numbers(n_pixels * n_channels);
  const auto one = std::make_shared<Rows>(n_channels, build(first, n_channels));
  const auto other = std::make_shared<Rows>(n_channels, build(last, n_channels));
  const Expected between = expect(first, x, n_channels, {added}, true);
  check("plan " + std::to_string(n_pixels) + " x " + std::to_string(n_channels),
        expect(last, between.y, n_channels, {added}, true), check.draw_wanted(true),
        [&](const Implementation& how, float* to, uint8_t* to_bits) {
          const int64_t shift = 64;
          std::vector<uint8_t> memory(static_cast<size_t>(shift) + x.size() * 4);
          const irbin::Place source{0, 0}, middle{1, shift}, sum{2, 0};
          const irbin::Place y{to == nullptr ? -1 : 3, 0}, bits{to_bits == nullptr ? -1 : 4, 0};
          const irbin::Plan plan({{one, n_pixels, source, middle, {}, {sum}},
                                  {other, n_pixels, middle, y, bits, {sum}}},
                                 5);
          const auto writable = [](const Floats& a) {
            return reinterpret_cast<uint8_t*>(const_cast<float*>(a.data()));
          };
          const std::vector<irbin::Base> bases{{writable(x), false},
                                               {memory.data(), false},
                                               {writable(added), false},
                                               {reinterpret_cast<uint8_t*>(to), false},
                                               {to_bits, false}};
          std::vector<double> seconds(2, -1);
          int64_t reached = 0;
          plan.run(how, bases, 0, 1, n_threads, seconds.data(), reached);
          plan.run(how, bases, 1, 2, n_threads, nullptr, reached);
          plan.run(how, bases, 0, 2, n_threads, seconds.data(), reached);
          if (reached != 2 || seconds[0] < 0 || seconds[1] < 0) std::abort();
        });
}

// A pass over pixels that threads take in parts of `n_each`, the last one with what is left, each with
// memory of its own.
void check_parts(Check& check, Random& random, int64_t n_pixels, int64_t n_each, int64_t n_channels,
                 int n_threads) {
  const Floats x = random.numbers(n_pixels * n_channels);
  const Steps steps = draw_steps(random, affine, n_channels);
  const auto rows = std::make_shared<Rows>(n_channels, build(steps, n_channels));
  const int64_t bits_stride = (n_channels + 7) / 8, n_full = n_pixels / n_each;
  check("parts " + std::to_string(n_pixels) + " by " + std::to_string(n_each),
        expect(steps, x, n_channels, {}, true), {true, true},
        [&](const Implementation& how, float* to, uint8_t* to_bits) {
          std::vector<irbin::Plan> plans;
          std::vector<std::vector<uint8_t>> memory;
          std::vector<std::vector<irbin::Made>> made;
          std::vector<irbin::Seat> seats;
          for (const int64_t n : {n_each, n_pixels % n_each}) {
            const int64_t n_floats = n * n_channels * 4, n_bits = n * bits_stride;
            plans.push_back(irbin::Plan({{rows, n, {1, 0}, {0, 0}, {0, n_floats}, {}}}, 2));
            made.push_back({{0, n_floats}, {n_floats, n_bits}});
            for (int i = 0; i < n_threads; ++i)
              memory.emplace_back(static_cast<size_t>(n_floats + n_bits));
          }
          for (size_t i = 0; i < memory.size(); ++i) {
            const auto kind = i / static_cast<size_t>(n_threads);
            seats.push_back({static_cast<int>(kind), &plans[kind], memory[i].data()});
          }
          std::vector<irbin::Part> parts;
          for (int64_t first = 0; first < n_pixels; first += n_each) {
            auto* from = const_cast<float*>(x.data() + first * n_channels);
            parts.push_back({first / n_each == n_full ? 1 : 0,
                             {{nullptr, false}, {reinterpret_cast<uint8_t*>(from), false}},
                             {reinterpret_cast<uint8_t*>(to + first * n_channels),
                              to_bits + first * bits_stride}});
          }
          int64_t failed = -1;
          irbin::run_parts(how, seats, parts, made, n_threads, failed);
          if (failed != -1) std::abort();
        });
}

// What pooling `from`, after the steps `first`, must give, with any steps after it.
struct Pooling {
  Axis y, x;
  int64_t n_channels, n_images;
  int n_threads;

  template <class Run>  // run(pool, implementation, residuals, y or null, bits or null)
  void check(Check& check, Random& random, const std::string& what, const Floats& from,
             const Steps& first, const Conv* producer, const Run& run) const {
    const Steps last =
        draw_steps(random, static_cast<int>(random.between(0, n_recipes - 1)), n_channels);
    Transform after = build(last, n_channels);
    const Floats pooled =
        naive::max_pool(y, x, n_channels, n_images, naive::apply(first, from, n_channels, {}));
    const std::vector<Floats> residuals = draw_residuals(random, after, pooled.size(), n_channels);
    Transform before = producer == nullptr ? build(first, n_channels) : Transform();
    const MaxPool pool(y, x, n_channels, std::move(before), std::move(after), producer);
    check(describe({y, x, n_channels, n_channels, 1}, n_images, 0, n_threads) + what,
          expect(last, pooled, n_channels, residuals, true), check.draw_wanted(true),
          [&](const Implementation& how, float* to, uint8_t* to_bits) {
            run(pool, how, addresses(residuals).data(), to, to_bits);
          });
  }
};

void check_pool(Check& check, Random& random, const Pooling& pooling) {
  const int64_t n = pooling.n_channels;
  const Floats x = random.numbers(pooling.n_images * pooling.y.size * pooling.x.size * n);
  for (int recipe : {int{none}, int{before}, int{prelu}})
    pooling.check(check, random, " pooled", x, draw_steps(random, recipe, n), nullptr,
                  [&](const MaxPool& pool, const Implementation& how, const float* const* residuals,
                      float* y, uint8_t* y_bits) {
                    pool.run(how,
                             {x.data(), pooling.n_images, residuals, y, y_bits, pooling.n_threads});
                  });
}

// A pooling that computes what it pools, of floats from planes and of signs.
void check_producer(Check& check, Random& random, Geometry g, Pooling pooling) {
  pooling.y.size = g.y.out_size();
  pooling.x.size = g.x.out_size();
  pooling.n_channels = g.out_channels;
  const int64_t n_images = pooling.n_images, per_group = g.in_channels / g.groups;
  const int64_t n_in = n_images * g.y.size * g.x.size * g.in_channels;
  const int64_t n_weights = g.out_channels * g.y.kernel * g.x.kernel * per_group;
  const auto check_one = [&](const auto& make, const uint8_t* x, const Floats& made, bool planes) {
    const Steps first =
        draw_steps(random, random.one_of({none, affine, before, prelu}), g.out_channels);
    const Conv producer = make(build(first, g.out_channels));
    pooling.check(check, random, " pooled from its producer", made, first, &producer,
                  [&](const MaxPool& pool, const Implementation& how, const float* const* residuals,
                      float* y, uint8_t* y_bits) {
                    pool.run(how, {x, n_images, residuals, y, y_bits, pooling.n_threads, planes});
                  });
  };
  const Signs signs = random.signs(n_in), sign_weights = random.signs(n_weights);
  const std::vector<int32_t> dots = naive::dots(g, n_images, signs, sign_weights);
  const Bytes bits = naive::pack(signs, per_group);
  const Bytes weight_bits = naive::pack(sign_weights, per_group);
  check_one(maker(g, weight_bits.data()), bits.data(), Floats(dots.begin(), dots.end()), false);
  g.numbers = irbin::Numbers::floats;
  const Floats x = random.numbers(n_in), w = random.numbers(n_weights);
  const Floats sums = naive::sums(g, n_images, x, w);
  check_one(maker(g, as_bytes(w)), as_bytes(x), sums, false);
  check_one(maker(g, as_bytes(w)), as_bytes(naive::planes(x, n_images, g.in_channels)), sums, true);
  if (g.groups > 1) return;
  g.numbers = irbin::Numbers::bytes;
  const ByteConv bytes(random, g, false);
  Bytes image(static_cast<size_t>(n_in));
  for (uint8_t& one : image) one = static_cast<uint8_t>(random.between(0, 255));
  check_one(
      [&](Transform transform) {
        return Conv(g, bytes.weights.data(), bytes.constants.data(), std::move(transform));
      },
      image.data(), naive::byte_sums(g, n_images, image, bytes.weights, bytes.constants), false);
}

// Whether a window of `axis` fits what `producer` makes.
bool fits(const Axis& axis, const Axis& producer) {
  return (axis.kernel - 1) * axis.dilation + 1 <= producer.out_size() + axis.before + axis.after;
}

void check_values(Check& check, Random& random) {
  const int64_t n_channels = random.one_of({1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97});
  const int n_threads = static_cast<int>(random.between(1, 4));
  check_rows(check, random, random.between(0, 11), n_channels, n_threads);
  check_plan(check, random, random.between(0, 11), n_channels, n_threads);
  check_parts(check, random, random.between(0, 40), random.between(1, 9), n_channels, n_threads);
  const int64_t n_images = random.between(0, 2);
  check_planes(check, random, n_images, n_channels, random.between(0, 150), n_threads);
  const Pooling pooling{draw_axis(random, 7, false), draw_axis(random, 12, random.chance(30)),
                        n_channels, n_images, n_threads};
  check_pool(check, random, pooling);
  Geometry g{draw_axis(random, 12, false), draw_axis(random, 12, random.chance(30)), 0, 0, 1};
  if (random.chance(10)) g.x.size += 60;  // rows of several strips
  g.groups = random.between(1, 2);
  g.in_channels = g.groups * random.one_of({1, 3, 8, 32});
  g.out_channels = g.groups * random.one_of({1, 8, 15, 16, 32, 33});
  if (fits(pooling.y, g.y) && fits(pooling.x, g.x)) check_producer(check, random, g, pooling);
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
  const Axis fifty{50, 3, 2, 1, 1, 1};
  check_pool(check, random, {fifty, fifty, 65, 2, 2});
  check_producer(check, random, {{40, 3, 1, 1, 1, 1}, {70, 3, 1, 1, 1, 1}, 3, 16, 1},
                 {fifty, fifty, 0, 2, 2});
  for (int i = 0; i < n_cases; ++i) check_values(check, random);
  for (int i = 0; i < n_cases; ++i) {
    line_checks::check_lines(check, random);
    norm_checks::check_norms(check, random);
    attention_checks::check_attention(check, random);
    walk_checks::check_walks(check, random);
  }

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
