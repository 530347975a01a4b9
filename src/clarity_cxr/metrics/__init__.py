"""Metrics: pure functions on arrays, and a thin torchmetrics class that gathers across processes."""

from typing import TYPE_CHECKING, Any

from clarity_cxr.metrics.calibration import Reliability, brier_score, expected_calibration_error, reliability
from clarity_cxr.metrics.classification import MacroAucResult, auc_per_finding, macro_auc
from clarity_cxr.metrics.delong import DeLong, delong
from clarity_cxr.metrics.localization import (
    MSLI_THRESHOLDS,
    best_ious,
    box_iou,
    iou_accuracy,
    mask_iou,
    msli,
    msli_of_ious,
)
from clarity_cxr.metrics.unified import udp

if TYPE_CHECKING:
    from clarity_cxr.metrics.macro_auc_metric import MacroAUC

__all__ = [
    "MSLI_THRESHOLDS",
    "DeLong",
    "MacroAUC",
    "MacroAucResult",
    "Reliability",
    "auc_per_finding",
    "best_ious",
    "box_iou",
    "brier_score",
    "delong",
    "expected_calibration_error",
    "iou_accuracy",
    "macro_auc",
    "mask_iou",
    "msli",
    "msli_of_ious",
    "reliability",
    "udp",
]


def __getattr__(name: str) -> Any:
    if name == "MacroAUC":
        from clarity_cxr.metrics.macro_auc_metric import MacroAUC

        return MacroAUC
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
