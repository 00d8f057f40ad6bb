// The one file that knows Python. Addresses are checked by the Python files of `irbin/kernels`, which
// alone call this; here the global interpreter lock is let go and sizes are passed on.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "attention.h"
#include "conv.h"
#include "implementations.h"
#include "lines.h"
#include "norms.h"
#include "operator.h"
#include "plan.h"
#include "values.h"
#include "walk.h"

namespace nb = nanobind;
using namespace irbin;

namespace {

template <class T, int Rank>
using Array = nb::ndarray<const T, nb::ndim<Rank>, nb::c_contig, nb::device::cpu>;
using Vector = std::optional<Array<float, 1>>;
// (kind, residual, low, high, values, before, channels)
using StepTuple = std::tuple<int, int, float, float, Vector, int, int>;
// (size, kernel, stride, dilation, before, after)
using AxisTuple = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;
// (size, offset, head, row)
using LookTuple = std::tuple<int64_t, int64_t, int64_t, int64_t>;
// (source, offset, strides)
using WayTuple = std::tuple<int, int64_t, std::vector<int64_t>>;
// (kind, sizes, to, first, second, count, step, to_step)
using LegTuple =
    std::tuple<int, std::vector<int64_t>, WayTuple, WayTuple, WayTuple, int64_t, int64_t, int64_t>;
using Addresses = std::vector<uintptr_t>;
// (base, offset), or (−1, 0) for nothing
using PlaceTuple = std::tuple<int32_t, int64_t>;
// (operator, n, x, others, y, y_bits)
using CallTuple = std::tuple<std::shared_ptr<Operator>, int64_t, PlaceTuple,
                             std::vector<PlaceTuple>, PlaceTuple, PlaceTuple>;

#if defined(__clang__)
constexpr const char* kCompiler = "Clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "GCC " __VERSION__;
#else
constexpr const char* kCompiler = "an unknown compiler";
#endif

struct Active {
  std::atomic<const Implementation*> one{nullptr};
  std::array<std::atomic<uint64_t>, 8> n_calls{};  // in the order of implementations()
} active;

const Implementation& use_active(uint64_t n_calls = 1) {
  const Implementation* one = active.one.load(std::memory_order_relaxed);
  if (one == nullptr) throw std::logic_error("no implementation is active");
  const auto& all = implementations();
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i] == one) active.n_calls[i].fetch_add(n_calls, std::memory_order_relaxed);
  return *one;
}

const Implementation& find(const std::string& name) {
  for (const Implementation* one : implementations())
    if (name == one->name) return *one;
  throw std::invalid_argument("no implementation is called " + name);
}

void activate(const std::string& name) {
  const Implementation& one = find(name);
  if (!is_supported(one)) throw std::invalid_argument(name + " is not supported here");
  active.one.store(&one, std::memory_order_relaxed);
}

std::vector<std::string> needs(const Implementation& one) {
  std::vector<std::string> names;
  for (const FeatureName& known : kFeatureNames)
    if (one.needs & known.feature) names.emplace_back(known.name);
  return names;
}

nb::list list_implementations() {
  nb::list rows;
  for (const Implementation* one : implementations())
    rows.append(nb::make_tuple(one->name, one->description, needs(*one), is_supported(*one)));
  return rows;
}

nb::dict count_calls() {
  nb::dict found;
  for (size_t i = 0; i < implementations().size(); ++i)
    found[implementations()[i]->name] = active.n_calls[i].load();
  return found;
}

int64_t register_loop(const std::string& name, int64_t n_rounds, bool floats) {
  const Implementation& one = find(name);
  if (!is_supported(one)) throw std::invalid_argument(name + " is not supported here");
  nb::gil_scoped_release release;
  return floats ? one.float_register_loop(n_rounds) : one.register_loop(n_rounds);
}

constexpr int64_t kMaxSize = INT32_MAX;  // the bounds proper are `irbin/bounds.py`

void need(bool fits, const char* what) {
  if (!fits) throw std::invalid_argument(what);
}

