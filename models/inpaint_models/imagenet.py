"""Statistics of ImageNet's pictures, by channel: red, green, blue in [0, 1]."""

from __future__ import annotations

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
