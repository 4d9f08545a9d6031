"""Composites, masks' values, padding: what stands around the networks of `inpaint_models`."""

from __future__ import annotations

import pytest
import torch
from inpaint_models import check_mask_values, composite
from inpaint_models.composite import known_part
from inpaint_models.padding import pad_to_multiple
from model_inputs import holes, picture


def test_a_composite_selects_exactly() -> None:
    prediction, image, mask = picture(2, 9, 11) + 2, picture(2, 9, 11), holes(2, 9, 11)
    known = (mask == 1).expand_as(image)
    out = composite(prediction, image, mask)
    assert torch.equal(out[known], image[known])
    assert torch.equal(out[~known], prediction[~known])
    for form in (mask.bool(), mask.double(), (255 * mask).to(torch.uint8)):
        assert torch.equal(composite(prediction, image, form), out)
    first = composite(prediction, image, mask[:1])
    assert torch.equal(first, composite(prediction, image, mask[:1].expand_as(mask)))


def test_a_composite_takes_the_prediction_where_a_mask_is_soft() -> None:
    image, prediction = torch.zeros(1, 3, 1, 4), torch.ones(1, 3, 1, 4)
    mask = torch.tensor([0.0, 0.5, 0.999, 1.0]).reshape(1, 1, 1, 4)
    out = composite(prediction, image, mask)
    assert torch.equal(out[0, 0, 0], torch.tensor([1.0, 1.0, 1.0, 0.0]))


def test_nan_on_the_other_side_reaches_neither_composite_nor_gradient() -> None:
    mask = holes(2, 9, 11)
    known = (mask == 1).expand(2, 3, 9, 11)
    prediction = torch.where(known, torch.nan, picture(2, 9, 11)).requires_grad_()
    image = torch.where(known, picture(2, 9, 11), torch.inf).requires_grad_()
    out = composite(prediction, image, mask)
    assert torch.equal(out, picture(2, 9, 11))
    out.square().sum().backward()
    assert prediction.grad is not None
    assert image.grad is not None
    assert torch.equal(prediction.grad, torch.where(known, 0, 2 * out))
    assert torch.equal(image.grad, torch.where(known, 2 * out, 0))


def test_a_composite_has_the_wider_dtype() -> None:
    image, mask = picture(1, 4, 4), holes(1, 4, 4)
    assert composite(image.bfloat16(), image, mask).dtype == torch.float32
    assert composite(image.bfloat16(), image.bfloat16(), mask).dtype == torch.bfloat16


def test_what_a_composite_refuses() -> None:
    image, mask = picture(2, 4, 4), holes(2, 4, 4)
    with pytest.raises(ValueError, match="prediction and image must have the same shape, got"):
        composite(image[:1], image, mask)
    with pytest.raises(ValueError, match=r"image must have shape \(N, C, H, W\), got \(3, 4, 4\)"):
        composite(image, image[0], mask)
    with pytest.raises(ValueError, match="prediction is on meta, but the image is on cpu"):
        composite(image.to("meta"), image, mask)
    with pytest.raises(TypeError, match="prediction must be a tensor, got NoneType"):
        composite(None, image, mask)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="image must be of a floating-point dtype"):
        composite(image, image.to(torch.uint8), mask)
    with pytest.raises(ValueError, match="mask must have shape"):
        composite(image, image, mask[..., :2])


def test_known_part_selects_holes_and_weighs_the_rest() -> None:
    image = torch.tensor([torch.nan, 2.0, 2.0]).reshape(1, 1, 1, 3)
    mask = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    assert torch.equal(known_part(image, mask).flatten(), torch.tensor([0.0, 0.5, 2.0]))


def test_mask_values() -> None:
    for good in (
        torch.tensor([0.0, 0.3, 1.0]),
        torch.tensor([True, False]),
        torch.tensor([0, 255], dtype=torch.uint8),
        torch.tensor([0, 1]),
        torch.ones(3),
        torch.zeros(3, dtype=torch.int64),
        torch.empty(0),
    ):
        check_mask_values(good)
    for bad, message in [
        (torch.tensor([0.0, 255.0]), r"mask must hold values in \[0, 1\].* from 0 to 255"),
        (torch.tensor([-1.0, 1.0]), "from -1 to 1"),
        (torch.tensor([0.0, torch.nan]), "from nan to nan"),
        (torch.tensor([0, 7, 255], dtype=torch.uint8), "2 other values from 7 to 255"),
        (torch.tensor([-1, 0, 1]), "2 other values from -1 to 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_mask_values(bad)
    with pytest.raises(ValueError, match="hole_mask must hold"):
        check_mask_values(torch.tensor([2.0]), "hole_mask")
    with pytest.raises(TypeError, match="mask must be a tensor, got list"):
        check_mask_values([1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mask must be of a bool, integer or floating-point dtype"):
        check_mask_values(torch.zeros(1, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("size", "multiple", "least", "want"),
    [
        ((1, 1), 8, 16, (16, 16)),
        ((5, 17), 8, 1, (8, 24)),
        ((16, 24), 8, 16, (16, 24)),
        ((13, 4), 4, 12, (16, 12)),
    ],
)
def test_padding_repeats_the_edge(
    size: tuple[int, int], multiple: int, least: int, want: tuple[int, int]
) -> None:
    x = picture(2, *size)
    padded = pad_to_multiple(x, multiple, least)
    assert padded.shape[2:] == want
    h, w = size
    assert torch.equal(padded[..., :h, :w], x)
    assert (padded[..., h:, :w] == x[..., -1:, :]).all()
    assert (padded[..., w:] == padded[..., w - 1 : w]).all()
    assert (padded is x) == (size == want)
