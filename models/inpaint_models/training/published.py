"""The numbers that the papers publish, for the report to set beside ours.

A number stands under the name of the metric that it was computed with (`metrics.METRICS`); what
makes it less than comparable is in the table's notes. Guo, Zhao publishes no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .masks import Range


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper: `values[method][bin][metric]`; bin None is the whole test set."""

    source: str
    values: Mapping[str, Mapping[Range | None, Mapping[str, float]]]
    notes: tuple[str, ...] = ()

    @property
    def bins(self) -> tuple[Range, ...]:
        """The table's hole ratios, in order; none if it is not sorted by ratio."""
        found = {b for by_bin in self.values.values() for b in by_bin if b is not None}
        return tuple(sorted(found))


def _overall(
    metrics: tuple[str, ...], rows: Mapping[str, tuple[float, ...]]
) -> dict[str, dict[Range | None, dict[str, float]]]:
    return {method: {None: dict(zip(metrics, row, strict=True))} for method, row in rows.items()}


RATIOS: tuple[Range, ...] = ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5))


def _by_ratio(
    l1: str, psnr: tuple[float, ...], ssim: tuple[float, ...], l1_values: tuple[float, ...]
) -> dict[Range | None, dict[str, float]]:
    return {
        ratio: {"psnr": a, "ssim": b, l1: c}
        for ratio, a, b, c in zip(RATIOS, psnr, ssim, l1_values, strict=True)
    }


LIU = "l1_percent"
EDGECONNECT = "l1_edgeconnect_grey_percent"

_FROM_EDGECONNECT = (
    "CA, GLCIC and EdgeCnt are taken from EdgeConnect's paper, whose L1 is sum |a - b| / "
    "sum (a + b) (footnote of the table) and whose public script compares grey pictures, with SSIM "
    "windows of 51x51.",
)

PUBLISHED: Mapping[str, PublishedTable] = {
    "shi-1": PublishedTable(
        "Shi et al., table 1: Places, 4 categories, 8 masks of 10-20 %",
        _overall(
            ("l1_percent", "psnr", "ssim"),
            {
                "CGAN+PC+RN 80k iters": (4.371, 22.605, 0.776),
                "PC 80k iters": (5.747, 20.788, 0.658),
                "PC 140k iters": (4.904, 21.856, 0.728),
            },
        ),
        ("The paper does not say how L1 % and SSIM were computed.",),
    ),
    "bernikov-1": PublishedTable(
        "Bernikov et al., section 4.2: average MSE on masked regions, 50x50 holes",
        _overall(
            ("mse_hole",),
            {"1 mask": (0.000416,), "2 masks": (0.000424,), "3 masks": (0.000429,)},
        ),
        ("The paper does not say if it divides by the pixels of the holes or of the picture.",),
    ),
    "lokray-1": PublishedTable(
        "Lokray, Ghosh, section 6: CIFAR-10, loss (MSE)",
        _overall(
            ("mse_output",),
            {
                "Partial Convolution, training": (0.0003,),
                "Partial Convolution, validation": (0.0003,),
                "Partial Convolution, testing": (0.0005,),
                "Vanilla CNN, training": (0.0009,),
                "Vanilla CNN, validation": (0.0013,),
                "Vanilla CNN, testing": (0.0010,),
            },
        ),
        (
            "Its equation speaks of the missing section and divides by n^2; its loss is that of "
            "the network's whole output.",
        ),
    ),
    "isnet-1": PublishedTable(
        "Li et al. (ISNet), table 1: Places2, components",
        _overall(
            ("psnr", "l1_percent", "ssim"),
            {
                "BaseModel": (27.9095, 2.12, 0.8800),
                "BaseModel+FF": (28.2757, 2.06, 0.8860),
                "ISNet": (28.5304, 1.91, 0.8854),
                "UNet-like Net": (25.9900, 2.51, 0.8508),
            },
        ),
    ),
    "isnet-2": PublishedTable(
        "Li et al. (ISNet), table 2: Places2, residual blocks in each stage of ISNet",
        _overall(
            ("psnr", "l1_percent", "ssim"),
            {
                "4 blocks": (28.5304, 1.91, 0.8854),
                "3 blocks": (28.4679, 1.97, 0.8843),
                "2 blocks": (28.4707, 1.97, 0.8841),
                "1 block": (28.0165, 2.05, 0.8816),
            },
        ),
    ),
    "isnet-3": PublishedTable(
        "Li et al. (ISNet), table 3: Places2 test set",
        {
            "CA": _by_ratio(
                EDGECONNECT,
                (24.36, 21.19, 19.13, 17.75),
                (0.893, 0.815, 0.739, 0.662),
                (2.41, 4.23, 6.15, 8.03),
            ),
            "GLCIC": _by_ratio(
                EDGECONNECT,
                (23.49, 20.45, 18.5, 17.17),
                (0.862, 0.771, 0.686, 0.603),
                (2.66, 4.7, 6.78, 8.85),
            ),
            "PConv": _by_ratio(
                LIU,
                (28.02, 24.9, 22.45, 20.86),
                (0.869, 0.777, 0.685, 0.589),
                (1.14, 1.98, 3.02, 4.11),
            ),
            "EdgeCnt": _by_ratio(
                EDGECONNECT,
                (27.95, 24.92, 22.84, 21.16),
                (0.920, 0.861, 0.799, 0.731),
                (1.50, 2.59, 3.77, 5.14),
            ),
            "ISNet": _by_ratio(
                LIU,
                (31.41, 26.88, 23.90, 21.34),
                (0.960, 0.912, 0.854, 0.778),
                (0.63, 1.38, 2.34, 3.74),
            ),
        },
        (
            *_FROM_EDGECONNECT,
            "PConv's numbers are taken to be those of its own paper, Liu et al.",
        ),
    ),
    "isnet-4": PublishedTable(
        "Li et al. (ISNet), table 4: CelebA",
        {
            "CA": _by_ratio(
                EDGECONNECT,
                (25.32, 22.09, 19.94, 18.41),
                (0.888, 0.819, 0.750, 0.678),
                (2.48, 3.98, 5.64, 7.35),
            ),
            "GLCIC": _by_ratio(
                EDGECONNECT,
                (24.09, 20.71, 18.50, 17.09),
                (0.865, 0.773, 0.689, 0.609),
                (2.53, 4.67, 6.95, 9.18),
            ),
            "EdgeCnt": _by_ratio(
                EDGECONNECT,
                (33.51, 30.02, 27.39, 25.28),
                (0.961, 0.928, 0.890, 0.846),
                (0.76, 1.38, 2.13, 3.03),
            ),
            "ISNet": _by_ratio(
                LIU,
                (37.31, 32.13, 28.69, 25.37),
                (0.980, 0.954, 0.921, 0.869),
                (0.33, 0.75, 1.3, 2.26),
            ),
        },
        _FROM_EDGECONNECT,
    ),
}
"""By paper and table."""
