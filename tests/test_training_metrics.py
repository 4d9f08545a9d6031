"""Metrics, colour correction and baselines against loops and formulas of their own."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from inpaint_models.training import baselines, metrics
from inpaint_models.training.colour import correct_colours
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

Array = npt.NDArray[np.float64]


def _pictures(n: int = 2, height: int = 19, width: int = 23) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, truth and a mask with a hole in each."""
    truth = torch.rand(n, 3, height, width)
    prediction = (truth + 0.2 * torch.randn_like(truth)).clamp(0, 1)
    mask = torch.ones(n, 1, height, width)
    mask[0, :, 2:9, 3:11] = 0
    mask[1:, :, 10:, 5:20] = 0
    return prediction, truth, mask


def _pixels(prediction: Tensor, truth: Tensor, where: Tensor) -> list[tuple[Array, Array]]:
    """The pixels of each picture that `where` selects and the truth has, as NumPy (pixels, 3)."""
    pairs = []
    for a, b, w in zip(prediction, truth, where.expand(len(truth), -1, -1, -1), strict=True):
        columns = [
            (a[:, y, x].double().numpy(), b[:, y, x].double().numpy())
            for y in range(a.shape[1])
            for x in range(a.shape[2])
            if w[0, y, x] and not b[:, y, x].isnan().any()
        ]
        pairs.append((np.array([p for p, _ in columns]), np.array([t for _, t in columns])))
    return pairs


def _wang(a: Array, b: Array, leave_out: npt.NDArray[np.bool_]) -> float:
    """SSIM of one channel by its definition: weighted moments of each window, one at a time."""
    at = np.arange(11) - 5
    weights = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            window = np.s_[y : y + 11, x : x + 11]
            if leave_out[window].any():
                continue
            p, q = a[window], b[window]
            mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
            var_p = (weights * (p - mean_p) ** 2).sum()
            var_q = (weights * (q - mean_q) ** 2).sum()
            both = (weights * (p - mean_p) * (q - mean_q)).sum()
            values.append(
                (2 * mean_p * mean_q + 0.01**2) * (2 * both + 0.03**2)
                / ((mean_p**2 + mean_q**2 + 0.01**2) * (var_p + var_q + 0.03**2))
            )  # fmt: skip
    return float(np.mean(values))


def _grey(pixels: Array) -> Array:
    return 0.2125 * pixels[..., 0] + 0.7154 * pixels[..., 1] + 0.0721 * pixels[..., 2]


def _close(ours: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64))


@pytest.fixture(params=[False, True], ids=["all measured", "some never measured"])
def pictures(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor]:
    prediction, truth, mask = _pictures()
    if request.param:
        truth[0, 1, 4, 4] = torch.nan  # one channel of a hole pixel
        truth[0, :, 17, 22] = torch.nan
        truth[1, :, 0:3, 0:2] = torch.nan
        prediction[1, :, 0, 0] = torch.inf  # nobody looks there
    return prediction, truth, mask


@pytest.mark.parametrize(
    ("metric", "formula"),
    [
        (metrics.l1, lambda a, b: np.abs(a - b).mean()),
        (metrics.mse, lambda a, b: ((a - b) ** 2).mean()),
        (metrics.l1_edgeconnect, lambda a, b: np.abs(a - b).sum() / (a + b).sum()),
        (
            metrics.l1_edgeconnect_grey,
            lambda a, b: np.abs(_grey(a) - _grey(b)).sum() / (_grey(a) + _grey(b)).sum(),
        ),
        (metrics.psnr, lambda a, b: -10 * math.log10(((a - b) ** 2).mean())),
    ],
    ids=["l1", "mse", "l1_edgeconnect", "l1_edgeconnect_grey", "psnr"],
)
def test_a_metric_of_whole_pictures_is_its_formula(
    pictures: tuple[Tensor, Tensor, Tensor],
    metric: Callable[[Tensor, Tensor], Tensor],
    formula: Callable[[Array, Array], float],
) -> None:
    prediction, truth, _ = pictures
    everywhere = torch.ones_like(truth[:, :1], dtype=torch.bool)
    expected = [formula(a, b) for a, b in _pixels(prediction, truth, everywhere)]
    _close(metric(prediction, truth), expected)