Transform make_transform(const std::vector<StepTuple>& steps, int64_t n_channels) {
  need(n_channels >= 0 && n_channels <= kMaxSize, "expected channels");
  Transform made;
  bool holds = false;
  int widths[kMaxResiduals] = {-1, -1, -1, -1};
  for (const auto& [kind, residual, low, high, values, before, channels] : steps) {
    need(kind >= 0 && kind <= static_cast<int>(StepKind::keep), "no such step");
    holds |= static_cast<StepKind>(kind) == StepKind::hold;
    need(holds || static_cast<StepKind>(kind) != StepKind::keep, "nothing is held to keep");
    need(!has_values(static_cast<StepKind>(kind)) || values.has_value(), "a step lacks its values");
    if (values && static_cast<int64_t>(values->shape(0)) != n_channels)
      throw std::invalid_argument("a step has another number of channels");
    if (residual < 0 || residual >= kMaxResiduals)
      throw std::invalid_argument("too many residuals");
    need(before >= 0 && channels >= 0 && int64_t{before} + channels <= n_channels,
         "a residual reaches beyond the channels");
    if (static_cast<StepKind>(kind) == StepKind::residual) {
      need(widths[residual] < 0 || widths[residual] == channels,
           "a residual has two numbers of channels");
      widths[residual] = channels;
    }
    made.append(static_cast<StepKind>(kind), residual, low, high, values ? values->data() : nullptr,
                n_channels, before, channels);
  }
  return made;
}

Axis make_axis(const AxisTuple& a) {
  const Axis axis{std::get<0>(a), std::get<1>(a), std::get<2>(a),
                  std::get<3>(a), std::get<4>(a), std::get<5>(a)};
  for (const int64_t n : {axis.size, axis.kernel, axis.stride, axis.dilation})
    need(n > 0 && n <= kMaxSize, "expected sizes of at least 1");
  for (const int64_t n : {axis.before, axis.after})
    need(n >= 0 && n <= kMaxSize, "expected borders of at least 0");
  need((axis.kernel - 1) * axis.dilation < axis.padded(), "expected a window that fits its image");
  return axis;
}

std::unique_ptr<Conv> make_conv(
    const AxisTuple& y, const AxisTuple& x, int64_t in_channels, int64_t out_channels,
    int64_t groups, bool floats, bool bfloats, const Array<uint8_t, 4>& weights,
    const std::vector<StepTuple>& steps,
    const std::optional<std::tuple<Array<int32_t, 1>, Array<uint8_t, 1>>>& thresholds) {
  for (const int64_t n : {in_channels, out_channels, groups})
    need(n > 0 && n <= kMaxSize, "expected channels and groups of at least 1");
  need(in_channels % groups == 0 && out_channels % groups == 0,
       "groups do not divide the channels");
  const Numbers numbers = !floats ? Numbers::signs : bfloats ? Numbers::bfloats : Numbers::floats;
  const Geometry geometry{make_axis(y), make_axis(x), in_channels, out_channels, groups, numbers};
  if (static_cast<int64_t>(weights.size()) !=
      out_channels * geometry.y.kernel * geometry.x.kernel * geometry.group_bytes())
    throw std::invalid_argument("the weight has another size");
  const int32_t* lower = nullptr;
  const uint8_t* flips = nullptr;
  if (thresholds) {
    const auto& [bounds, signs] = *thresholds;
    if (static_cast<int64_t>(bounds.size()) != out_channels ||
        static_cast<int64_t>(signs.size()) != (out_channels + 7) / 8)
      throw std::invalid_argument("thresholds have another size");
    lower = bounds.data();
    flips = signs.data();
  }
  return std::make_unique<Conv>(geometry, weights.data(), make_transform(steps, out_channels),
                                lower, flips);
}

std::unique_ptr<Conv> make_sign_conv(const AxisTuple& y, const AxisTuple& x, int64_t in_channels,
                                     const Array<uint8_t, 4>& weights,
                                     const std::vector<StepTuple>& steps) {
  const auto n_out = static_cast<int64_t>(weights.shape(0));
  for (const int64_t n : {in_channels, n_out}) need(n > 0 && n <= kMaxSize, "expected channels");
  const Geometry geometry{make_axis(y), make_axis(x), in_channels, n_out, 1, Numbers::tables};
  need(geometry.x.dilation == 1, "expected taps that are neighbors");
  need(static_cast<int64_t>(weights.shape(1)) == geometry.y.kernel &&
           static_cast<int64_t>(weights.shape(2)) == geometry.x.kernel &&
           static_cast<int64_t>(weights.shape(3)) == (in_channels + 7) / 8,
       "the weight has another size");
  return std::make_unique<Conv>(geometry, weights.data(), make_transform(steps, n_out), nullptr,
                                nullptr);
}

