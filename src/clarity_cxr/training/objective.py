"""The combined loss of CLARiTy (Eq. 18 and 19)."""

from torch import Tensor

from clarity_cxr.losses import (
    background_activation_suppression_loss,
    contrastive_class_token_loss,
    multilabel_soft_margin,
    orthogonal_class_token_loss,
    weighted_bce,
)
from clarity_cxr.losses.anatomy import anatomy_losses
from clarity_cxr.models import ClarityOutput
from clarity_cxr.training.config import LossConfig


def classification_loss(logits: Tensor, labels: Tensor, targets: Tensor, config: LossConfig) -> Tensor:
    """Eq. 3, or its ablation without class weights.

    Args:
        logits: (B, C).
        labels: hard labels (B, C), which the class weights are counted from.
        targets: classification targets u (B, C): the labels, or a teacher's probabilities.
        config: `class_loss` and `class_reduction` are read.
    """
    if config.class_loss == "mlsm":
        return multilabel_soft_margin(logits, targets, reduction=config.class_reduction)
    return weighted_bce(logits, targets, labels, reduction=config.class_reduction)


def loss_components(
    output: ClarityOutput, labels: Tensor, targets: Tensor, priors: Tensor | None, config: LossConfig
) -> dict[str, Tensor]:
    """Every component that is on, under its paper name, unweighted.

    Args:
        output: a forward pass in training mode.
        labels: hard labels (B, C).
        targets: classification targets u (B, C): the labels, or a teacher's probabilities.
        priors: anatomical priors (B, R, H, W) bool, augmented as the films; None turns PRX and CNF off.
        config: the losses' options.
    """

    def classify(logits: Tensor) -> Tensor:
        return classification_loss(logits, labels, targets, config)

    components = {"CLS_C": classify(output.class_logits)}
    if output.heatmap is not None:
        assert output.patch_logits is not None
        assert output.foreground_logits is not None
        assert output.background_logits is not None
        components["CLS_P"] = classify(output.patch_logits)
        components["CLS_f"] = classify(output.foreground_logits)
        components["BAS"] = background_activation_suppression_loss(
            output.background_logits, output.patch_logits, labels, detach_denominator=config.detach_suppression
        )
        anatomy = anatomy_losses(
            output.heatmap,
            priors,
            confinement_form=config.confinement_form,
            similarity_form=config.similarity_form,
        )
        components["AC"] = anatomy.area
        if priors is not None:
            components |= {"PRX": anatomy.proximity, "CNF": anatomy.confinement}
    if config.token_loss != "none":
        assert output.class_tokens is not None
        loss = orthogonal_class_token_loss if config.token_loss == "oct" else contrastive_class_token_loss
        components[config.token_loss.upper()] = loss(output.class_tokens, labels)
    return components


def combined_loss(components: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Weighted sum of the components (Eq. 18 and 19); a teacher's only component, CLS, counts as it is."""
    weights = {
        "CLS": 1.0,
        "CLS_C": config.alpha_class,
        "CLS_P": config.alpha_patch,
        "CLS_f": config.alpha_foreground,
        "BAS": config.beta_suppression,
        "AC": config.beta_area,
        "PRX": config.gamma_proximity,
        "CNF": config.gamma_confinement,
        "OCT": config.delta_tokens,
        "CCT": config.delta_tokens,
    }
    total = next(iter(components.values())).new_zeros(())
    for name, value in components.items():
        total = total + weights[name] * value
    return total