def test_metrics_of_the_hole_see_the_hole_only(pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    prediction, truth, mask = pictures
    pairs = _pixels(prediction, truth, mask == 0)
    _close(metrics.l1_hole(prediction, truth, mask), [np.abs(a - b).mean() for a, b in pairs])
    _close(metrics.mse_hole(prediction, truth, mask), [((a - b) ** 2).mean() for a, b in pairs])


def test_ssim_is_wangs_over_windows_that_are_in_the_picture_and_measured(
    pictures: tuple[Tensor, Tensor, Tensor],
) -> None:
    prediction, truth, _ = pictures
    colours, greys = [], []
    for a, b in zip(prediction.double().numpy(), truth.double().numpy(), strict=True):
        unknown = np.isnan(b).any(axis=0)
        colours.append(float(np.mean([_wang(a[c], b[c], unknown) for c in range(3)])))
        with np.errstate(invalid="ignore"):
            greys.append(_wang(_grey(np.moveaxis(a, 0, 2)), _grey(np.moveaxis(b, 0, 2)), unknown))
    _close(metrics.ssim(prediction, truth), colours)
    _close(metrics.ssim_grey(prediction, truth), greys)


def test_ssim_is_the_mean_of_torchmetrics_map_without_its_mirrored_border() -> None:
    prediction, truth, _ = _pictures(3, 40, 33)
    _, similarity = structural_similarity_index_measure(
        prediction.double(), truth.double(), sigma=1.5, data_range=1.0, reduction="none",
        return_full_image=True,
    )  # fmt: skip
    expected = similarity[:, :, 5:-5, 5:-5].mean(dim=(1, 2, 3))
    torch.testing.assert_close(metrics.ssim(prediction, truth), expected)


def test_unmeasured_pixels_change_no_metric_whatever_the_prediction_says_there() -> None:
    prediction, truth, mask = _pictures()
    truth[:, :, 3:6, 4:7] = torch.nan
    other = torch.where(truth.isnan(), 1 - prediction, prediction)
    for metric in metrics.METRICS.values():
        ours = metric.compute(prediction, truth, mask)
        assert ours.isfinite().all(), metric.name
        torch.testing.assert_close(ours, metric.compute(other, truth, mask), rtol=0, atol=0)


def test_equal_pictures_have_no_error_full_similarity_and_infinite_psnr() -> None:
    _, truth, mask = _pictures()
    expected = {"psnr": math.inf, "ssim": 1.0, "ssim_grey": 1.0}
    for name, metric in metrics.METRICS.items():
        values = metric.compute(truth, truth, mask)
        _close(values, [expected.get(name, 0.0)] * 2)


def test_percentages_are_a_hundred_times_the_means() -> None:
    black, mask = torch.zeros(1, 3, 12, 12), torch.ones(1, 1, 12, 12)
    mask[..., :6] = 0
    composite = black.clone()
    composite[..., :6] = 0.5
    values = {
        name: metric.compute(composite, black, mask).item()
        for name, metric in metrics.METRICS.items()
    }
    assert values["l1_percent"] == pytest.approx(25)
    assert values["l1_hole_percent"] == pytest.approx(50)
    assert values["l1_edgeconnect_percent"] == pytest.approx(100)
    assert values["mse"] == pytest.approx(0.125)
    assert values["mse_hole"] == pytest.approx(0.25)


def test_where_nothing_can_be_compared_the_value_is_nan() -> None:
    prediction, truth, mask = _pictures()
    assert metrics.mse_hole(prediction, truth, torch.ones_like(mask)).isnan().all()
    truth[0] = torch.nan
    for name, metric in metrics.METRICS.items():
        values = metric.compute(prediction, truth, mask)
        assert values[0].isnan(), name
        assert values[1].isfinite(), name
    # Some pixels are left, but each window touches one that is not.
    truth[1, :, 9, ::5] = torch.nan
    assert metrics.l1(prediction, truth)[1].isfinite()
    assert metrics.ssim(prediction, truth)[1].isnan()


def test_a_perceptual_distance_gets_finite_pictures_that_agree_where_nothing_was_measured() -> None:
    prediction, truth, _ = _pictures()
    truth[0, :, :3] = torch.nan
    truth[1] = torch.nan
    seen: list[Tensor] = []

    def distance(a: Tensor, b: Tensor) -> Tensor:
        seen.extend((a, b))
        return (a - b).abs().mean(dim=(1, 2, 3))

    values = metrics.perceptual_distance(distance, prediction, truth)
    a, b = seen
    assert a.dtype == b.dtype == torch.float32
    torch.testing.assert_close(a[0, :, :3], b[0, :, :3], rtol=0, atol=0)
    torch.testing.assert_close(a[0, :, 3:], prediction[0, :, 3:])
    torch.testing.assert_close(b[0, :, 3:], truth[0, :, 3:])
    assert values[0] == pytest.approx((a[0] - b[0]).abs().mean().item())
    assert values[1].isnan()
    with pytest.raises(ValueError, match=r"perceptual must return shape \(2,\)"):
        metrics.perceptual_distance(lambda a, b: (a - b).mean(), prediction, truth)


def test_metrics_name_the_argument_that_is_wrong() -> None:
    prediction, truth, mask = _pictures()
    with pytest.raises(ValueError, match="prediction must have the shape of truth"):
        metrics.l1(prediction[:, :, 1:], truth)
    with pytest.raises(ValueError, match=r"truth must have shape \(N, 3, H, W\)"):
        metrics.psnr(prediction, truth[0])
    with pytest.raises(TypeError, match="prediction must be of a floating-point dtype"):
        metrics.mse(prediction.long(), truth)
    with pytest.raises(ValueError, match="at least 11x11 pixels, got 19x10"):
        metrics.ssim(prediction[..., :10], truth[..., :10])
    with pytest.raises(ValueError, match=r"0 \(hole\) and 1 \(valid\) only, got 0 to 0\.5"):
        metrics.l1_hole(prediction, truth, mask / 2)
    prediction[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="prediction holds NaN or infinity"):
        metrics.l1(prediction, truth)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prediction, truth, mask = _pictures()
    for module in ("cv2", "torchmetrics.functional.image"):
        monkeypatch.setitem(sys.modules, module, None)
    install = r"pip install 'inpaint_ops\[train\]'"
    with pytest.raises(ImportError, match="torchmetrics, which is not installed: " + install):
        metrics.psnr(prediction, truth)
    with pytest.raises(ImportError, match="opencv-python-headless, .*" + install):
        baselines.telea(truth, mask)


def test_colour_correction_is_least_squares_on_the_known_pixels() -> None:
    prediction, truth, mask = _pictures()
    prediction[:, :, 5, 5] = 7.0  # in the first picture's hole: corrected, but not fitted
    truth[1, :, 0, 0] = torch.nan
    ours = correct_colours(prediction, truth, mask)
    shifted = correct_colours(prediction, truth, mask, fit="offset")
    for i, (a, b) in enumerate(_pixels(prediction, truth, mask != 0)):
        for c in range(3):
            gain, offset = np.polyfit(a[:, c], b[:, c], 1)
            torch.testing.assert_close(
                ours[i, c], gain * prediction[i, c] + offset, rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(
                shifted[i, c], prediction[i, c] + float((b - a)[:, c].mean()), rtol=1e-4, atol=1e-5
            )


def test_colour_correction_undoes_a_gain_and_an_offset_in_the_hole() -> None:
    _, truth, mask = _pictures()
    gain = torch.tensor([0.5, 0.8, 1.3]).view(1, 3, 1, 1)
    image = truth.masked_fill(mask == 0, torch.nan)
    torch.testing.assert_close(correct_colours(gain * truth + 0.1, image, mask), truth)


@pytest.mark.parametrize("fit", ["gain_and_offset", "offset"])
def test_colour_correction_of_a_hole_everywhere_or_nowhere_and_of_one_flat_colour(fit: str) -> None:
    prediction, truth, mask = _pictures()
    everywhere = correct_colours(prediction, truth, torch.zeros_like(mask), fit)
    torch.testing.assert_close(everywhere, prediction, rtol=0, atol=0)
    nowhere = correct_colours(prediction, truth, torch.ones_like(mask), fit)
    torch.testing.assert_close(nowhere.mean(dim=(2, 3)), truth.mean(dim=(2, 3)))
    flat = correct_colours(torch.full_like(truth, 0.3), truth, torch.ones_like(mask), fit)
    expected = truth.mean(dim=(2, 3), keepdim=True).expand_as(truth)
    torch.testing.assert_close(flat, expected)
    with pytest.raises(ValueError, match="fit must be one of 'gain_and_offset', 'offset'"):
        correct_colours(prediction, truth, mask, "scale")


def test_mean_colour_is_the_mean_of_the_known_pixels() -> None:
    _, truth, mask = _pictures()
    filled = baselines.mean_colour(truth, mask)
    for i, (_, known) in enumerate(_pixels(truth, truth, mask != 0)):
        expected = torch.from_numpy(known.mean(axis=0)).float().view(3, 1, 1).expand(3, 19, 23)
        torch.testing.assert_close(filled[i], expected)


@pytest.mark.parametrize("name", list(baselines.BASELINES))
def test_a_baseline_never_reads_the_hole(name: str) -> None:
    _, truth, mask = _pictures()
    method = baselines.BASELINES[name]
    filled = method(truth, mask)
    assert filled.shape == truth.shape
    assert filled.dtype == torch.float32
    poisoned = truth.masked_fill(mask == 0, torch.nan)
    torch.testing.assert_close(method(poisoned, mask), filled, rtol=0, atol=0)


@pytest.mark.parametrize("name", list(baselines.BASELINES))
def test_a_baseline_keeps_one_colour_and_makes_grey_of_nothing(name: str) -> None:
    colour = torch.tensor([1.0, 0.4, 0.0]).view(1, 3, 1, 1)
    image, mask = colour.expand(1, 3, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.bool)
    mask[..., 4:12, 4:12] = False
    # Two steps of 8 bits: OpenCV's Telea does not keep a constant exactly.
    torch.testing.assert_close(baselines.BASELINES[name](image, mask), image, rtol=0, atol=2 / 255)
    nothing = baselines.BASELINES[name](image, torch.zeros_like(mask))
    torch.testing.assert_close(nothing, torch.full_like(image, 0.5), rtol=0, atol=0)


@pytest.mark.parametrize("method", [baselines.telea, baselines.navier_stokes])
def test_opencv_fills_a_gap_in_a_gradient_better_than_the_mean_colour(
    method: baselines.Fill,
) -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    mask = torch.ones(1, 1, 32, 32)
    mask[..., 10:22, 4:10] = 0
    error = metrics.l1_hole(method(ramp, mask), ramp, mask)
    assert error < 0.5 * metrics.l1_hole(baselines.mean_colour(ramp, mask), ramp, mask)
    with pytest.raises(ValueError, match="radius must be positive, got 0"):
        baselines.telea(ramp, mask, radius=0)
