"""The losses of `inpaint_models.losses` against plain formulas in float64, and what they ignore."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from inpaint_models import composite, losses
from inpaint_models.losses import AdversarialLoss
from torch import Tensor

PixelLoss = Callable[[Tensor, Tensor, Tensor], Tensor]

# Each as a function of prediction, truth and mask, so that all run through the same tests.
PIXEL_LOSSES: dict[str, PixelLoss] = {
    "valid_l1": losses.valid_l1,
    "valid_l1 region": lambda p, t, m: losses.valid_l1(p, t, m, mean_over="region"),
    "hole_l1": losses.hole_l1,
    "hole_l1 region": lambda p, t, m: losses.hole_l1(p, t, m, mean_over="region"),
    "l1": lambda p, t, m: losses.l1(p, t),
    "l1_per_hole": losses.l1_per_hole,
    "masked_mse": losses.masked_mse,
    "masked_mse region": lambda p, t, m: losses.masked_mse(p, t, m, mean_over="region"),
    "whole_mse": lambda p, t, m: losses.whole_mse(p, t),
    "total_variation": losses.total_variation,
    "total_variation image": lambda p, t, m: losses.total_variation(p, t, m, region="image"),
    "attention_loss": lambda p, t, m: losses.attention_loss(attention_maps(p), p, t, m),
    "attention_loss image": lambda p, t, m: losses.attention_loss(
        attention_maps(p), p, t, m, mean_over="image"
    ),
}
# Which regions of the prediction a loss reads, where the truth is measured.
SEES_VALID = {"valid_l1", "valid_l1 region", "l1", "l1_per_hole", "whole_mse"}
SEES_HOLE = set(PIXEL_LOSSES) - {"valid_l1", "valid_l1 region"}


def attention_maps(prediction: Tensor) -> list[Tensor]:
    """Maps of three sizes made of the prediction, so that its gradient and NaN go through them."""
    mean = prediction.mean(1, keepdim=True)
    return [mean[:, :, ::step, ::step].sigmoid() for step in (1, 2, 4)]


def images(
    n: int = 2, channels: int = 3, size: int = 16, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, truth with NaN in both regions, mask."""
    generator = torch.Generator().manual_seed(5)
    prediction = torch.rand(n, channels, size, size, generator=generator, dtype=torch.float64)
    truth = torch.rand(n, channels, size, size, generator=generator, dtype=torch.float64)
    mask = torch.ones(n, 1, size, size, dtype=torch.float64)
    mask[0, :, 4:10, 3:9] = 0
    mask[-1, :, :5, size // 2 :] = 0
    truth[0, :, 8:12, 5:7] = math.nan
    truth[-1, 0, 2:7, size // 2 + 1 : size - 1] = math.nan
    truth[-1, :, size - 2, size - 2] = math.nan
    return prediction.to(dtype), truth.to(dtype), mask.to(dtype)


def plain(name: str, prediction: Tensor, truth: Tensor, mask: Tensor) -> float:
    """The equations, value by value."""
    kind, _, option = name.partition(" ")
    n, c, h, w = prediction.shape
    p, t = prediction.tolist(), truth.tolist()
    hole = (mask == 0).expand(n, 1, h, w)[:, 0].tolist()
    if kind == "attention_loss":
        return _plain_attention(prediction, truth, hole, option)
    if kind == "total_variation":
        return _plain_variation(p, t, hole, option)
    total, measured, in_region = 0.0, 0, 0
    for b in range(n):
        for k in range(c):
            for y in range(h):
                for x in range(w):
                    if math.isnan(t[b][k][y][x]):
                        continue
                    measured += 1
                    if kind in ("valid_l1", "hole_l1", "masked_mse") and hole[b][y][x] == (
                        kind == "valid_l1"
                    ):
                        continue
                    in_region += 1
                    error = abs(p[b][k][y][x] - t[b][k][y][x])
                    total += error**2 if kind.endswith("mse") else error
    loss = total / (in_region if option == "region" else measured)
    if kind == "l1_per_hole":
        loss /= sum(sum(map(sum, image)) for image in hole) / (n * h * w)
    return loss


def _plain_variation(p: Any, t: Any, hole: list[list[list[bool]]], option: str) -> float:
    n, c, h, w = len(p), len(p[0]), len(p[0][0]), len(p[0][0][0])

    def in_region(b: int, y: int, x: int) -> bool:
        return option == "image" or any(
            hole[b][i][j]
            for i in range(max(y - 1, 0), min(y + 2, h))
            for j in range(max(x - 1, 0), min(x + 2, w))
        )

    total, measured = 0.0, 0
    for b in range(n):
        for k in range(c):
            for y in range(h):
                for x in range(w):
                    if math.isnan(t[b][k][y][x]):
                        continue
                    measured += 1
                    for i, j in ((y + 1, x), (y, x + 1)):
                        if i == h or j == w or math.isnan(t[b][k][i][j]):
                            continue
                        if in_region(b, y, x) and in_region(b, i, j):
                            here = (p if hole[b][y][x] else t)[b][k][y][x]
                            there = (p if hole[b][i][j] else t)[b][k][i][j]
                            total += abs(here - there)
    return total / measured


def _plain_attention(
    prediction: Tensor, truth: Tensor, hole: list[list[list[bool]]], option: str
) -> float:
    n, c, h, w = prediction.shape
    loss = 0.0
    for attention in attention_maps(prediction):
        step = h // attention.shape[2]
        total, pixels, in_hole = 0.0, 0, 0
        for b in range(n):
            for y in range(h):
                for x in range(w):
                    errors = [
                        abs(float(truth[b, k, y, x]) - float(prediction[b, k, y, x]))
                        for k in range(c)
                        if not math.isnan(truth[b, k, y, x])
                    ]
                    pixels += bool(errors)
                    if errors and hole[b][y][x]:
                        in_hole += 1
                        target = sum(errors) / len(errors)
                        total += abs(float(attention[b, 0, y // step, x // step]) - target)
        loss += total / (pixels if option == "image" else in_hole)
    return loss


# Values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_a_pixel_loss_is_its_equation(name: str) -> None:
    prediction, truth, mask = images()
    loss = PIXEL_LOSSES[name](prediction, truth, mask)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(plain(name, prediction, truth, mask), rel=1e-12)


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_a_mask_may_be_shared_by_the_batch_and_of_any_dtype(name: str) -> None:
    prediction, truth, mask = images()
    one = mask[:1]
    expected = plain(name, prediction, truth, one)
    for shared in (one, one.bool(), (one * 255).byte()):
        loss = PIXEL_LOSSES[name](prediction, truth, shared)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_with_all_measured_the_denominator_is_every_value_of_the_batch() -> None:
    prediction, _, mask = images()
    truth = prediction + 0.5
    share = 1 - mask.mean().item()
    assert losses.hole_l1(prediction, truth, mask).item() == pytest.approx(0.5 * share)
    assert losses.valid_l1(prediction, truth, mask).item() == pytest.approx(0.5 * (1 - share))
    assert losses.hole_l1(prediction, truth, mask, mean_over="region").item() == pytest.approx(0.5)
    assert losses.masked_mse(prediction, truth, mask).item() == pytest.approx(0.25 * share)
    assert losses.l1_per_hole(prediction, truth, mask).item() == pytest.approx(0.5 / share)


def test_total_variation_reaches_one_pixel_beyond_the_hole_diagonals_included() -> None:
    truth = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    truth[0, 0, 1, 1] = 1  # diagonal to the hole: two of its four pairs lie in the 3x3 square
    mask = torch.ones_like(truth)
    mask[0, 0, 2, 2] = 0
    prediction = torch.zeros_like(truth)
    assert losses.total_variation(prediction, truth, mask).item() == pytest.approx(2 / 25)
    whole = losses.total_variation(prediction, truth, mask, region="image")
    assert whole.item() == pytest.approx(4 / 25)


def test_total_variation_of_a_single_row_or_column_is_that_of_its_only_direction() -> None:
    prediction = torch.tensor([0.0, 1.0, 3.0]).view(1, 1, 1, 3)
    truth, mask = torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1, 3)
    assert losses.total_variation(prediction, truth, mask).item() == pytest.approx(1)
    column = [x.mT for x in (prediction, truth, mask)]
    assert losses.total_variation(*column).item() == pytest.approx(1)


def test_attention_maps_are_taught_where_the_image_errs_and_the_image_is_not() -> None:
    prediction, truth, mask = images()
    prediction.requires_grad_()
    attention = torch.full((2, 1, 16, 16), 0.5, dtype=torch.float64, requires_grad=True)
    losses.attention_loss([attention], prediction, truth, mask).backward()
    assert prediction.grad is None
    assert attention.grad is not None
    unread = (mask != 0) | truth.isnan().all(1, keepdim=True)
    assert torch.equal(attention.grad == 0, unread)
    error = (prediction - truth).detach().abs().nanmean(1, keepdim=True)
    assert torch.equal(attention.grad[~unread] > 0, (error < 0.5)[~unread])


# Gradients and what is left out -------------------------------------------------------------


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    # Random values are far from the kinks of |x|. The attention loss holds its target fixed, so
    # the difference goes through the maps alone and is tested above.
    if name.startswith("attention_loss"):
        _, truth, mask = images(size=8)
        prediction = images(size=8)[0]
        maps = [m.clone().requires_grad_() for m in attention_maps(prediction)]
        assert torch.autograd.gradcheck(
            lambda *m: losses.attention_loss(m, prediction, truth, mask), maps
        )
        return
    prediction, truth, mask = images(size=8)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: PIXEL_LOSSES[name](p, truth, mask), (prediction,))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_a_bad_prediction_that_is_not_measured_reaches_neither_value_nor_gradient(
    name: str, bad: float
) -> None:
    prediction, truth, mask = images()
    hole = (mask == 0).expand_as(truth)
    unread = truth.isnan()
    if name not in SEES_VALID:
        unread = unread | ~hole
    if name not in SEES_HOLE:
        unread = unread | hole
    clean = prediction.clone().requires_grad_()
    dirty = torch.where(unread, bad, prediction).requires_grad_()
    if name.startswith("attention_loss"):
        # Its maps come from elsewhere than the prediction in a network.
        maps = attention_maps(prediction)
        maps[0] = torch.where(mask == 0, maps[0], bad)
        mean_over = "image" if name.endswith("image") else "region"
        args = (truth, mask)
        expected = losses.attention_loss(
            attention_maps(prediction), clean, *args, mean_over=mean_over
        )
        assert torch.equal(losses.attention_loss(maps, dirty, *args, mean_over=mean_over), expected)
        return
    expected, value = (PIXEL_LOSSES[name](p, truth, mask) for p in (clean, dirty))
    expected.backward()
    value.backward()
    assert torch.equal(value, expected)
    assert clean.grad is not None
    assert dirty.grad is not None
    assert torch.equal(dirty.grad, clean.grad)
    assert torch.count_nonzero(dirty.grad[unread]) == 0
    assert torch.count_nonzero(dirty.grad[~unread]) > 0


@pytest.mark.parametrize("name", PIXEL_LOSSES)
@pytest.mark.parametrize("case", ["no hole", "all hole", "nothing measured"])
def test_an_empty_region_gives_a_finite_loss_and_gradient(name: str, case: str) -> None:
    prediction, truth, mask = images()
    if case == "nothing measured":
        truth = torch.full_like(truth, math.nan)
    else:
        mask = torch.full_like(mask, float(case == "no hole"))
    prediction.requires_grad_()
    loss = PIXEL_LOSSES[name](prediction, truth, mask)
    loss.backward()
    assert loss.isfinite()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    needs_hole = name not in SEES_VALID and name != "total_variation image"
    if (
        case == "nothing measured"
        or (case == "no hole" and (needs_hole or name == "l1_per_hole"))
        or (case == "all hole" and name in {"valid_l1", "valid_l1 region"})
    ):
        assert loss.item() == 0
        assert torch.count_nonzero(prediction.grad) == 0
    else:
        assert loss.item() > 0


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_half_precision_is_summed_in_float32(name: str, dtype: torch.dtype, autocast: bool) -> None:
    prediction, truth, mask = images(dtype=dtype)
    # Squares and sums far beyond 65504, the largest float16.
    prediction = prediction * 30000
    maps = [m.detach() for m in attention_maps(prediction)]

    def loss_of(p: Tensor, t: Tensor, m: Tensor) -> Tensor:
        if not name.startswith("attention_loss"):
            return PIXEL_LOSSES[name](p, t, m)
        mean_over = "image" if name.endswith("image") else "region"
        return losses.attention_loss([x.to(p.dtype) for x in maps], p, t, m, mean_over=mean_over)

    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        loss = loss_of(prediction, truth, mask)
    assert loss.dtype == torch.float32
    exact = loss_of(prediction.double(), truth.double(), mask.double())
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_a_half_precision_prediction_goes_with_a_float32_truth() -> None:
    prediction, truth, mask = images(dtype=torch.float32)
    half = prediction.half().requires_grad_()
    loss = losses.hole_l1(half, truth, mask)
    loss.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.float16
    expected = losses.hole_l1(half.detach().float(), truth, mask)
    assert torch.equal(loss.detach(), expected)


def test_no_gradient_flows_to_the_truth() -> None:
    prediction, truth, mask = images()
    truth.requires_grad_()
    for loss in PIXEL_LOSSES.values():
        assert not loss(prediction, truth, mask).requires_grad


# Images for discriminators ------------------------------------------------------------------


def test_composite_hole_only_and_without_unmeasured_select() -> None:
    prediction, truth, mask = images()
    hole = (mask == 0).expand_as(truth)
    dirty = torch.where(hole, prediction, math.nan).requires_grad_()
    seen = losses.hole_only(dirty, mask)
    assert torch.equal(seen, torch.where(hole, prediction, 0.0))
    joined = composite(dirty, truth, mask)
    assert torch.equal(joined[hole], prediction[hole])
    assert torch.equal(joined[~hole].nan_to_num(9.0), truth[~hole].nan_to_num(9.0))
    fake = losses.without_unmeasured(joined, truth, 0.5)
    real = losses.without_unmeasured(truth, truth, 0.5)
    assert torch.equal(fake[truth.isnan()], real[truth.isnan()])
    (seen.sum() + fake.sum()).backward()
    assert dirty.grad is not None
    assert torch.equal(dirty.grad, hole.double() + (hole & ~truth.isnan()).double())


# Adversarial --------------------------------------------------------------------------------


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@pytest.mark.parametrize("kind", ["bce", "nsgan", "hinge", "lsgan"])
def test_adversarial_losses_are_their_equations(kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    real = torch.randn(2, 1, 5, 4, generator=generator, dtype=torch.float64)
    fake = torch.randn(3, 1, generator=generator, dtype=torch.float64)
    r, f = real.flatten().tolist(), fake.flatten().tolist()
    if kind == "hinge":
        d = sum(max(0, 1 - x) for x in r) / len(r) + sum(max(0, 1 + x) for x in f) / len(f)
        g = -sum(f) / len(f)
    elif kind == "lsgan":
        d = sum((x - 1) ** 2 for x in r) / len(r) + sum(x**2 for x in f) / len(f)
        g = sum((x - 1) ** 2 for x in f) / len(f)
    else:
        d = -sum(map(log_sigmoid, r)) / len(r) - sum(log_sigmoid(-x) for x in f) / len(f)
        d = d / 2 if kind == "nsgan" else d
        g = -sum(map(log_sigmoid, f)) / len(f)
    loss = AdversarialLoss(kind)
    assert loss.discriminator(real, fake).item() == pytest.approx(d, rel=1e-12)
    assert loss.generator(fake).item() == pytest.approx(g, rel=1e-12)
    logits = (real.requires_grad_(), fake.requires_grad_())
    assert torch.autograd.gradcheck(loss.discriminator, logits)
    assert torch.autograd.gradcheck(loss.generator, logits[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bce", "nsgan", "hinge", "lsgan"])
def test_adversarial_losses_of_large_half_precision_logits_are_finite(
    kind: str, dtype: torch.dtype
) -> None:
    loss = AdversarialLoss(kind)
    real = torch.full((4, 1, 30, 30), -60000.0, dtype=dtype, requires_grad=True)
    fake = torch.full((4, 1, 30, 30), 60000.0, dtype=dtype, requires_grad=True)
    value = loss.discriminator(real, fake) + loss.generator(-fake)
    assert value.dtype == torch.float32
    exact = loss.discriminator(real.double(), fake.double()) + loss.generator(-fake.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)
    value.backward()
    for logits in (real, fake):
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        assert torch.count_nonzero(logits.grad) == logits.numel()


# Features -----------------------------------------------------------------------------------


def feature_maps(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, c, s, s + 1, generator=generator, dtype=torch.float64)
        for c, s in ((3, 6), (5, 3))
    ]


def test_feature_matching_is_the_sum_of_means_and_holds_the_real_maps_fixed() -> None:
    fake, real = feature_maps(1), feature_maps(2)
    for features in (*fake, *real):
        features.requires_grad_()
    loss = losses.feature_matching(fake, real)
    expected = 0.0
    for f, r in zip(fake, real, strict=True):
        pairs = list(zip(f.flatten().tolist(), r.flatten().tolist(), strict=True))
        expected += sum(abs(a - b) for a, b in pairs) / len(pairs)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    assert all(features.grad is not None for features in fake)
    assert all(features.grad is None for features in real)


def plain_gram(features: Tensor) -> Tensor:
    n, c, h, w = features.shape
    gram = torch.zeros(n, c, c, dtype=torch.float64)
    for b in range(n):
        for i in range(c):
            for j in range(c):
                gram[b, i, j] = (features[b, i].double() * features[b, j].double()).sum()
    return gram / (c * h * w)


def test_style_is_the_mean_distance_of_gram_matrices() -> None:
    features, targets = feature_maps(3), feature_maps(4)
    expected = 0.0
    for f, t in zip(features, targets, strict=True):
        assert torch.allclose(losses.gram_matrix(f), plain_gram(f), rtol=1e-12, atol=1e-14)
        n, c = f.shape[:2]
        expected += (plain_gram(f) - plain_gram(t)).abs().sum().item() / (n * c * c)
    assert losses.style_l1(features, targets).item() == pytest.approx(expected, rel=1e-12)
    variables = [f.requires_grad_() for f in features]
    assert torch.autograd.gradcheck(lambda *f: losses.style_l1(f, targets), variables)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gram_matrices_of_large_half_precision_features_do_not_overflow(
    dtype: torch.dtype, autocast: bool
) -> None:
    features = (feature_maps(5)[0] * 10000).to(dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        gram = losses.gram_matrix(features)
        # Under autocast a product of float32 matrices would be one of half precision.
        wide = losses.gram_matrix(features.float())
    assert gram.dtype == wide.dtype == torch.float32
    exact = plain_gram(features)
    assert exact.max() > torch.finfo(torch.float16).max
    for result in (gram, wide):
        assert torch.allclose(result.double(), exact, rtol=1e-5, atol=1e-5 * exact.max().item())


# Errors -------------------------------------------------------------------------------------

IMAGE = torch.zeros(2, 3, 8, 8)
MASK = torch.ones(2, 1, 8, 8)
NO_TENSOR: Any = 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.l1(NO_TENSOR, IMAGE), TypeError, "prediction must be a tensor, got int"),
        (lambda: losses.l1(IMAGE[0], IMAGE), ValueError, r"prediction must have shape \(N, C, H"),
        (lambda: losses.l1(IMAGE, IMAGE.int()), TypeError, "truth must be of a floating-point"),
        (lambda: losses.l1(IMAGE, IMAGE[:, :2]), ValueError, "truth must have the shape of pred"),
        (lambda: losses.l1(IMAGE[:0], IMAGE[:0]), ValueError, "at least one pixel"),
        (lambda: losses.l1(IMAGE, IMAGE.to("meta")), ValueError, "truth is on meta"),
        (lambda: losses.hole_l1(IMAGE, IMAGE, IMAGE), ValueError, "mask must have shape"),
        (
            lambda: losses.valid_l1(IMAGE, IMAGE, MASK, mean_over="hole"),
            ValueError,
            "mean_over must be one of 'image', 'region', got 'hole'",
        ),
        (
            lambda: losses.masked_mse(IMAGE, IMAGE, MASK, mean_over="hole"),
            ValueError,
            "mean_over must be one of",
        ),
        (
            lambda: losses.total_variation(IMAGE, IMAGE, MASK, region="all"),
            ValueError,
            "region must be one of 'hole', 'image', got 'all'",
        ),
        (
            lambda: losses.attention_loss([], IMAGE, IMAGE, MASK),
            ValueError,
            "maps must have at least one",
        ),
        (
            lambda: losses.attention_loss([IMAGE], IMAGE, IMAGE, MASK),
            ValueError,
            r"maps\[0\] must have shape \(2, 1, h, w\)",
        ),
        (
            lambda: losses.attention_loss([MASK, MASK.int()], IMAGE, IMAGE, MASK),
            TypeError,
            r"maps\[1\] must be of a floating-point dtype",
        ),
        (
            lambda: losses.attention_loss([MASK.to("meta")], IMAGE, IMAGE, MASK),
            ValueError,
            r"maps\[0\] is on meta",
        ),
        (
            lambda: losses.attention_loss([NO_TENSOR], IMAGE, IMAGE, MASK),
            TypeError,
            r"maps\[0\] must be a",
        ),
        (
            lambda: AdversarialLoss("wgan"),
            ValueError,
            "kind must be one of 'bce', 'nsgan', 'hinge', 'lsgan'",
        ),
        (
            lambda: AdversarialLoss("bce").generator(NO_TENSOR),
            TypeError,
            "fake_logits must be a tensor",
        ),
        (lambda: AdversarialLoss("bce").generator(MASK.int()), TypeError, "floating-point"),
        (
            lambda: AdversarialLoss("bce").discriminator(MASK[:0], MASK),
            ValueError,
            "real_logits must have at least one value",
        ),
        (lambda: losses.feature_matching([], []), ValueError, "fake_features must have at least"),
        (
            lambda: losses.feature_matching([IMAGE], [IMAGE, IMAGE]),
            ValueError,
            "real_features must have as many maps as fake_features, 1, got 2",
        ),
        (
            lambda: losses.feature_matching([IMAGE], [MASK]),
            ValueError,
            r"real_features\[0\] must have the shape of fake_features\[0\]",
        ),
        (lambda: losses.gram_matrix(IMAGE[0]), ValueError, r"features must have shape \(N, C, H"),
    ],
)
def test_errors_name_the_argument(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
