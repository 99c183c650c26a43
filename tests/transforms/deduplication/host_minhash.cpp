// The kernels of minhash.cu as a library for ctypes: KERNELS names that file.
#include KERNELS

extern "C" void host_sign_documents(unsigned blocks, unsigned threads, const u64* shingles, const i64* begins,
                                    const i64* ends, i64 documents, const u32* a, const u32* b, int products, int count,
                                    int* out) {
  run_on_host(blocks, threads,
              [=] { sign_documents(shingles, begins, ends, documents, a, b, products, count, out); });
}

extern "C" void host_hash_words(unsigned blocks, unsigned threads, const unsigned char* data, const i64* offsets,
                                i64 texts, int n, const u64* letters, u64* hashes, i64* begins, i64* ends) {
  run_on_host(blocks, threads, [=] { hash_words(data, offsets, texts, n, letters, hashes, begins, ends); });
}
