// Every function the core offers to Python, with the names of its arguments in order.
// The Python side holds the same table (inpaint_ops/core.py); a hash of both is compared when the
// core is loaded, so that a binary built from other sources is refused instead of reading wrong
// pointers.
#pragma once

#include <cstdint>
#include <string_view>

#include "inpaint/parallel.h"
#include "inpaint/status.h"
#include "inpaint/tensor_view.h"

namespace inpaint {

inline constexpr std::string_view kOpTable =
    "mask_update(mask,channels,kernel_size,stride,padding,dilation,eps,new_mask,ratio);"
    "apply_mask(x,mask,channels,out);"
    "all_valid(mask);"
    "partial_conv_prologue(x,mask,channels,counts,kernel_size,stride,padding,dilation,eps,new_mask,"
    "ratio,out);"
    "partial_conv_epilogue(y,ratio,new_mask,bias);"
    "partial_conv_epilogue_backward(grad,ratio,new_mask,grad_raw,grad_bias);"
    "region_norm_forward(x,mask,weight,bias,eps,scale_eps,instance,y,mean,rstd);"
    "region_norm_backward(grad,x,mask,weight,mean,rstd,instance,grad_x,grad_weight,grad_bias);"
    "block_norm_forward(x,ratio,new_mask,slope,mask,weight,bias,eps,scale_eps,fixed,y,mean,rstd);"
    "block_norm_backward(grad,x,ratio,new_mask,slope,mask,weight,bias,mean,rstd,fixed,grad_x,"
    "grad_weight,grad_bias);"
    "channel_pool(x,pooled,argmax);"
    "narrow_conv(x,weight,padding,dilation,out);"
    "upsampled_weight_forward(weight,transposed,beside);"
    "upsampled_weight_backward(grad_transposed,grad_beside,grad_weight);"
    "plane_conv(x,weight,bias,out);"
    "plane_conv_backward_weight(grad,x,grad_weight);"
    "attention_region_norm_forward(x,ratio,new_mask,slope,mask,maps,eps,y,mean,rstd);"
    "attention_region_norm_backward_maps(grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,grad_maps,"
    "sums);"
    "attention_region_norm_backward_input(grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,sums,"
    "grad_pooled,argmax,grad_x);"
    "cuda_mask_update(device,stream,mask,channels,kernel_size,stride,padding,dilation,eps,new_mask,"
    "ratio);"
    "cuda_apply_mask(device,stream,x,mask,channels,out);"
    "cuda_partial_conv_epilogue(device,stream,y,ratio,new_mask,bias);"
    "cuda_partial_conv_epilogue_backward(device,stream,grad,ratio,new_mask,grad_raw,"
    "grad_bias,workspace);"
    "cuda_region_norm_forward(device,stream,x,mask,weight,bias,eps,scale_eps,instance,y,mean,rstd,"
    "workspace);"
    "cuda_region_norm_backward(device,stream,grad,x,mask,weight,mean,rstd,instance,grad_x,"
    "grad_weight,grad_bias,workspace);"
    "cuda_block_norm_forward(device,stream,x,ratio,new_mask,slope,mask,weight,bias,eps,scale_eps,"
    "fixed,y,mean,rstd,workspace);"
    "cuda_block_norm_backward(device,stream,grad,x,ratio,new_mask,slope,mask,weight,bias,mean,rstd,"
    "fixed,grad_x,grad_weight,grad_bias,workspace);"
    "cuda_channel_pool(device,stream,x,pooled,argmax);"
    "cuda_attention_region_norm_forward(device,stream,x,ratio,new_mask,slope,mask,maps,eps,y,mean,"
    "rstd,workspace);"
    "cuda_attention_region_norm_maps(device,stream,grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,"
    "grad_maps);"
    "cuda_attention_region_norm_sums(device,stream,grad,x,ratio,new_mask,slope,mask,maps,mean,rstd,"
    "workspace);"
    "cuda_attention_region_norm_input(device,stream,grad,x,ratio,new_mask,slope,mask,maps,mean,"
    "rstd,"
    "grad_pooled,argmax,grad_x,workspace);"
    "cuda_workspace(x,values);"
    "cuda_region_workspace(x,instance);";

// FNV-1a, 64 bits.
constexpr uint64_t hash_text(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ull;
  }
  return hash;
}

