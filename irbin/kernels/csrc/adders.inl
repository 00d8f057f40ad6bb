// Counting by carry-save adders (Harley and Seal; Warren, Hacker's Delight, §5-1): a full adder takes
// three vectors of bits of one weight to one of that weight and one of twice it, so that most words of
// a sum cost a xor and an adder, and only the few planes that are left at its end are counted.
//
// Included after `A` is defined: A::Bits holds the words of A::kWidth channels, A::Bytes counts in
// bytes, A::kPixels (1 or 4) is how many pixels' planes fit the registers.
//
// 1. The words that do not fill groups of 8 (up to 7) go to planes of ones, twos and fours: at most 7
//    a position, so nothing is carried out of them.
// 2. Each group of 8 adds to the three planes, which stay in registers, and carries a plane of eights
//    out, which is stored.
// 3. The planes of eights are added likewise, to planes of 8, 16 …, each counted with its weight.
// At most 255 words at once: planes of 1 to 128, 31 of eights to hold.

constexpr int kGroupWords = 8;
constexpr int kAdderWords = 255;
constexpr int kBytePlanes = 5;  // of 1 to 16: a byte counts at most 8 · 31 of them
constexpr int kMaxEights = kAdderWords / kGroupWords;

// Words of the pixels of a tile: word i of pixel p is first[p * stride + offsets[i]].
struct AdderWords {
  const uint32_t* first;
  int64_t stride;
  const int64_t* offsets;
  int n_words;
};

#define EACH_OF_P _Pragma("GCC unroll 4") for (int p = 0; p < P; ++p)

template <int P>
struct Adders {
  A::Bits ones[P], twos[P], fours[P];

  // Two words of each pixel, to the plane of ones; carries two.
  [[gnu::always_inline]] inline void add_pair(const AdderWords& words, int i,
                                              const uint32_t* weights, A::Bits (&carry)[P]) {
    const A::Bits first = A::load(weights), second = A::load(weights + kLanes);
    const uint32_t *one = words.first + words.offsets[i], *two = words.first + words.offsets[i + 1];
    EACH_OF_P carry[p] = A::full_add(ones[p], A::differ(first, one + p * words.stride),
                                     A::differ(second, two + p * words.stride));
  }

  // Four words, to ones and twos; carries fours.
  [[gnu::always_inline]] inline void add_four(const AdderWords& words, int i,
                                              const uint32_t* weights, A::Bits (&carry)[P]) {
    A::Bits low[P], high[P];
    add_pair(words, i, weights, low);
    add_pair(words, i + 2, weights + 2 * kLanes, high);
    EACH_OF_P carry[p] = A::full_add(twos[p], low[p], high[p]);
  }

  [[gnu::always_inline]] inline void start(const AdderWords& words, const uint32_t* weights,
                                           int n) {
    EACH_OF_P ones[p] = twos[p] = fours[p] = A::zero();
    int i = 0;
    if (n & 1) {
      const A::Bits weight = A::load(weights);
      const uint32_t* word = words.first + words.offsets[0];
      EACH_OF_P ones[p] = A::differ(weight, word + p * words.stride);
      i = 1;
    }
    if (n & 2) {
      add_pair(words, i, weights + i * kLanes, twos);
      i += 2;
    }
    if (n & 4) add_four(words, i, weights + i * kLanes, fours);
  }
};

// Adds up n planes of one weight, of each pixel, to one of it; carries go where the planes were. How
// many they are.
template <int P>
[[gnu::always_inline]] inline int add_planes(A::Bits (*planes)[P], int n, A::Bits (&sum)[P]) {
  int n_carries = 0, i = 1;
  EACH_OF_P sum[p] = planes[0][p];
  for (; i + 1 < n; i += 2, ++n_carries)
    EACH_OF_P planes[n_carries][p] = A::full_add(sum[p], planes[i][p], planes[i + 1][p]);
  if (i < n) {
    EACH_OF_P planes[n_carries][p] = A::half_add(sum[p], planes[i][p]);
    ++n_carries;
  }
  return n_carries;
}