std::unique_ptr<Conv> make_byte_conv(const AxisTuple& y, const AxisTuple& x,
                                     const Array<int16_t, 4>& weights,
                                     const Array<int32_t, 3>& constants,
                                     const std::vector<StepTuple>& steps) {
  const auto n_out = static_cast<int64_t>(weights.shape(0));
  const auto n_in = static_cast<int64_t>(weights.shape(3));
  for (const int64_t n : {n_in, n_out}) need(n > 0 && n <= kMaxSize, "expected channels");
  const Geometry geometry{make_axis(y), make_axis(x), n_in, n_out, 1, Numbers::bytes};
  const int64_t n_taps = n_out * geometry.y.kernel * geometry.x.kernel;
  need(static_cast<int64_t>(weights.size()) == n_taps * n_in &&
           static_cast<int64_t>(weights.shape(1)) == geometry.y.kernel,
       "the weight has another size");
  need(static_cast<int64_t>(constants.size()) == n_taps, "the constants have another size");
  return std::make_unique<Conv>(geometry, weights.data(), constants.data(),
                                make_transform(steps, n_out));
}

std::unique_ptr<MaxPool> make_pool(const AxisTuple& y, const AxisTuple& x, int64_t n_channels,
                                   const std::vector<StepTuple>& before,
                                   const std::vector<StepTuple>& after, const Conv* producer) {
  return std::make_unique<MaxPool>(make_axis(y), make_axis(x), n_channels,
                                   make_transform(before, n_channels),
                                   make_transform(after, n_channels), producer);
}

std::unique_ptr<Rows> make_rows(int64_t n_channels, const std::vector<StepTuple>& steps) {
  return std::make_unique<Rows>(n_channels, make_transform(steps, n_channels));
}

// (begin, end, count)
using SpanTuple = std::tuple<int64_t, int64_t, int64_t>;
// (from, before, count, start, step, size)
using BoxTuple = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;

std::vector<Span> make_spans(const std::vector<SpanTuple>& given, int64_t size) {
  std::vector<Span> spans;
  for (const auto& [begin, end, count] : given) {
    need(begin >= 0 && begin <= end && end <= size, "expected windows inside the image");
    spans.push_back({begin, end, count});
  }
  return spans;
}

std::unique_ptr<Average> make_average(int64_t height, int64_t width, int64_t n_channels,
                                      const std::vector<SpanTuple>& rows,
                                      const std::vector<SpanTuple>& columns,
                                      const std::vector<StepTuple>& after) {
  return std::make_unique<Average>(height, width, n_channels, make_spans(rows, height),
                                   make_spans(columns, width), make_transform(after, n_channels));
}

// (first, second, first_weight, second_weight)
using BetweenTuple = std::tuple<int64_t, int64_t, float, float>;

std::vector<Between> make_between(const std::vector<BetweenTuple>& given, int64_t size) {
  std::vector<Between> places;
  for (const auto& [first, second, first_weight, second_weight] : given) {
    need(first >= 0 && first < size && second >= 0 && second < size, "expected places inside");
    places.push_back({first, second, first_weight, second_weight});
  }
  return places;
}

std::unique_ptr<Resize> make_resize(int64_t height, int64_t width, int64_t n_channels,
                                    const std::vector<BetweenTuple>& rows,
                                    const std::vector<BetweenTuple>& columns,
                                    const std::vector<StepTuple>& after) {
  return std::make_unique<Resize>(height, width, n_channels, make_between(rows, height),
                                  make_between(columns, width), make_transform(after, n_channels));
}

std::unique_ptr<Depthwise> make_depthwise(const AxisTuple& y, const AxisTuple& x,
                                          const Array<float, 3>& weights,
                                          const std::vector<StepTuple>& after) {
  const auto n_channels = static_cast<int64_t>(weights.shape(2));
  const Axis rows = make_axis(y), columns = make_axis(x);
  need(static_cast<int64_t>(weights.shape(0)) == rows.kernel &&
           static_cast<int64_t>(weights.shape(1)) == columns.kernel,
       "the weight has another size");
  return std::make_unique<Depthwise>(rows, columns, n_channels, weights.data(),
                                     make_transform(after, n_channels));
}

