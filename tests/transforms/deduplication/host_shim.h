// Enough of CUDA for g++ to run a kernel on the CPU, one thread of the machine for each thread of a block.
// `-include` it before the .cu file. Blocks run one after another; a barrier is a real one, so that a missing
// __syncthreads or a wrong thread index shows.
#include <barrier>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __restrict__ __restrict

struct Dim {
  unsigned x;
};
static thread_local Dim threadIdx, blockIdx;
static Dim blockDim, gridDim;
static std::barrier<>* block_barrier;
#define __syncthreads() block_barrier->arrive_and_wait()

template <typename Kernel>
void run_on_host(unsigned blocks, unsigned threads, Kernel kernel) {
  std::barrier barrier(threads);
  block_barrier = &barrier;
  blockDim.x = threads;
  gridDim.x = blocks;
  std::vector<std::thread> running;
  for (unsigned thread = 0; thread < threads; thread++)
    running.emplace_back([=] {
      threadIdx.x = thread;
      for (unsigned block = 0; block < blocks; block++) {
        blockIdx.x = block;
        kernel();
        __syncthreads();  // the next block reuses this one's shared memory
      }
    });
  for (std::thread& one : running) one.join();
}
