import torch
from torch.nn.functional import batch_norm, conv2d

from clarity_cxr.models.stem import ConvolutionalStem


def test_it_is_three_halvings_and_a_projection() -> None:
    torch.manual_seed(0)
    stem = ConvolutionalStem(patch_size=8, width=32).train()
    images = torch.randn(2, 3, 64, 64)
    expected = images
    for convolution, norm in ((stem.layers[i], stem.layers[i + 1]) for i in (0, 3, 6)):
        assert convolution.bias is None
        expected = conv2d(expected, convolution.weight, stride=2)
        expected = batch_norm(expected, None, None, norm.weight, norm.bias, training=True).relu()
    assert [layer.out_channels for layer in stem.layers if isinstance(layer, torch.nn.Conv2d)] == [8, 16, 32, 32]
    expected = conv2d(expected, stem.layers[9].weight, stem.layers[9].bias)
    torch.testing.assert_close(stem(images), expected.permute(0, 2, 3, 1).reshape(2, 64, 32), atol=1e-5, rtol=1e-5)


def test_a_token_sees_its_own_patch_alone_row_by_row() -> None:
    stem = ConvolutionalStem(patch_size=4, width=16).eval()
    images = torch.zeros(1, 3, 32, 32)
    changed = images.clone()
    changed[:, :, 8:12, 20:24] = 1
    with torch.no_grad():
        moved = (stem(changed) - stem(images)).abs().sum(dim=-1).reshape(8, 8) > 1e-6
    assert torch.nonzero(moved).tolist() == [[2, 5]]
