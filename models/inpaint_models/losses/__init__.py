"""The losses of the five papers.

Scalars before their weights. The mask is 1 = valid; NaN in the truth means "never measured" and is
left out; see `regions` for the rules that all of them share.

    Shi, Li, Jia, eq. 3       1 valid_l1 + 6 hole_l1 + 0.1 total_variation + PerceptualLoss (VGG16):
                              0.05 perceptual + 120 style; + 1 AdversarialLoss("nsgan")
    Bernikov et al., 2.5      masked_mse or whole_mse, AdversarialLoss("bce"); DAM: attention_loss
    Lokray, Ghosh, section 3  whole_mse
    Li et al. (ISNet), eq. 2  l1 (or l1_per_hole) + 0.1 AdversarialLoss("hinge") + 0.1 perceptual +
                              250 style (VGG19) + 10 feature_matching; eq. 3: hole_only
    Guo, Zhao                 whole_mse, AdversarialLoss("lsgan") or ("bce")
"""

from __future__ import annotations

from .adversarial import AdversarialLoss
from .attention import attention_loss
from .features import feature_l1, feature_matching, gram_matrix, style_l1
from .perceptual import PerceptualLoss, PerceptualTerms
from .pixel import hole_l1, l1, l1_per_hole, masked_mse, valid_l1, whole_mse
from .regions import hole_only, without_unmeasured
from .total_variation import total_variation
from .vgg import VGG, load_vgg

__all__ = [
    "VGG",
    "AdversarialLoss",
    "PerceptualLoss",
    "PerceptualTerms",
    "attention_loss",
    "feature_l1",
    "feature_matching",
    "gram_matrix",
    "hole_l1",
    "hole_only",
    "l1",
    "l1_per_hole",
    "load_vgg",
    "masked_mse",
    "style_l1",
    "total_variation",
    "valid_l1",
    "whole_mse",
    "without_unmeasured",
]