BoxAxis make_box_axis(const BoxTuple& given) {
  const BoxAxis a{std::get<0>(given), std::get<1>(given), std::get<2>(given),
                  std::get<3>(given), std::get<4>(given), std::get<5>(given)};
  for (const int64_t n : {a.from, a.before, a.count, a.start, a.step, a.size})
    need(n >= 0 && n <= kMaxSize, "expected sizes of at least 0");
  need(a.before + a.count <= a.size, "expected a box that holds what it copies");
  need(a.count == 0 || a.start + (a.count - 1) * a.step < a.from, "expected places inside");
  return a;
}

std::unique_ptr<Crop> make_crop(const BoxTuple& y, const BoxTuple& x, const BoxTuple& channels,
                                float value, const std::vector<StepTuple>& after) {
  const BoxAxis innermost = make_box_axis(channels);
  return std::make_unique<Crop>(make_box_axis(y), make_box_axis(x), innermost, value,
                                make_transform(after, innermost.size));
}

std::unique_ptr<Join> make_join(int64_t height, int64_t width, const std::vector<int64_t>& channels,
                                const std::vector<StepTuple>& after) {
  need(!channels.empty(), "expected images to join");
  int64_t n_channels = 0;
  for (const int64_t n : channels) {
    need(n >= 0 && n <= kMaxSize, "expected channels");
    n_channels += n;
  }
  return std::make_unique<Join>(height, width, channels, make_transform(after, n_channels));
}

std::unique_ptr<ChannelMean> make_channel_mean(int64_t height, int64_t width, int64_t n_channels,
                                               int64_t count, const std::vector<StepTuple>& after) {
  for (const int64_t n : {height, width, n_channels, count})
    need(n > 0 && n <= kMaxSize, "expected sizes of at least 1");
  return std::make_unique<ChannelMean>(height, width, n_channels, count,
                                       make_transform(after, n_channels));
}

std::unique_ptr<Gate> make_gate(int64_t height, int64_t width, int64_t n_channels, int meeting,
                                const std::vector<StepTuple>& after) {
  need(meeting >= 0 && meeting <= static_cast<int>(Meeting::subtract), "no such operation");
  return std::make_unique<Gate>(height, width, n_channels, static_cast<Meeting>(meeting),
                                make_transform(after, n_channels));
}

std::unique_ptr<LayerNorm> make_layer_norm(int64_t n_channels, float epsilon, bool is_centered,
                                           const std::vector<StepTuple>& after) {
  need(n_channels > 0, "expected channels");
  return std::make_unique<LayerNorm>(n_channels, epsilon, is_centered,
                                     make_transform(after, n_channels));
}

std::unique_ptr<GroupNorm> make_group_norm(int64_t height, int64_t width, int64_t n_channels,
                                           int64_t n_groups, float epsilon,
                                           const std::vector<StepTuple>& after) {
  for (const int64_t n : {height, width, n_channels, n_groups})
    need(n > 0 && n <= kMaxSize, "expected sizes of at least 1");
  need(n_channels % n_groups == 0, "groups do not divide the channels");
  return std::make_unique<GroupNorm>(height, width, n_channels, n_groups, epsilon,
                                     make_transform(after, n_channels));
}

// Of rows of `n_numbers`, all of which lie within what is read of an image.
Look make_look(const LookTuple& look, int64_t n_heads, int64_t n_rows, int64_t n_numbers) {
  const auto [size, offset, head, row] = look;
  for (const int64_t n : {size, offset, head, row})
    need(n >= 0 && n <= kMaxSize, "expected places within an image");
  need(offset + (n_heads - 1) * head + (n_rows - 1) * row + n_numbers <= size,
       "expected places within an image");
  return {size, offset, head, row};
}

