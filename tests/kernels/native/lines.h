// Layers that make an image row by row, against plain loops.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../../irbin/kernels/csrc/lines.h"
#include "check.h"
#include "naive.h"
#include "problems.h"
#include "recipes.h"

namespace line_checks {

using check::Check;
using draw::Random;
using irbin::Implementation;
using naive::Floats;

using Make = std::function<std::unique_ptr<irbin::Operator>(irbin::Transform)>;

// `plain` is what the layer gives before its steps; `further` what it reads behind the residuals.
inline void check_line(Check& check, Random& random, const std::string& what, const Make& make,
                       const Floats& x, int64_t n_images, const std::vector<Floats>& further,
                       const Floats& plain, int64_t n_channels) {
  const int recipe = static_cast<int>(random.between(0, recipes::n_recipes - 1));
  const naive::Steps steps = recipes::draw_steps(random, recipe, n_channels);
  irbin::Transform transform = recipes::build(steps, n_channels);
  std::vector<Floats> others = recipes::draw_residuals(random, transform, plain.size(), n_channels);
  const check::Expected expected =
      recipes::expect(steps, plain, n_channels, others, recipes::has_clamp(steps));
  const auto one = make(std::move(transform));
  others.insert(others.end(), further.begin(), further.end());
  const int n_threads = static_cast<int>(random.between(1, 2));
  check(what + " recipe " + std::to_string(recipe), expected, check.draw_wanted(true),
        [&](const Implementation& how, float* to, uint8_t* to_bits) {
          one->run(how,
                   {x.data(), n_images, recipes::addresses(others).data(), to, to_bits, n_threads});
        });
}

struct Size {
  int64_t n, height, width, channels;
  int64_t count() const { return n * height * width * channels; }
  size_t at(int64_t i, int64_t y, int64_t x, int64_t c) const {
    return static_cast<size_t>(((i * height + y) * width + x) * channels + c);
  }
};

inline std::vector<irbin::Span> draw_spans(Random& random, int64_t size) {
  std::vector<irbin::Span> spans;
  for (int64_t i = random.between(1, 4); i > 0; --i) {
    const int64_t begin = random.between(0, size), end = random.between(begin, size);
    spans.push_back({begin, end, random.between(1, 9)});
  }
  return spans;
}

inline void check_average(Check& check, Random& random, const Size& s) {
  const Floats x = random.numbers(s.count());
  const auto rows = draw_spans(random, s.height), columns = draw_spans(random, s.width);
  Floats plain;
  for (int64_t i = 0; i < s.n; ++i)
    for (const auto& row : rows)
      for (const auto& column : columns)
        for (int64_t c = 0; c < s.channels; ++c) {
          float sum = 0;
          for (int64_t y = row.begin; y < row.end; ++y)
            for (int64_t k = column.begin; k < column.end; ++k) sum += x[s.at(i, y, k, c)];
          plain.push_back(sum / static_cast<float>(row.count * column.count));
        }
  const Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::Average>(s.height, s.width, s.channels, rows, columns,
                                            std::move(after));
  };
  check_line(check, random, "average", make, x, s.n, {}, plain, s.channels);
}

inline void check_depthwise(Check& check, Random& random, const Size& s, irbin::Axis y,
                            irbin::Axis x) {
  const irbin::Geometry g{y, x, s.channels, s.channels, s.channels, irbin::Numbers::floats};
  const Floats image = random.numbers(s.n * y.size * x.size * s.channels);
  const int64_t n_taps = y.kernel * x.kernel;
  const Floats weights = random.numbers(s.channels * n_taps);
  Floats turned(weights.size());
  for (int64_t c = 0; c < s.channels; ++c)
    for (int64_t t = 0; t < n_taps; ++t)
      turned[static_cast<size_t>(t * s.channels + c)] =
          weights[static_cast<size_t>(c * n_taps + t)];
  const Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::Depthwise>(y, x, s.channels, turned.data(), std::move(after));
  };
  check_line(check, random, "depthwise", make, image, s.n, {}, naive::sums(g, s.n, image, weights),
             s.channels);
}

inline irbin::BoxAxis draw_box(Random& random, int64_t size) {
  const int64_t start = random.between(0, size - 1), step = random.between(1, 3);
  const int64_t count = random.between(1, (size - 1 - start) / step + 1);
  const int64_t before = random.between(0, 2);
  return {size, before, count, start, step, before + count + random.between(0, 2)};
}

inline int64_t place(const irbin::BoxAxis& axis, int64_t i) {  // or −1 for none
  const int64_t at = i - axis.before;
  return at < 0 || at >= axis.count ? -1 : axis.start + at * axis.step;
}

