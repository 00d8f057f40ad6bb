// Popcount by bytes: a table of 16 nibbles looked up by shuffle, or an instruction that counts bytes.
//
// Included by the implementations without a popcount of words. A byte counts at most 8 a word, so the
// byte totals are widened after 31 words (31 · 8 = 248 ≤ 255). N::Bytes holds 16 channels × 4 bytes.

constexpr int64_t kWordsAByte = 31;

template <int P>
inline void byte_tile(const Patches& patches, const uint32_t* weights, int64_t block_words,
                      int32_t* counts, int64_t count_stride) {
  for (int p = 0; p < P; ++p) N::clear(counts + p * count_stride);
  const N::Setting setting = N::set();
  const uint32_t* words = patches.first;
  int64_t left_in_segment = patches.segment_words;
  for (int64_t done = 0; done < block_words;) {
    N::Bytes total[P];
    for (int p = 0; p < P; ++p) total[p] = N::zero();
    int64_t left = block_words - done < kWordsAByte ? block_words - done : kWordsAByte;
    done += left;
    while (left > 0) {
      if (left_in_segment == 0) {
        words += patches.segment_stride - patches.segment_words;
        left_in_segment = patches.segment_words;
      }
      const int64_t n = left < left_in_segment ? left : left_in_segment;
      for (int64_t j = 0; j < n; ++j, ++words, weights += kLanes) {
        const N::Bytes weight = N::load(weights);
        for (int p = 0; p < P; ++p)
          N::count(total[p], weight, words[p * patches.pixel_stride], setting);
      }
      left -= n;
      left_in_segment -= n;
    }
    for (int p = 0; p < P; ++p) N::widen(total[p], counts + p * count_stride);
  }
}

// Pixels in groups that fit the registers, one block of channels after the other.
void byte_disagreements(const Patches& patches, int n_pixels, const uint32_t* weights,
                        int64_t block_stride, int n_blocks, int32_t* counts) {
  const int64_t block_words = patches.n_segments * patches.segment_words;
  const int64_t stride = n_blocks * kLanes;
  for (int b = 0; b < n_blocks; ++b) {
    const uint32_t* w = weights + b * block_stride;
    for (int p = 0; p < n_pixels;) {
      Patches here = patches;
      here.first += p * patches.pixel_stride;
      int32_t* to = counts + p * stride + b * kLanes;
      const int left = n_pixels - p;
      if (left >= N::kPixels) {
        byte_tile<N::kPixels>(here, w, block_words, to, stride);
        p += N::kPixels;
      } else if (left >= 2) {
        byte_tile<2>(here, w, block_words, to, stride);
        p += 2;
      } else {
        byte_tile<1>(here, w, block_words, to, stride);
        p += 1;
      }
    }
  }
}
