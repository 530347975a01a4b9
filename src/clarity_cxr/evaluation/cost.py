"""Parameters and multiply-adds of a model by component (Table 7), counted on tensors without memory."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from clarity_cxr.models import Clarity
from clarity_cxr.models.config import ModelConfig


class Cost(NamedTuple):
    """Of one film; multiply-adds, where some count two operations."""

    component: str
    parameters: int
    multiply_adds: float


def component_costs(config: ModelConfig) -> list[Cost]:
    """Cost of the backbone, the pooling, SegmentCAM (where there is one) and the total.

    Matrix products and convolutions are counted, norms and activations are not; the pooling, neither of both, is one
    multiply-add per weight. SegmentCAM's background pass, which only training makes, is included.

    Args:
        config: of the model; its weights are not needed.
    """
    model = Clarity(config).train().to("meta")
    films = torch.zeros(2, 3, config.image_size, config.image_size, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(films)
    counted = {name: sum(of.values()) / 2 / len(films) for name, of in counter.get_flop_counts().items()}
    parts = {"backbone": model.backbone, "attention pooling": model.pooling, "SegmentCAM": model.segment_cam}
    names = {"backbone": "Clarity.backbone", "SegmentCAM": "Clarity.segment_cam"}
    costs = []
    for part, module in parts.items():
        if module is None:
            continue
        parameters = sum(weights.numel() for weights in module.parameters())
        costs.append(Cost(part, parameters, counted[names[part]] if part in names else float(parameters)))
    total = Cost("total", sum(cost.parameters for cost in costs), sum(cost.multiply_adds for cost in costs))
    return [*costs, total]