inline void check_crop(Check& check, Random& random, const Size& s) {
  const Floats x = random.numbers(s.count());
  const auto y = draw_box(random, s.height), across = draw_box(random, s.width);
  const irbin::BoxAxis whole{s.channels, 0, s.channels, 0, 1, s.channels};
  const auto channels = random.chance(50) ? whole : draw_box(random, s.channels);
  const float value = random.chance(50) ? 0.0f : -1.5f;
  Floats plain;
  for (int64_t i = 0; i < s.n; ++i)
    for (int64_t r = 0; r < y.size; ++r)
      for (int64_t k = 0; k < across.size; ++k)
        for (int64_t c = 0; c < channels.size; ++c) {
          const int64_t at[] = {place(y, r), place(across, k), place(channels, c)};
          const bool is_inside = at[0] >= 0 && at[1] >= 0 && at[2] >= 0;
          plain.push_back(is_inside ? x[s.at(i, at[0], at[1], at[2])] : value);
        }
  const Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::Crop>(y, across, channels, value, std::move(after));
  };
  check_line(check, random, "crop", make, x, s.n, {}, plain, channels.size);
}

inline void check_join(Check& check, Random& random, const Size& s) {
  std::vector<int64_t> channels{s.channels};
  std::vector<Floats> parts{random.numbers(s.count())};
  for (int64_t i = random.between(0, 2); i > 0; --i) {
    channels.push_back(random.between(1, 20));
    parts.push_back(random.numbers(s.n * s.height * s.width * channels.back()));
  }
  Floats plain;
  for (int64_t p = 0; p < s.n * s.height * s.width; ++p)
    for (size_t i = 0; i < parts.size(); ++i)
      for (int64_t c = 0; c < channels[i]; ++c)
        plain.push_back(parts[i][static_cast<size_t>(p * channels[i] + c)]);
  int64_t total = 0;
  for (const int64_t n : channels) total += n;
  const Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::Join>(s.height, s.width, channels, std::move(after));
  };
  check_line(check, random, "join", make, parts[0], s.n, {parts.begin() + 1, parts.end()}, plain,
             total);
}

inline void check_gate(Check& check, Random& random, const Size& s) {
  const Floats x = random.numbers(s.count()), pixels = random.numbers(s.n * s.channels);
  const auto meeting = static_cast<irbin::Meeting>(random.between(0, 2));
  Floats plain;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto image = static_cast<int64_t>(i) / (s.height * s.width * s.channels);
    const float with =
        pixels[static_cast<size_t>(image * s.channels + static_cast<int64_t>(i) % s.channels)];
    plain.push_back(meeting == irbin::Meeting::multiply ? x[i] * with
                    : meeting == irbin::Meeting::add    ? x[i] + with
                                                        : x[i] - with);
  }
  const Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::Gate>(s.height, s.width, s.channels, meeting, std::move(after));
  };
  check_line(check, random, "gate", make, x, s.n, {pixels}, plain, s.channels);
}

inline void check_channel_mean(Check& check, Random& random, const Size& s) {
  const int64_t count = random.between(1, 9);
  const Floats x = random.numbers(s.count() * count);
  Floats plain;
  for (size_t i = 0; i < x.size(); i += static_cast<size_t>(count)) {
    float total = 0;
    for (int64_t k = 0; k < count; ++k) total += x[i + static_cast<size_t>(k)];
    plain.push_back(total / static_cast<float>(count));
  }
  const Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::ChannelMean>(s.height, s.width, s.channels, count,
                                                std::move(after));
  };
  check_line(check, random, "channel mean", make, x, s.n, {}, plain, s.channels);
}

inline std::vector<irbin::Between> draw_between(Random& random, int64_t size) {
  std::vector<irbin::Between> places;
  for (int64_t i = random.between(1, 6); i > 0; --i)
    places.push_back({random.between(0, size - 1), random.between(0, size - 1), random.number(),
                      random.number()});
  return places;
}

inline void check_resize(Check& check, Random& random, const Size& s) {
  const Floats x = random.numbers(s.count());
  const auto rows = draw_between(random, s.height), columns = draw_between(random, s.width);
  Floats plain;
  for (int64_t i = 0; i < s.n; ++i)
    for (const auto& row : rows)
      for (const auto& column : columns)
        for (int64_t c = 0; c < s.channels; ++c) {
          const auto along = [&](int64_t y) {
            return column.first_weight * x[s.at(i, y, column.first, c)] +
                   column.second_weight * x[s.at(i, y, column.second, c)];
          };
          plain.push_back(row.first_weight * along(row.first) +
                          row.second_weight * along(row.second));
        }
  const Make make = [&](irbin::Transform after) {
    return std::make_unique<irbin::Resize>(s.height, s.width, s.channels, rows, columns,
                                           std::move(after));
  };
  check_line(check, random, "resize", make, x, s.n, {}, plain, s.channels);
}

inline void check_lines(Check& check, Random& random) {
  const Size s{random.between(0, 2), random.between(1, 7), random.between(1, 9),
               random.one_of({1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 97, 130})};
  check_average(check, random, s);
  irbin::Axis across = problems::draw_axis(random, 12, random.chance(30));
  if (random.chance(20)) across.size += 60 * across.stride;  // rows that are read where they are
  check_depthwise(check, random, s, problems::draw_axis(random, 7, false), across);
  check_resize(check, random, s);
  check_crop(check, random, s);
  check_join(check, random, s);
  check_gate(check, random, s);
  check_channel_mean(check, random, s);
}

}  // namespace line_checks