std::unique_ptr<Attention> make_attention(
    const std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>& sizes, const LookTuple& queries,
    const LookTuple& keys, const LookTuple& values, float scale,
    const std::optional<Array<float, 3>>& mask, const std::vector<StepTuple>& steps) {
  const auto [n_heads, n_queries, n_keys, depth, width] = sizes;
  for (const int64_t n : {n_heads, n_queries, n_keys, depth, width})
    need(n > 0 && n <= kMaxSize, "expected sizes of at least 1");
  const auto mask_heads = mask ? static_cast<int64_t>(mask->shape(0)) : 0;
  if (mask)
    need((mask_heads == 1 || mask_heads == n_heads) &&
             static_cast<int64_t>(mask->size()) == mask_heads * n_queries * n_keys &&
             static_cast<int64_t>(mask->shape(1)) == n_queries,
         "the mask has another size");
  return std::make_unique<Attention>(
      Attention::Sizes{n_heads, n_queries, n_keys, depth, width},
      make_look(queries, n_heads, n_queries, depth), make_look(keys, n_heads, n_keys, depth),
      make_look(values, n_heads, n_keys, width), scale, mask ? mask->data() : nullptr, mask_heads,
      make_transform(steps, n_heads * width));
}

// All that a leg touches of something lies within its `size` numbers.
Way make_way(const WayTuple& given, const Leg& leg, int64_t count, int64_t step, int64_t size) {
  const auto& [source, offset, strides] = given;
  need(strides.size() == static_cast<size_t>(leg.n_axes), "expected a stride for every axis");
  Way way{source, offset, {}};
  int64_t low = offset, high = offset;
  const auto reach = [&](int64_t n, int64_t by) { (by < 0 ? low : high) += (n - 1) * by; };
  for (int32_t i = 0; i < leg.n_axes; ++i) {
    need(std::abs(strides[static_cast<size_t>(i)]) <= kMaxSize, "expected places within an image");
    way.strides[i] = strides[static_cast<size_t>(i)];
    reach(leg.sizes[i], way.strides[i]);
  }
  need(std::abs(step) <= kMaxSize, "expected places within an image");
  reach(count, step);
  need(offset >= 0 && offset <= kMaxSize && low >= 0 && high < size,
       "expected places within an image");
  return way;
}

std::unique_ptr<Walk> make_walk(int64_t n_pixels, int64_t n_channels,
                                const std::vector<int64_t>& sizes,
                                const std::vector<LegTuple>& legs, const Array<float, 1>& constants,
                                const std::vector<StepTuple>& after) {
  for (const int64_t n : {n_pixels, n_channels})
    need(n > 0 && n <= kMaxSize, "expected sizes of at least 1");
  need(!sizes.empty(), "expected something to read");
  const auto n_constants = static_cast<int64_t>(constants.size());
  const auto size_of = [&](int source) {
    need(source >= -1 && source < static_cast<int>(sizes.size()), "no such tensor");
    return source < 0 ? n_constants : sizes[static_cast<size_t>(source)];
  };
  std::vector<Leg> made;
  for (const auto& [kind, box, to, first, second, count, step, to_step] : legs) {
    need(kind >= 0 && kind <= static_cast<int>(WalkKind::softmax), "no such walk");
    need(!box.empty() && box.size() <= kMaxWalkAxes, "expected 1 to 8 axes");
    need(count > 0 && count <= kMaxSize, "expected sizes of at least 1");
    Leg leg{};
    leg.kind = static_cast<WalkKind>(kind);
    leg.n_axes = static_cast<int32_t>(box.size());
    for (size_t i = 0; i < box.size(); ++i) {
      need(box[i] > 0 && box[i] <= kMaxSize, "expected sizes of at least 1");
      leg.sizes[i] = box[i];
    }
    const bool is_many = leg.kind == WalkKind::softmax;
    leg.to = make_way(to, leg, is_many ? count : 1, to_step, n_pixels * n_channels);
    leg.first = make_way(first, leg, count, step, size_of(std::get<0>(first)));
    leg.second = make_way(second, leg, 1, 0, size_of(std::get<0>(second)));
    leg.count = count;
    leg.step = step;
    leg.to_step = to_step;
    made.push_back(leg);
  }
  return std::make_unique<Walk>(
      n_pixels, n_channels, sizes, std::move(made),
      std::vector<float>(constants.data(), constants.data() + n_constants),
      make_transform(after, n_channels));
}