template <int P>
inline void adder_tile(const AdderWords& words, const uint32_t* weights, int32_t* counts,
                       int64_t count_stride, bool is_first) {
  Adders<P> sum;
  A::Bits eights[kMaxEights][P];
  int n_eights = 0, i = words.n_words % kGroupWords;
  sum.start(words, weights, i);
  for (; i < words.n_words; i += kGroupWords, ++n_eights) {
    A::Bits low[P], high[P];
    sum.add_four(words, i, weights + i * kLanes, low);
    sum.add_four(words, i + 4, weights + (i + 4) * kLanes, high);
    EACH_OF_P eights[n_eights][p] = A::full_add(sum.fours[p], low[p], high[p]);
  }
  A::Bytes total[P];
  EACH_OF_P total[p] = A::count(sum.ones[p], 0);
  EACH_OF_P total[p] = A::add(total[p], A::count(sum.twos[p], 1));
  EACH_OF_P total[p] = A::add(total[p], A::count(sum.fours[p], 2));
  int n = n_eights;
  A::Bits plane[P];
  for (int power = 3; power < kBytePlanes && n > 0; ++power) {
    n = add_planes<P>(eights, n, plane);
    EACH_OF_P total[p] = A::add(total[p], A::count(plane[p], power));
  }
  EACH_OF_P A::store(total[p], 1, counts + p * count_stride, is_first);
  if (n == 0) return;
  EACH_OF_P total[p] = A::zero();
  for (int power = 0; n > 0; ++power) {
    n = add_planes<P>(eights, n, plane);
    EACH_OF_P total[p] = A::add(total[p], A::count(plane[p], power));
  }
  EACH_OF_P A::store(total[p], 1 << kBytePlanes, counts + p * count_stride, false);
}

// Pixels in groups that fit the registers.
inline void adder_pixels(AdderWords words, int n_pixels, const uint32_t* weights, int32_t* counts,
                         int64_t count_stride, bool is_first) {
  const int64_t stride = words.stride;
  for (; n_pixels >= A::kPixels; n_pixels -= A::kPixels) {
    adder_tile<A::kPixels>(words, weights, counts, count_stride, is_first);
    words.first += A::kPixels * stride;
    counts += A::kPixels * count_stride;
  }
  const auto run = [&](auto tile) { tile(words, weights, counts, count_stride, is_first); };
  if constexpr (A::kPixels > 1) {
    if (n_pixels == 3) run(adder_tile<3>);
    if (n_pixels == 2) run(adder_tile<2>);
    if (n_pixels == 1) run(adder_tile<1>);
  }
}

void adder_disagreements(const Patches& patches, int n_pixels, const uint32_t* weights,
                         int64_t block_stride, int n_blocks, int32_t* counts) {
  const int64_t n_words = patches.n_segments * patches.segment_words, stride = n_blocks * kLanes;
  int64_t segment = 0, in_segment = 0;
  for (int64_t done = 0; done < n_words; done += kAdderWords) {
    int64_t offsets[kAdderWords];
    const int n = static_cast<int>(n_words - done < kAdderWords ? n_words - done : kAdderWords);
    for (int i = 0; i < n; ++i) {
      offsets[i] = segment + in_segment;
      if (++in_segment == patches.segment_words) in_segment = 0, segment += patches.segment_stride;
    }
    const AdderWords words{patches.first, patches.pixel_stride, offsets, n};
    for (int b = 0; b < n_blocks; ++b)
      for (int lane = 0; lane < kLanes; lane += A::kWidth)
        adder_pixels(words, n_pixels, weights + b * block_stride + done * kLanes + lane,
                     counts + b * kLanes + lane, stride, done == 0);
  }
}

// Groups of 8 words on registers alone, without what comes before and after them: a sum of any length
// costs more a word.
int64_t adder_register_loop(int64_t n_rounds) {
  constexpr int P = A::kLoopPixels;
  A::Bits ones[P], twos[P], fours[P], weights = A::zero() + 0x89, words = A::zero() + 0x1234567;
  EACH_OF_P ones[p] = twos[p] = fours[p] = A::zero();
  const auto pair = [&](A::Bits& sum) {
    const A::Bits one = weights ^ words;
    A::hide(words);  // another word, or it is computed once
    const A::Bits two = weights ^ words;
    A::hide(words);
    return A::full_add(sum, one, two);
  };
  const auto four = [&](int p) {
    const A::Bits low = pair(ones[p]), high = pair(ones[p]);
    return A::full_add(twos[p], low, high);
  };
  for (int64_t i = 0; i < n_rounds; ++i) {
    EACH_OF_P {
      const A::Bits low = four(p), high = four(p);
      A::Bits eights = A::full_add(fours[p], low, high);
      A::hide(eights);
    }
  }
  EACH_OF_P {
    A::hide(ones[p]);
    A::hide(twos[p]);
    A::hide(fours[p]);
  }
  return n_rounds * P * kGroupWords * A::kWidth * kWordBits;
}

#undef EACH_OF_P
