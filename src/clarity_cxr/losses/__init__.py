"""CLARiTy's losses: pure functions, one file per family, computed in float32 whatever the autocast."""

from clarity_cxr.losses.anatomy import (
    AnatomyLosses,
    anatomy_losses,
    area_constraint_loss,
    mask_confinement_loss,
    mask_proximity_loss,
    region_similarity_weights,
    resample_heatmaps,
    resample_regions,
)
from clarity_cxr.losses.class_tokens import contrastive_class_token_loss, orthogonal_class_token_loss
from clarity_cxr.losses.classification import multilabel_soft_margin, weighted_bce
from clarity_cxr.losses.distance import euclidean_distance_transform
from clarity_cxr.losses.suppression import background_activation_suppression_loss

__all__ = [
    "AnatomyLosses",
    "anatomy_losses",
    "area_constraint_loss",
    "background_activation_suppression_loss",
    "contrastive_class_token_loss",
    "euclidean_distance_transform",
    "mask_confinement_loss",
    "mask_proximity_loss",
    "multilabel_soft_margin",
    "orthogonal_class_token_loss",
    "region_similarity_weights",
    "resample_heatmaps",
    "resample_regions",
    "weighted_bce",
]
