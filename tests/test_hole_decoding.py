"""Filling holes alone: the numbers of the whole network, at the cost of the holes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from inpaint_models import composite, create_model, fill_holes
from inpaint_models.hole_boxes import Box, find_holes, merged, plan_levels
from inpaint_models.partial_unet import PartialUNet
from model_inputs import holes, picture, small_model
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("one_thread")


def _net(name: str = "pconv_unet", dtype: torch.dtype = torch.float64) -> PartialUNet:
    """In evaluation mode, with statistics and parameters as training may leave them."""
    options: dict[str, object] = {"levels": 5} if name == "pconv_unet" else {}
    net = create_model(name, width=8, **options)
    assert isinstance(net, PartialUNet)
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    nn.init.normal_(net.get_submodule("dec1.conv").bias, generator=generator)  # type: ignore[arg-type]
    return net.to(dtype).eval()


def _rectangles(*corners: tuple[int, int, int, int]) -> Callable[[int, int], Tensor]:
    def mask(h: int, w: int) -> Tensor:
        made = torch.ones(1, 1, h, w)
        for top, bottom, left, right in corners:
            made[:, :, top:bottom, left:right] = 0
        return made

    return mask


def _frame(h: int, w: int) -> Tensor:
    made = torch.zeros(1, 1, h, w)
    made[:, :, 3:-4, 5:-2] = 1
    return made


def _soft(h: int, w: int) -> Tensor:
    made = _rectangles((40, 60, 30, 50))(h, w)
    made[:, :, 80:84, 10:14] = 0.5
    return made


MASKS = {
    "middle": _rectangles((52, 83, 40, 66)),
    "one pixel": _rectangles((37, 38, 61, 62)),
    "top left": _rectangles((0, 17, 0, 12)),
    "bottom right": _rectangles((-11, 500, -1, 500)),
    "left edge": _rectangles((63, 64, 0, 30)),
    "far apart": _rectangles((2, 9, 90, 97), (100, 120, 3, 20), (60, 61, 50, 51)),
    "frame": _frame,
    "soft": _soft,
    "everything": _rectangles((0, 500, 0, 500)),
}


@pytest.mark.parametrize("size", [(128, 128), (131, 101), (126, 161)])
@pytest.mark.parametrize("where", MASKS)
@pytest.mark.parametrize("name", ["pconv_unet", "pconv_autoencoder"])
@torch.no_grad()
def test_it_is_the_composite_of_the_whole(name: str, where: str, size: tuple[int, int]) -> None:
    net, image = _net(name), picture(1, *size, torch.float64)
    mask = MASKS[where](*size).double()
    expected = composite(net(image, mask), image, mask)
    filled = fill_holes(net, torch.where(mask == 0, torch.nan, image), mask)
    torch.testing.assert_close(filled, expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(filled[(mask == 1).expand_as(image)], image[(mask == 1).expand_as(image)])


@pytest.mark.parametrize("shared", [False, True])
@torch.no_grad()
def test_a_batch_is_filled_picture_by_picture(shared: bool) -> None:
    net, image = _net(), picture(3, 128, 96, torch.float64)
    mask = torch.ones(3, 1, 128, 96, dtype=torch.bool)
    mask[0, :, 10:30, 5:25] = False
    mask[2, :, 90:, 70:] = False
    mask = mask[:1] if shared else mask
    expected = composite(net(image, mask), image, mask)
    torch.testing.assert_close(fill_holes(net, image, mask), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 130), (33, 32)])
@torch.no_grad()
def test_any_size(size: tuple[int, int]) -> None:
    net, image = _net(), picture(2, *size, torch.float64)
    mask = (picture(2, *size, channels=1) < 0.9).double()
    mask[0, 0, 0, 0] = 0
    expected = composite(net(image, mask), image, mask)
    torch.testing.assert_close(fill_holes(net, image, mask), expected, rtol=1e-10, atol=1e-10)


def _decoded(net: PartialUNet, mask: Tensor) -> list[list[int]]:
    """How many pixels each call of each level of the decoder made, the finest level first."""
    made: list[list[int]] = [[] for _ in range(net.levels)]
    for level, calls in enumerate(made, 1):
        net.unit(f"dec{level}").register_forward_hook(
            lambda module, args, out, calls=calls: calls.append(out[1].numel())
        )
    fill_holes(net, picture(1, *mask.shape[2:]), mask)
    return made


def test_less_of_the_decoder_runs_the_smaller_the_hole() -> None:
    mask = torch.ones(1, 1, 256, 256)
    mask[:, :, 100:140, 100:140] = 0
    made = _decoded(_net(dtype=torch.float32), mask)
    # Half as many pixels across as above, and a ring: 40, 22, 12, 8, 5. They go in with another
    # ring, or as twice what they need of the deeper map.
    assert made == [[44**2], [24**2], [14**2], [10**2], [7**2]]


def test_holes_far_apart_are_decoded_apart_where_that_is_less() -> None:
    mask = torch.ones(1, 1, 128, 128)
    mask[:, :, 4:24, 6:22] = 0
    mask[:, :, 90:120, 96:124] = 0
    made = _decoded(_net(dtype=torch.float32), mask)
    assert [len(calls) for calls in made] == [2, 2, 2, 2, 1]


def test_holes_all_over_are_decoded_in_one() -> None:
    mask = torch.ones(1, 1, 128, 128)
    mask[:, :, ::16, ::16] = 0
    mask[:, :, -1, -1] = 0
    made = _decoded(_net(dtype=torch.float32), mask)
    assert made == [[128**2 >> 2 * level] for level in range(5)]


def test_without_a_hole_nothing_is_computed() -> None:
    net, image = _net(dtype=torch.float32), picture(2, 32, 32)
    net.unit("enc1").register_forward_hook(lambda *_: pytest.fail("the encoder ran"))
    filled = fill_holes(net, image, torch.ones(1, 1, 32, 32))
    assert torch.equal(filled, image)
    assert filled.data_ptr() != image.data_ptr()


def test_no_gradient_and_the_images_memory_order() -> None:
    net = _net(dtype=torch.float32)
    image = picture(1, 64, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
    filled = fill_holes(net, image, holes(1, 64, 64))
    assert not filled.requires_grad
    assert filled.is_contiguous(memory_format=torch.channels_last)


def test_under_autocast_the_result_has_the_images_dtype() -> None:
    net, image, mask = _net(dtype=torch.float32), picture(1, 96, 96), torch.ones(1, 1, 96, 96)
    mask[:, :, 30:50, 40:60] = 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        filled = fill_holes(net, image, mask)
        expected = composite(net(image, mask), image, mask)
    assert filled.dtype == torch.float32
    torch.testing.assert_close(filled, expected, rtol=0.05, atol=0.05)


def test_what_is_refused() -> None:
    image, mask = picture(2, 32, 32), holes(2, 32, 32)
    with pytest.raises(ValueError, match=r"net must be in evaluation mode, got .* training mode"):
        fill_holes(small_model("pconv_unet"), image, mask)
    with pytest.raises(ValueError, match=r"fixed statistics.*got RN_L in dec2"):
        fill_holes(small_model("cgan_pc_rn").eval(), image, mask)
    with pytest.raises(TypeError, match=r"net must be a U-Net of partial .*, got RNNet"):
        fill_holes(small_model("rn_net").eval(), image, mask)
    net = small_model("pconv_unet").eval()
    with pytest.raises(ValueError, match="mask must have shape"):
        fill_holes(net, image, mask[:, :, 1:])
    with pytest.raises(ValueError, match=r"image must have shape \(N, 3, H, W\)"):
        fill_holes(net, image[:, :1], mask)
    net.get_submodule("dec3.norm").train()
    with pytest.raises(ValueError, match=r"fixed statistics.*got BatchNorm2d in dec3"):
        fill_holes(net, image, mask)
    own = small_model("pconv_unet").eval()
    norm = own.get_submodule("dec2.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean = norm.running_var = None
    with pytest.raises(ValueError, match=r"fixed statistics.*got BatchNorm2d in dec2"):
        fill_holes(own, image, mask)


def _random_holes(seed: int) -> Tensor:
    """(2, H, W) of a few rectangles each, sometimes none."""
    generator = torch.Generator().manual_seed(seed)

    def number(most: int) -> int:
        return int(torch.randint(1, most + 1, (), generator=generator))

    h, w = number(300), number(700)
    hole = torch.zeros(2, h, w, dtype=torch.bool)
    for n in range(2):
        for _ in range(number(6) - 1):
            top, left = number(h) - 1, number(w) - 1
            hole[n, top : top + number(60), left : left + number(60)] = True
    return hole


@pytest.mark.parametrize("seed", range(20))
def test_boxes_hold_all_holes_and_crops_what_they_need(seed: int) -> None:
    hole = _random_holes(seed)
    found = find_holes(hole)
    covered = torch.zeros_like(hole)
    for box in found:
        covered.unsqueeze(1)[box.slices] = True
    assert not (hole & ~covered).any()

    n, h, w = hole.shape
    sizes = [(n, (h - 1 >> level) + 1, (w - 1 >> level) + 1) for level in range(6)]
    wanted = found
    for boxes, size, deep in zip(plan_levels(found, sizes), sizes[:-1], sizes[1:], strict=True):
        assert all(Box((0, 0, 0), size).holds(box) for box in boxes)
        assert all(any(box.holds(inner) for box in boxes) for inner in wanted)
        wanted = [box.below(deep) for box in boxes]


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 2)])
def test_what_a_box_needs_is_what_its_windows_see(size: tuple[int, int]) -> None:
    """Of numbered pixels, enlarged by torch."""
    h, w = size
    deep = (1, (h + 1) // 2, (w + 1) // 2)
    numbers = torch.arange(deep[1] * deep[2]).view(1, 1, *deep[1:]).double()
    large = F.interpolate(numbers, size=size, mode="nearest")
    for top, left in itertools.product(range(h), range(w)):
        for bottom, right in itertools.product(range(top + 1, h + 1), range(left + 1, w + 1)):
            box = Box((0, top, left), (1, bottom, right))
            seen = large[box.grown((1, h, w)).slices]
            needed = box.below(deep)
            assert torch.equal(numbers[needed.slices].flatten(), seen.unique())
            around = needed.enlarged((1, h, w))
            assert around.holds(box.grown((1, h, w)))
            assert torch.equal(large[around.slices].unique(), seen.unique())


def test_a_hole_is_boxed_tightly() -> None:
    hole = torch.zeros(3, 200, 300, dtype=torch.bool)
    hole[1, 31:66, 129:131] = True
    assert find_holes(hole) == [Box((1, 31, 129), (2, 66, 131))]
    assert find_holes(torch.zeros(3, 200, 300, dtype=torch.bool)) == []


def test_boxes_merge_where_one_call_costs_less() -> None:
    deep = (2, 50, 50)
    a, b = Box((0, 20, 20), (1, 40, 40)), Box((0, 20, 48), (1, 40, 60))
    # 12 x 12 and 12 x 8 pixels of the deeper map; 12 x 22 in one.
    both = Box((0, 20, 20), (1, 40, 60))
    assert merged([a, b], 23, deep) == [a, b]
    assert merged([a, b], 24, deep) == [both]
    # The same hole in two pictures is one box of both, and what lies in another box is gone.
    again = Box((1, 20, 20), (2, 40, 40))
    assert merged([a, again], 0, deep) == [Box((0, 20, 20), (2, 40, 40))]
    assert merged([a, both, b], 0, deep) == [both]


def test_a_level_runs_whole_where_its_boxes_cost_more() -> None:
    """Four around a middle, of which no two would be cheaper as one."""
    size, deep = (1, 180, 180), (1, 90, 90)
    boxes = [
        Box((0, 0, 0), (1, 60, 120)),
        Box((0, 0, 120), (1, 120, 180)),
        Box((0, 120, 60), (1, 180, 180)),
        Box((0, 60, 0), (1, 180, 60)),
    ]
    assert plan_levels(boxes[:2], [size, deep]) == [boxes[:2]]
    assert plan_levels(boxes, [size, deep]) == [[Box((0, 0, 0), size)]]
