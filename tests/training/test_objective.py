import pytest
import torch

from clarity_cxr import losses
from clarity_cxr.findings import PRIOR_OF_FINDING
from clarity_cxr.models import ClarityOutput, create_model
from clarity_cxr.training.config import LossConfig
from clarity_cxr.training.objective import combined_loss, loss_components

LABELS = (torch.arange(28).reshape(2, 14) % 3 == 0).float()


@pytest.fixture
def output() -> ClarityOutput:
    torch.manual_seed(0)
    model = create_model("clarity_t8_64", width=32, heads=2, depth=2, attention_blocks=1, token_blocks=2)
    return model.train()(torch.randn(2, 3, 64, 64))


@pytest.fixture
def priors() -> torch.Tensor:
    masks = torch.zeros(2, 4, 128, 128, dtype=torch.bool)
    for index in range(4):
        masks[:, index, 20 * index : 20 * index + 60, 30:100] = True
    return masks


def test_components_are_the_public_losses(output: ClarityOutput, priors: torch.Tensor) -> None:
    """Resampling 4 priors and expanding afterwards equals the losses on 14 regions."""
    components = loss_components(output, LABELS, LABELS, priors, LossConfig())
    regions = losses.resample_regions(priors)[:, list(PRIOR_OF_FINDING)]
    heatmaps = losses.resample_heatmaps(output.heatmap)
    expected = {
        "CLS_C": losses.weighted_bce(output.class_logits, LABELS),
        "CLS_P": losses.weighted_bce(output.patch_logits, LABELS),
        "CLS_f": losses.weighted_bce(output.foreground_logits, LABELS),
        "BAS": losses.background_activation_suppression_loss(output.background_logits, output.patch_logits, LABELS),
        "AC": losses.area_constraint_loss(heatmaps),
        "PRX": losses.mask_proximity_loss(heatmaps, regions),
        "CNF": losses.mask_confinement_loss(heatmaps, regions),
        "OCT": losses.orthogonal_class_token_loss(output.class_tokens, LABELS),
    }
    assert components.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(components[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_sum_uses_table_2(output: ClarityOutput, priors: torch.Tensor) -> None:
    components = loss_components(output, LABELS, LABELS, priors, LossConfig())
    c = {name: value.item() for name, value in components.items()}
    expected = (
        2.2674 * c["CLS_C"] + 2.4678 * c["CLS_P"] + 3.9670 * c["CLS_f"] + 0.4377 * c["BAS"] + 1.4000 * c["AC"]
        + 0.0898 * c["PRX"] + 2.1624 * c["CNF"] + 2.6375 * c["OCT"]
    )  # fmt: skip
    assert combined_loss(components, LossConfig()).item() == pytest.approx(expected, rel=1e-5)


def test_targets_move_the_classification_losses_and_labels_the_rest(output: ClarityOutput) -> None:
    soft = torch.full_like(LABELS, 0.5)
    hard = loss_components(output, LABELS, LABELS, None, LossConfig())
    distilled = loss_components(output, LABELS, soft, None, LossConfig())
    assert distilled["CLS_C"].item() == pytest.approx(losses.weighted_bce(output.class_logits, soft, LABELS).item())
    assert distilled["CLS_C"] != hard["CLS_C"]
    assert all(torch.equal(distilled[name], hard[name]) for name in ("BAS", "AC", "OCT"))


def test_without_priors_only_prx_and_cnf_are_off(output: ClarityOutput) -> None:
    names = loss_components(output, LABELS, LABELS, None, LossConfig()).keys()
    assert names == {"CLS_C", "CLS_P", "CLS_f", "BAS", "AC", "OCT"}


def test_without_segment_cam_two_losses_remain() -> None:
    model = create_model("clarity_t8_64", segment_cam=False).train()
    output = model(torch.randn(2, 3, 64, 64))
    assert loss_components(output, LABELS, LABELS, None, LossConfig()).keys() == {"CLS_C", "OCT"}


def test_ablation_options(output: ClarityOutput, priors: torch.Tensor) -> None:
    options = LossConfig(class_loss="mlsm", class_reduction="sum", token_loss="cct", confinement_form="printed")
    components = loss_components(output, LABELS, LABELS, priors, options)
    expected = losses.multilabel_soft_margin(output.class_logits, LABELS, reduction="sum")
    assert components["CLS_C"].item() == pytest.approx(expected.item())
    assert "CCT" in components
    assert "OCT" not in components
    without = loss_components(output, LABELS, LABELS, priors, LossConfig(token_loss="none"))
    assert not {"OCT", "CCT"} & without.keys()
