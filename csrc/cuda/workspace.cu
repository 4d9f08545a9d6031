#include "units.cuh"

namespace inpaint {

// Floats that `values` partial values of each unit and channel of x take.
Status cuda_workspace(const TensorView& x, int64_t values, int64_t* count) {
  Dense dense;
  INPAINT_TRY(check_dense("x", x, &dense));
  const Units units = make_units({dense.n, dense.c, dense.s, dense.channels_last});
  *count = units.rows() * values * dense.c;
  return {};
}

}  // namespace inpaint
