"""3x3 convolution that infers on a CPU with 2.25 times fewer multiplications: Winograd's F(2x2, 3x3)."""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_FEWEST_CHANNELS = 256
"""With fewer, the transforms cost about as much as the multiplications that they save, or more."""
_TILES_AT_ONCE = 400
"""Enough for matrix products at full speed, few enough that what lies between the steps stays in the cache."""
_WEIGHT_TRANSFORM = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]
"""G."""


class _TransformedWeights(NamedTuple):
    """G g G^T, (16, inputs, outputs), and the weights it was made of, kept so that their memory is not used anew."""

    points: Tensor
    weight: Tensor
    version: int


class WinogradConv2d(nn.Conv2d):
    """A convolution with 3x3 weights, stride 1 and padding 1; the same parameters and values as `nn.Conv2d`.

    On a CPU, where no gradient is recorded, each tile of 2x2 results is Y = A^T [(G g G^T) * (B^T d B)] A (Lavin and
    Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): 16 products for each pair of channels instead of
    36. The sum over channels makes them 16 matrix products over all tiles. G g G^T is kept until the weights change,
    `train()` or `eval()` is called, or a gradient is recorded. Everywhere else, compiled and exported graphs included,
    the convolution is the direct one. In float32 the rounding error is smaller than the direct one's, in bfloat16 about
    twice as large.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self._transformed: _TransformedWeights | None = None

    def train(self, mode: bool = True) -> Self:
        """As of any module; `train()` and `eval()` also forget the transformed weights."""
        self._transformed = None
        return super().train(mode)

    def forward(self, input: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        if (
            input.device.type != "cpu"
            or self.in_channels < _FEWEST_CHANNELS
            or torch.compiler.is_compiling()
            or self.weight.is_inference()  # such tensors do not tell whether they were changed
        ):
            return super().forward(input)
        if torch.is_grad_enabled():
            self._transformed = None  # fused optimizers change weights without counting a version
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.weight.dtype
        with torch.autocast("cpu", enabled=False):
            return _convolve(input, self._points(dtype), self.bias)

    def _points(self, dtype: torch.dtype) -> Tensor:
        kept, weight = self._transformed, self.weight.detach()
        if (
            kept is None
            or kept.points.dtype != dtype
            or kept.version != self.weight._version
            or kept.weight.data_ptr() != weight.data_ptr()
        ):
            transform = weight.new_tensor(_WEIGHT_TRANSFORM)
            taps = weight.permute(3, 2, 1, 0).reshape(9, -1)
            points = (torch.kron(transform, transform) @ taps).view(16, self.in_channels, self.out_channels)
            kept = self._transformed = _TransformedWeights(points.to(dtype), weight, self.weight._version)
        return kept.points


def _convolve(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """(B, inputs, H, W) to (B, outputs, H, W) in the weights' type; fastest with channels last."""
    batch, _, height, width = x.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    pixels = pad(x.permute(0, 2, 3, 1), (0, 0, 1, 2 * across + 1 - width, 1, 2 * down + 1 - height))
    results = weights.new_empty((batch, down, 2, across, 2, weights.shape[-1]))
    films = max(1, _TILES_AT_ONCE // (down * across))
    for some_pixels, some_results in zip(pixels.split(films), results.split(films), strict=True):
        points = _input_points(_input_points(some_pixels, 1), 3).to(weights.dtype)
        products = _products(points, weights)
        if bias is not None:
            products[1, 1] += bias  # this point adds to all four results
        columns = products.new_empty((2, *products.shape[1:]))
        _results(products, columns)
        _results(columns.transpose(0, 1), some_results.permute(2, 4, 0, 1, 3, 5))
    return results.view(batch, 2 * down, 2 * across, -1)[:, :height, :width].permute(0, 3, 1, 2)


def _products(points: Tensor, weights: Tensor) -> Tensor:
    """(4, 4, ..., inputs) and (16, inputs, outputs) to (4, 4, ..., outputs)."""
    inputs, outputs = weights.shape[1:]
    products = points.new_empty((*points.shape[:-1], outputs))
    for tiles, weight, product in zip(
        points.view(16, -1, inputs), weights, products.view(16, -1, outputs), strict=True
    ):
        torch.mm(tiles, weight, out=product)
    return products


def _input_points(x: Tensor, dim: int) -> Tensor:
    """B^T d of all tiles of four along a dimension: (4, ...) with as many tiles in that dimension."""
    a, b, c, d = x.unfold(dim, 4, 2).unbind(-1)
    points = x.new_empty((4, *a.shape))
    torch.sub(a, c, out=points[0])
    torch.add(b, c, out=points[1])
    torch.sub(c, b, out=points[2])
    torch.sub(b, d, out=points[3])
    return points


def _results(points: Tensor, out: Tensor) -> None:
    """A^T m into `out`: (4, ...) to (2, ...)."""
    a, b, c, d = points
    torch.add(a, b + c, out=out[0])
    torch.sub(b - c, d, out=out[1])