struct Window {
  int spatial = 0;
  int64_t kernel[kMaxSpatial] = {1, 1, 1};
  int64_t stride[kMaxSpatial] = {1, 1, 1};
  int64_t padding[kMaxSpatial] = {0, 0, 0};
  int64_t dilation[kMaxSpatial] = {1, 1, 1};
};

struct Channels {  // how many channels share each mask plane
  const int64_t* counts = nullptr;
  int64_t groups = 0;
};

// ---- CPU -------------------------------------------------------------------------------------
// Activations are (N, C, ...) in contiguous or channels-last order; per-pixel planes are
// (N or 1, 1, ...), contiguous. Mask 1 = valid.

// mask (N|1, G, ...), any strides -> new_mask (N|1, 1, ...) in the mask's type, ratio likewise in
// float32 or float64.
Status mask_update(ParallelFor pool, const TensorView& mask, const Channels& channels,
                   const Window& window, double eps, const TensorView& new_mask,
                   const TensorView& ratio);

// out = mask == 0 ? 0 : x * mask; out may be x.
Status apply_mask(ParallelFor pool, const TensorView& x, const TensorView& mask,
                  const Channels& channels, const TensorView& out);

// Whether a dense mask holds nothing but ones: then there is nothing to select away.
Status all_valid(const TensorView& mask, bool* valid);

// mask_update with `counts`, and out = x without its holes; `out` is left alone, and `holes`
// false, if there are none. `channels` are those of x that each plane stands for.
Status partial_conv_prologue(ParallelFor pool, const TensorView& x, const TensorView& mask,
                             const Channels& channels, const Channels& counts, const Window& window,
                             double eps, const TensorView& new_mask, const TensorView& ratio,
                             const TensorView& masked, bool* holes);

// In place on the raw convolution: y = y * ratio, or (y * ratio + bias) * new_mask.
Status partial_conv_epilogue(ParallelFor pool, const TensorView& y, const TensorView& ratio,
                             const TensorView& new_mask, const TensorView& bias);

// grad_raw = grad * ratio (* new_mask with bias); grad_bias = sum of grad * new_mask.
Status partial_conv_epilogue_backward(ParallelFor pool, const TensorView& grad,
                                      const TensorView& ratio, const TensorView& new_mask,
                                      const TensorView& grad_raw, const TensorView& grad_bias);

// mean, rstd: (groups, 2, C) float64, row 0 valid, row 1 hole; groups is N with `instance`, else 1.
Status region_norm_forward(ParallelFor pool, const TensorView& x, const TensorView& mask,
                           const TensorView& weight, const TensorView& bias, double eps,
                           bool scale_eps, bool instance, const TensorView& y,
                           const TensorView& mean, const TensorView& rstd);

Status region_norm_backward(ParallelFor pool, const TensorView& grad, const TensorView& x,
                            const TensorView& mask, const TensorView& weight,
                            const TensorView& mean, const TensorView& rstd, bool instance,
                            const TensorView& grad_x, const TensorView& grad_weight,
                            const TensorView& grad_bias);

// What stands around a norm in a block, where x is a convolution's raw result: x is multiplied by
// ratio, and what has been normalized is activated (negative values times slope) and multiplied by
// new_mask. Both are planes (N|1, 1, ...) in the dtype that x is computed in; both undefined: no
// block.
struct Surround {
  const TensorView& ratio;
  const TensorView& new_mask;
  double slope;
};

