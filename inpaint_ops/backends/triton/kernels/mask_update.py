"""Window sums of the mask: new mask and ratio, up to three axes and four groups of channels."""

from __future__ import annotations

import triton
import triton.language as tl

from .common import window


@triton.jit
def mask_update_kernel(
    mask, new_mask, ratio,
    D, H, W, OD, OH, OW, sn, sg, sd, sh, sw,
    step_d, step_h, step_w, pad_d, pad_h, pad_w, dil_d, dil_h, dil_w,
    count0, count1, count2, count3, cells, eps,
    GROUPS: tl.constexpr, KD: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK output pixels of one sample."""
    wide = ratio.dtype.element_ty
    size = OD * OH * OW
    columns = tl.cdiv(size, BLOCK)
    pid = tl.program_id(0)
    n = (pid // columns).to(tl.int64)
    p = (pid % columns) * BLOCK + tl.arange(0, BLOCK)
    od = p // (OH * OW) * step_d - pad_d
    oh = p // OW % OH * step_h - pad_h
    ow = p % OW * step_w - pad_w
    total = tl.zeros([BLOCK], wide)
    for kd in range(KD):
        d = od + kd * dil_d
        for kh in range(KH):
            h = oh + kh * dil_h
            row_inside = (p < size) & (d >= 0) & (d < D) & (h >= 0) & (h < H)
            row = n * sn + d.to(tl.int64) * sd + h.to(tl.int64) * sh
            for kw in tl.static_range(KW):
                w = ow + kw * dil_w
                inside = row_inside & (w >= 0) & (w < W)
                at = row + w.to(tl.int64) * sw
                total += tl.load(mask + at, mask=inside, other=0).to(wide) * count0
                if GROUPS > 1:
                    at += sg
                    total += tl.load(mask + at, mask=inside, other=0).to(wide) * count1
                if GROUPS > 2:
                    at += sg
                    total += tl.load(mask + at, mask=inside, other=0).to(wide) * count2
                if GROUPS > 3:
                    at += sg
                    total += tl.load(mask + at, mask=inside, other=0).to(wide) * count3
    new, scale = window(total, cells, eps)
    at = n * size + p
    tl.store(new_mask + at, new.to(new_mask.dtype.element_ty), mask=p < size)
    tl.store(ratio + at, scale, mask=p < size)
