// Marks functions that are compiled for the host and for the device from the same source.
#pragma once

#if defined(__CUDACC__)
#define INPAINT_HOST_DEVICE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define INPAINT_HOST_DEVICE inline __attribute__((always_inline))
#else
#define INPAINT_HOST_DEVICE inline
#endif