// As region_norm, in a block. mask undefined: one region, as in batch norm; weight, bias (R, C),
// mean, rstd (1, R, C) have a row for each region. fixed: mean and rstd are given (running
// statistics); then y may be x.
Status block_norm_forward(ParallelFor pool, const TensorView& x, const Surround& surround,
                          const TensorView& mask, const TensorView& weight, const TensorView& bias,
                          double eps, bool scale_eps, bool fixed, const TensorView& y,
                          const TensorView& mean, const TensorView& rstd);

Status block_norm_backward(ParallelFor pool, const TensorView& grad, const TensorView& x,
                           const Surround& surround, const TensorView& mask,
                           const TensorView& weight, const TensorView& bias, const TensorView& mean,
                           const TensorView& rstd, bool fixed, const TensorView& grad_x,
                           const TensorView& grad_weight, const TensorView& grad_bias);

// pooled (N, 2, ...): mean and maximum over channels; argmax (N, 1, ...) int32, first of ties.
Status channel_pool(ParallelFor pool, const TensorView& x, const TensorView& pooled,
                    const TensorView& argmax);

// Stride-1 convolution into one to four channels: x (N, C, H, W) of at least a vector (64 bytes) of
// channels, weight (O, C, kh, kw) of any strides, out in the memory order of x.
Status narrow_conv(ParallelFor pool, const TensorView& x, const TensorView& weight,
                   const int64_t padding[2], const int64_t dilation[2], const TensorView& out);

// weight (O, C1 + C2, 3, 3), of a convolution of an enlarged map beside a skip, as transposed (C1,
// O, 4, 4), of the transposed convolution of the map itself, and beside (O, C2, 3, 3).
Status upsampled_weight_forward(ParallelFor pool, const TensorView& weight,
                                const TensorView& transposed, const TensorView& beside);
Status upsampled_weight_backward(ParallelFor pool, const TensorView& grad_transposed,
                                 const TensorView& grad_beside, const TensorView& grad_weight);

// Stride-1 convolution of one or two planes into one or two, odd window, zero padding that keeps
// the size: x (N, P, H, W), weight (Q, P, kh, kw), bias (Q) or undefined, out (N, Q, H, W).
Status plane_conv(ParallelFor pool, const TensorView& x, const TensorView& weight,
                  const TensorView& bias, const TensorView& out);

Status plane_conv_backward_weight(ParallelFor pool, const TensorView& grad, const TensorView& x,
                                  const TensorView& grad_weight);

// y = normalized(x) * (1 + gamma) + beta; maps (N, 2, ...) holds gamma and beta per pixel.
Status attention_region_norm_forward(ParallelFor pool, const TensorView& x,
                                     const Surround& surround, const TensorView& mask,
                                     const TensorView& maps, double eps, const TensorView& y,
                                     const TensorView& mean, const TensorView& rstd);

// grad_maps (N, 2, ...): of gamma and beta. sums (2, 2, C) float64: per region the mean of the
// gradient and of the gradient times the normalized value, as the input gradient needs them.
Status attention_region_norm_backward_maps(ParallelFor pool, const TensorView& grad,
                                           const TensorView& x, const Surround& surround,
                                           const TensorView& mask, const TensorView& maps,
                                           const TensorView& mean, const TensorView& rstd,
                                           const TensorView& grad_maps, const TensorView& sums);

// The input gradient, the gradient of the channel mean and maximum added in the same pass.
Status attention_region_norm_backward_input(ParallelFor pool, const TensorView& grad,
                                            const TensorView& x, const Surround& surround,
                                            const TensorView& mask, const TensorView& maps,
                                            const TensorView& mean, const TensorView& rstd,
                                            const TensorView& sums, const TensorView& grad_pooled,
                                            const TensorView& argmax, const TensorView& grad_x);

// ---- CUDA ------------------------------------------------------------------------------------
// As on the CPU, asynchronous on `stream` of `device`; says so if CUDA was not built.
Status cuda_mask_update(int32_t device, void* stream, const TensorView& mask,
                        const Channels& channels, const Window& window, double eps,
                        const TensorView& new_mask, const TensorView& ratio);

