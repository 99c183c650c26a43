// MinHash and word n-grams on a GPU, the bits of minhash.py, array_shingles.py and numba_kernels.py.
//
// Compiled by NVRTC where it runs (CuPy), by nvcc in the tests, and as C++ for the CPU through tests/…/host_shim.h.
// No header is included, so that all three read the same text.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define TILE 512
// B and C of letters.py
#define BYTE_BASE 0x9E3779B97F4A7C15ull
#define WORD_BASE 0xD1342543DE82EF95ull
#define OPPOSITE 0x80000000u

__device__ __forceinline__ u32 mix32(u64 shingle) {
  u32 x = (u32)(shingle ^ (shingle >> 32));
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

__device__ __forceinline__ u64 mix64(u64 x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// One block a document, one thread a product: `out` (documents, count) from `shingles[begins[i]:ends[i]]`.
// A document without shingles gets the largest int32 in the first two forms: the caller leaves it out.
extern "C" __global__ void sign_documents(const u64* __restrict__ shingles, const i64* __restrict__ begins,
                                          const i64* __restrict__ ends, i64 documents, const u32* __restrict__ a,
                                          const u32* __restrict__ b, int products, int count,
                                          int* __restrict__ out) {
  __shared__ u32 tile[TILE];
  for (i64 document = blockIdx.x; document < documents; document += gridDim.x) {
    const i64 begin = begins[document], end = ends[document];
    for (int first = 0; first < products; first += blockDim.x) {
      const int product = first + threadIdx.x;
      const u32 multiplier = product < products ? a[product] : 0;
      const u32 offset = product < products ? b[product] : 0;
      int least = 0x7FFFFFFF, most = -0x7FFFFFFF - 1;
      u32 low = 0xFFFFFFFFu, high = 0;
      for (i64 start = begin; start < end; start += TILE) {
        const int size = (int)(end - start < TILE ? end - start : TILE);
        __syncthreads();
        for (int i = threadIdx.x; i < size; i += blockDim.x) tile[i] = mix32(shingles[start + i]);
        __syncthreads();
#pragma unroll 8
        for (int i = 0; i < size; i++) {
          const u32 place = multiplier * tile[i] + offset;
          least = (int)place < least ? (int)place : least;
          most = (int)place > most ? (int)place : most;
          low = place < low ? place : low;
          high = place > high ? place : high;
        }
      }
      if (product < products) {
        const int forms[4] = {least, (int)(low ^ OPPOSITE), ~most, ~(int)(high ^ OPPOSITE)};
#pragma unroll
        for (int form = 0; form < 4; form++) {
          const int value = form * products + product;
          if (value < count) out[document * count + value] = forms[form];
        }
      }
    }
  }
}

// One thread a text: its n-grams' hashes from `begins[i] = (offsets[i] + i) / 2` on, where a text of L bytes has room
// for its (L + 1) / 2 words; `ends[i]` says where they stop. `hashes` holds at least (bytes + texts) / 2 + 1.
extern "C" __global__ void hash_words(const unsigned char* __restrict__ data, const i64* __restrict__ offsets, i64 texts,
                                      int n, const u64* __restrict__ letters, u64* __restrict__ hashes,
                                      i64* __restrict__ begins, i64* __restrict__ ends) {
  __shared__ u64 table[256];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) table[i] = letters[i];
  __syncthreads();
  const i64 stride = (i64)gridDim.x * blockDim.x;
  for (i64 text = (i64)blockIdx.x * blockDim.x + threadIdx.x; text < texts; text += stride) {
    const i64 stop = offsets[text + 1];
    const i64 first = (offsets[text] + text) / 2;
    i64 used = first;
    u64 word = 0;
    bool inside = false;
    for (i64 place = offsets[text]; place < stop; place++) {
      const u64 letter = table[data[place]];
      if (letter != 0) {
        word = word * BYTE_BASE + letter;
        inside = true;
      } else if (inside) {
        hashes[used++] = mix64(word);
        word = 0;
        inside = false;
      }
    }
    if (inside) hashes[used++] = mix64(word);
    const i64 words = used - first;
    const i64 grams = words >= n ? words - n + 1 : (words > 0 ? 1 : 0);
    const i64 taken = words < n ? words : n;
    for (i64 gram = first; gram < first + grams; gram++) {
      u64 total = hashes[gram];
      for (i64 step = 1; step < taken; step++) total = total * WORD_BASE + hashes[gram + step];
      hashes[gram] = total;
    }
    begins[text] = first;
    ends[text] = first + grams;
  }
}
