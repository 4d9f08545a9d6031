// The kernels of one instruction set as a table.
#include "simd.h"

namespace inpaint {
namespace INPAINT_SIMD {

bool mask_update(const MaskUpdateArgs&);
bool apply_mask(const ApplyMaskArgs&);
bool epilogue(const EpilogueArgs&);
bool epilogue_backward(const EpilogueArgs&);
bool region_forward(const RegionNormArgs&);
bool region_backward(const RegionNormArgs&);
bool channel_pool(const RegionNormArgs&);
bool attention_backward_maps(const RegionNormArgs&);
bool attention_backward_input(const RegionNormArgs&);
bool plane_conv(const PlaneConvArgs&);
bool plane_conv_backward_weight(const PlaneConvArgs&);
bool narrow_conv(const NarrowConvArgs&);

#define INPAINT_NAME_TEXT(name) #name
#define INPAINT_NAME(name) INPAINT_NAME_TEXT(name)

extern const CpuKernels kTable;
const CpuKernels kTable = {
    INPAINT_NAME(INPAINT_SIMD),
    mask_update,
    apply_mask,
    epilogue,
    epilogue_backward,
    region_forward,
    region_backward,
    channel_pool,
    attention_backward_maps,
    attention_backward_input,
    plane_conv,
    plane_conv_backward_weight,
    narrow_conv,
};

}  // namespace INPAINT_SIMD
}  // namespace inpaint