Status cuda_apply_mask(int32_t device, void* stream, const TensorView& x, const TensorView& mask,
                       const Channels& channels, const TensorView& out);

Status cuda_partial_conv_epilogue(int32_t device, void* stream, const TensorView& y,
                                  const TensorView& ratio, const TensorView& new_mask,
                                  const TensorView& bias);

// Reductions take memory for partial values: float32, of as many numbers as cuda_workspace or
// cuda_region_workspace say.
Status cuda_workspace(const TensorView& x, int64_t values, int64_t* count);
Status cuda_region_workspace(const TensorView& x, bool instance, int64_t* count);

Status cuda_partial_conv_epilogue_backward(int32_t device, void* stream, const TensorView& grad,
                                           const TensorView& ratio, const TensorView& new_mask,
                                           const TensorView& grad_raw, const TensorView& grad_bias,
                                           const TensorView& workspace);

// mask: float32 planes.
Status cuda_region_norm_forward(int32_t device, void* stream, const TensorView& x,
                                const TensorView& mask, const TensorView& weight,
                                const TensorView& bias, double eps, bool scale_eps, bool instance,
                                const TensorView& y, const TensorView& mean, const TensorView& rstd,
                                const TensorView& workspace);

Status cuda_region_norm_backward(int32_t device, void* stream, const TensorView& grad,
                                 const TensorView& x, const TensorView& mask,
                                 const TensorView& weight, const TensorView& mean,
                                 const TensorView& rstd, bool instance, const TensorView& grad_x,
                                 const TensorView& grad_weight, const TensorView& grad_bias,
                                 const TensorView& workspace);

Status cuda_block_norm_forward(int32_t device, void* stream, const TensorView& x,
                               const Surround& surround, const TensorView& mask,
                               const TensorView& weight, const TensorView& bias, double eps,
                               bool scale_eps, bool fixed, const TensorView& y,
                               const TensorView& mean, const TensorView& rstd,
                               const TensorView& workspace);

Status cuda_block_norm_backward(int32_t device, void* stream, const TensorView& grad,
                                const TensorView& x, const Surround& surround,
                                const TensorView& mask, const TensorView& weight,
                                const TensorView& bias, const TensorView& mean,
                                const TensorView& rstd, bool fixed, const TensorView& grad_x,
                                const TensorView& grad_weight, const TensorView& grad_bias,
                                const TensorView& workspace);

Status cuda_channel_pool(int32_t device, void* stream, const TensorView& x,
                         const TensorView& pooled, const TensorView& argmax);

Status cuda_attention_region_norm_forward(int32_t device, void* stream, const TensorView& x,
                                          const Surround& surround, const TensorView& mask,
                                          const TensorView& maps, double eps, const TensorView& y,
                                          const TensorView& mean, const TensorView& rstd,
                                          const TensorView& workspace);

// The backward of the attention form: gradients of gamma and beta; then sums by region, left in the
// workspace; then, from the same workspace, the gradient of x.
Status cuda_attention_region_norm_maps(int32_t device, void* stream, const TensorView& grad,
                                       const TensorView& x, const Surround& surround,
                                       const TensorView& mask, const TensorView& maps,
                                       const TensorView& mean, const TensorView& rstd,
                                       const TensorView& grad_maps);
Status cuda_attention_region_norm_sums(int32_t device, void* stream, const TensorView& grad,
                                       const TensorView& x, const Surround& surround,
                                       const TensorView& mask, const TensorView& maps,
                                       const TensorView& mean, const TensorView& rstd,
                                       const TensorView& workspace);
Status cuda_attention_region_norm_input(int32_t device, void* stream, const TensorView& grad,
                                        const TensorView& x, const Surround& surround,
                                        const TensorView& mask, const TensorView& maps,
                                        const TensorView& mean, const TensorView& rstd,
                                        const TensorView& grad_pooled, const TensorView& argmax,
                                        const TensorView& grad_x, const TensorView& workspace);

}  // namespace inpaint
