import pytest
import torch
from torch import Tensor

from clarity_cxr.losses import background_activation_suppression_loss, weighted_bce
from clarity_cxr.models import Clarity, create_model


def tiny(**options: object) -> Clarity:
    torch.manual_seed(0)
    return create_model("clarity_t8_64", width=32, heads=2, depth=2, attention_blocks=1, token_blocks=1, **options)


def heatmap_gradient(model: Clarity, images: Tensor, which: str) -> float:
    labels = torch.zeros(len(images), 14)
    labels[:, ::2] = 1
    output = model.train()(images)
    if which == "suppression":
        loss = background_activation_suppression_loss(output.background_logits, output.patch_logits, labels)
    else:
        loss = weighted_bce(output.foreground_logits, labels)
    loss.backward()
    gradient = model.segment_cam.heatmap_head.expand.weight.grad
    return 0.0 if gradient is None else gradient.abs().max().item()


@pytest.mark.parametrize("which", ["suppression", "foreground"])
@pytest.mark.parametrize(("mode", "reaches"), [("straight_through", True), ("soft", True), ("hard", False)])
def test_gradient_reaches_the_heatmap_head(mode: str, reaches: bool, which: str, images: Tensor) -> None:
    """The paper's hard threshold sends nothing; straight-through does."""
    gradient = heatmap_gradient(tiny(mask_gradient=mode), images, which)
    assert (gradient > 0) is reaches


def test_straight_through_is_binary_forward() -> None:
    cam = tiny().segment_cam
    heatmap = torch.rand(1, 14, 8, 8)
    assert torch.equal(cam.mask(heatmap), (heatmap > 0.5).float())


def test_masks_act_where_the_method_puts_them(images: Tensor) -> None:
    """Foreground masks the head's output; background masks its input; both divide by N * N."""
    model = tiny().eval()
    cam = model.segment_cam
    with torch.no_grad():
        patch_tokens = model.backbone(images).patch_tokens
        output = cam(patch_tokens)
        grid = patch_tokens.transpose(1, 2).reshape(len(images), -1, 8, 8)
        features = cam.feature_head(grid)
        scores = cam._classify(features)
        mask = (cam.heatmap_head(grid).sigmoid() > 0.5).float()
    assert 0 < mask.mean() < 1
    torch.testing.assert_close(output.patch_logits, scores.sum(dim=(2, 3)) / 64, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.foreground_logits, (mask * scores).sum(dim=(2, 3)) / 64, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["joint", "running", "own"])
def test_background_statistics(mode: str, images: Tensor) -> None:
    """The background logits follow from the stated statistics of the head's BatchNorm."""
    model = tiny(background_norm=mode).train()
    cam = model.segment_cam
    with torch.no_grad():
        patch_tokens = model.backbone(images).patch_tokens
        grid = patch_tokens.unflatten(1, (8, 8)).permute(0, 3, 1, 2)
        features = cam.feature_head(grid)
        background = (1 - cam.mask(cam.heatmap_head(grid).sigmoid())) * features
        actual = cam(patch_tokens).background_logits
        if mode == "joint":
            expected = cam._classify(torch.cat([features, background]))[len(images) :]
        elif mode == "own":
            expected = cam._classify(background)
        else:
            expected = cam.eval()._classify(background)
    torch.testing.assert_close(actual, expected.mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)
