"""Metrics: pure functions on arrays, and thin torchmetrics classes that gather across processes."""

from clarity_cxr.metrics.classification import MacroAUC, MacroAucResult, auc_per_finding, macro_auc
from clarity_cxr.metrics.localization import (
    MSLI_THRESHOLDS,
    best_ious,
    box_iou,
    iou_accuracy,
    msli,
    msli_of_ious,
)
from clarity_cxr.metrics.unified import udp

__all__ = [
    "MSLI_THRESHOLDS",
    "MacroAUC",
    "MacroAucResult",
    "auc_per_finding",
    "best_ious",
    "box_iou",
    "iou_accuracy",
    "macro_auc",
    "msli",
    "msli_of_ious",
    "udp",
]