std::unique_ptr<PackPlanes> make_planes(int64_t n_channels, int64_t n_pixels) {
  for (const int64_t n : {n_channels, n_pixels})
    need(n >= 0 && n <= kMaxSize, "expected channels and pixels");
  return std::make_unique<PackPlanes>(n_channels, n_pixels);
}

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void run(const Operator& one, uintptr_t x, int64_t n, const Addresses& others, uintptr_t y,
         uintptr_t y_bits, int n_threads, bool planes) {
  need(static_cast<int64_t>(others.size()) >= one.n_others(), "a residual is missing");
  std::vector<const float*> from;
  for (const uintptr_t address : others) from.push_back(at<const float>(address));
  nb::gil_scoped_release release;
  one.run(use_active(), {at<const void>(x), n, from.data(), at<float>(y), at<uint8_t>(y_bits),
                         n_threads, planes});
}

Place make_place(const PlaceTuple& place) {
  need(std::get<1>(place) >= 0, "expected an offset of at least 0");
  return {std::get<0>(place), std::get<1>(place)};
}

// A plan and how far it came: for one caller at a time, who may then name what failed.
struct PlanOfOne {
  Plan plan;
  int64_t reached = 0;

  void run(const Addresses& addresses, const std::vector<int>& planes, int64_t first, int64_t last,
           int n_threads, std::optional<nb::ndarray<double, nb::ndim<1>, nb::c_contig>> seconds) {
    need(first >= 0 && last <= plan.size(), "no such call");
    need(static_cast<int>(addresses.size()) == plan.n_bases(), "a base is missing");
    need(!seconds || static_cast<int64_t>(seconds->shape(0)) >= last - first,
         "expected room for the time of each call");
    std::vector<Base> bases;
    for (const uintptr_t address : addresses) bases.push_back({at<uint8_t>(address), false});
    for (const int base : planes) bases.at(static_cast<size_t>(base)).planes = true;
    double* times = seconds ? seconds->data() : nullptr;
    nb::gil_scoped_release release;
    plan.run(use_active(static_cast<uint64_t>(std::max<int64_t>(last - first, 0))), bases, first,
             last, n_threads, times, reached);
  }
};

std::unique_ptr<PlanOfOne> make_plan(const std::vector<CallTuple>& calls, int n_bases) {
  std::vector<PlannedCall> planned;
  for (const auto& [what, n, x, others, y, y_bits] : calls) {
    need(n >= 0, "expected images");
    std::vector<Place> places;
    for (const PlaceTuple& other : others) places.push_back(make_place(other));
    planned.push_back({what, n, make_place(x), make_place(y), make_place(y_bits), places});
  }
  return std::make_unique<PlanOfOne>(PlanOfOne{Plan(std::move(planned), n_bases)});
}

using SeatTuple = std::tuple<int, PlanOfOne*, uintptr_t>;
using PartTuple = std::tuple<int, Addresses, std::vector<int>, Addresses>;
using MadeTuple = std::tuple<int64_t, int64_t>;

std::vector<Part> make_parts(const std::vector<PartTuple>& given,
                             const std::vector<std::vector<Made>>& made) {
  std::vector<Part> parts;
  for (const auto& [kind, addresses, planes, results] : given) {
    need(kind >= 0 && kind < static_cast<int>(made.size()), "no such kind");
    need(results.size() == made[static_cast<size_t>(kind)].size(), "a result has no place");
    Part part{kind, {}, {}};
    for (const uintptr_t address : addresses) part.bases.push_back({at<uint8_t>(address), false});
    for (const int base : planes) part.bases.at(static_cast<size_t>(base)).planes = true;
    for (const uintptr_t address : results) part.results.push_back(at<uint8_t>(address));
    parts.push_back(std::move(part));
  }
  return parts;
}

