"""From attention and mask to localization heatmaps, boxes and the threshold of each finding (Section 3.9).

`heatmaps` makes Xi, `boxes` turns Xi into boxes at one or many thresholds, `thresholds` measures the boxes against
the truth at every candidate threshold and chooses the best one.
"""

from clarity_cxr.localization.boxes import ComponentBoxes, SweptBoxes, find_boxes, sweep_boxes
from clarity_cxr.localization.heatmaps import localization_heatmaps, masked_attention, scale_maps

__all__ = [
    "ComponentBoxes",
    "SweptBoxes",
    "find_boxes",
    "localization_heatmaps",
    "masked_attention",
    "scale_maps",
    "sweep_boxes",
]
