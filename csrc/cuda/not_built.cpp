// The entry points of the CUDA kernels in a core that was built without them.
#include "inpaint/op_table.h"

namespace inpaint {

namespace {

Status not_built(const char* op) { return failure(op, ": CUDA was not built"); }

}  // namespace

Status cuda_mask_update(int32_t, void*, const TensorView&, const Channels&, const Window&, double,
                        const TensorView&, const TensorView&) {
  return not_built("cuda_mask_update");
}

Status cuda_apply_mask(int32_t, void*, const TensorView&, const TensorView&, const Channels&,
                       const TensorView&) {
  return not_built("cuda_apply_mask");
}

Status cuda_partial_conv_epilogue(int32_t, void*, const TensorView&, const TensorView&,
                                  const TensorView&, const TensorView&) {
  return not_built("cuda_partial_conv_epilogue");
}

Status cuda_partial_conv_epilogue_backward(int32_t, void*, const TensorView&, const TensorView&,
                                           const TensorView&, const TensorView&, const TensorView&,
                                           const TensorView&) {
  return not_built("cuda_partial_conv_epilogue_backward");
}

Status cuda_region_norm_forward(int32_t, void*, const TensorView&, const TensorView&,
                                const TensorView&, const TensorView&, double, bool, bool,
                                const TensorView&, const TensorView&, const TensorView&,
                                const TensorView&) {
  return not_built("cuda_region_norm_forward");
}

Status cuda_region_norm_backward(int32_t, void*, const TensorView&, const TensorView&,
                                 const TensorView&, const TensorView&, const TensorView&,
                                 const TensorView&, bool, const TensorView&, const TensorView&,
                                 const TensorView&, const TensorView&) {
  return not_built("cuda_region_norm_backward");
}

Status cuda_block_norm_forward(int32_t, void*, const TensorView&, const Surround&,
                               const TensorView&, const TensorView&, const TensorView&, double,
                               bool, bool, const TensorView&, const TensorView&, const TensorView&,
                               const TensorView&) {
  return not_built("cuda_block_norm_forward");
}

Status cuda_block_norm_backward(int32_t, void*, const TensorView&, const TensorView&,
                                const Surround&, const TensorView&, const TensorView&,
                                const TensorView&, const TensorView&, const TensorView&, bool,
                                const TensorView&, const TensorView&, const TensorView&,
                                const TensorView&) {
  return not_built("cuda_block_norm_backward");
}

Status cuda_channel_pool(int32_t, void*, const TensorView&, const TensorView&, const TensorView&) {
  return not_built("cuda_channel_pool");
}

Status cuda_attention_region_norm_forward(int32_t, void*, const TensorView&, const Surround&,
                                          const TensorView&, const TensorView&, double,
                                          const TensorView&, const TensorView&, const TensorView&,
                                          const TensorView&) {
  return not_built("cuda_attention_region_norm_forward");
}

Status cuda_attention_region_norm_maps(int32_t, void*, const TensorView&, const TensorView&,
                                       const Surround&, const TensorView&, const TensorView&,
                                       const TensorView&, const TensorView&, const TensorView&) {
  return not_built("cuda_attention_region_norm_maps");
}

Status cuda_attention_region_norm_sums(int32_t, void*, const TensorView&, const TensorView&,
                                       const Surround&, const TensorView&, const TensorView&,
                                       const TensorView&, const TensorView&, const TensorView&) {
  return not_built("cuda_attention_region_norm_sums");
}

Status cuda_attention_region_norm_input(int32_t, void*, const TensorView&, const TensorView&,
                                        const Surround&, const TensorView&, const TensorView&,
                                        const TensorView&, const TensorView&, const TensorView&,
                                        const TensorView&, const TensorView&, const TensorView&) {
  return not_built("cuda_attention_region_norm_input");
}

Status cuda_workspace(const TensorView&, int64_t, int64_t*) { return not_built("cuda_workspace"); }

Status cuda_region_workspace(const TensorView&, bool, int64_t*) {
  return not_built("cuda_region_workspace");
}

}  // namespace inpaint