void run_parts_of(const std::vector<SeatTuple>& given, const std::vector<PartTuple>& part_tuples,
                  const std::vector<std::vector<MadeTuple>>& made_tuples, int n_threads) {
  std::vector<std::vector<Made>> made(made_tuples.size());
  for (size_t kind = 0; kind < made.size(); ++kind)
    for (const auto& [offset, n_bytes] : made_tuples[kind]) made[kind].push_back({offset, n_bytes});
  const std::vector<Part> parts = make_parts(part_tuples, made);
  std::vector<Seat> seats;
  for (const auto& [kind, plan, memory] : given)
    seats.push_back({kind, &plan->plan, at<uint8_t>(memory)});
  uint64_t n_calls = 0;
  for (const Part& part : parts) {
    int n_seats = 0;
    for (const auto& [kind, plan, memory] : given) {
      if (kind != part.kind) continue;
      need(static_cast<int>(part.bases.size()) == plan->plan.n_bases(), "a base is missing");
      if (n_seats++ == 0) n_calls += static_cast<uint64_t>(plan->plan.size());
    }
    const auto n_alike = std::count_if(parts.begin(), parts.end(),
                                       [&](const Part& one) { return one.kind == part.kind; });
    need(n_seats >= std::min<int64_t>({n_threads, n_alike}), "more threads than plans");
  }
  int64_t failed = -1;
  nb::gil_scoped_release release;
  try {
    run_parts(use_active(n_calls), seats, parts, made, n_threads, failed);
  } catch (...) {
    for (size_t i = 0; i < seats.size(); ++i)
      std::get<1>(given[i])->reached =
          static_cast<int64_t>(i) == failed ? seats[i].reached : seats[i].plan->size();
    throw;
  }
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "Native kernels; `irbin.kernels.native` is their face.";
  m.attr("MAX_RESIDUALS") = kMaxResiduals;
  m.def("implementations", list_implementations);
  m.def("activate", activate);
  m.def("count_calls", count_calls);
  m.def("register_loop", register_loop);
  m.def("thread_pool", [] { return "own"; });
  m.def("has_bfloat16", [] { return bfloat_kernels() != nullptr; });
  m.def("compiler", [] { return std::string(kCompiler); });
  nb::class_<Operator>(m, "Operator").def("run", run);
  nb::class_<Conv, Operator>(m, "Conv");
  nb::class_<MaxPool, Operator>(m, "MaxPool");
  nb::class_<Rows, Operator>(m, "Rows");
  nb::class_<PackPlanes, Operator>(m, "PackPlanes");
  nb::class_<Idle, Operator>(m, "Idle").def(nb::init<int>());
  nb::class_<PlanOfOne>(m, "Plan")
      .def("run", &PlanOfOne::run, nb::arg("bases"), nb::arg("planes"), nb::arg("first"),
           nb::arg("last"), nb::arg("n_threads"), nb::arg("seconds").none())
      .def_ro("reached", &PlanOfOne::reached);
  m.def("plan", make_plan);
  m.def("run_parts", run_parts_of);
  m.def("conv", make_conv, nb::arg("y"), nb::arg("x"), nb::arg("in_channels"),
        nb::arg("out_channels"), nb::arg("groups"), nb::arg("floats"), nb::arg("bfloats"),
        nb::arg("weights"), nb::arg("steps"), nb::arg("thresholds").none());
  m.def("byte_conv", make_byte_conv);
  m.def("sign_conv", make_sign_conv);
  m.def("max_pool", make_pool, nb::arg("y"), nb::arg("x"), nb::arg("n_channels"), nb::arg("before"),
        nb::arg("after"), nb::arg("producer").none(), nb::keep_alive<0, 6>());
  m.def("rows", make_rows);
  m.def("planes", make_planes);
  nb::class_<Average, Operator>(m, "Average");
  nb::class_<Depthwise, Operator>(m, "Depthwise");
  nb::class_<Crop, Operator>(m, "Crop");
  nb::class_<Join, Operator>(m, "Join");
  nb::class_<Gate, Operator>(m, "Gate");
  nb::class_<LayerNorm, Operator>(m, "LayerNorm");
  nb::class_<GroupNorm, Operator>(m, "GroupNorm");
  nb::class_<Attention, Operator>(m, "Attention");
  m.def("attention", make_attention, nb::arg("sizes"), nb::arg("queries"), nb::arg("keys"),
        nb::arg("values"), nb::arg("scale"), nb::arg("mask").none(), nb::arg("steps"));
  m.def("layer_norm", make_layer_norm);
  m.def("group_norm", make_group_norm);
  m.def("average", make_average);
  m.def("depthwise", make_depthwise);
  m.def("crop", make_crop);
  m.def("join", make_join);
  nb::class_<ChannelMean, Operator>(m, "ChannelMean");
  m.def("channel_mean", make_channel_mean);
  m.def("gate", make_gate);
  nb::class_<Resize, Operator>(m, "Resize");
  m.def("resize", make_resize);
  nb::class_<Walk, Operator>(m, "Walk");
  m.def("walk", make_walk);
}
