"""Batch normalisation over the global batch, on any device and any number of processes."""

import torch
from torch import Tensor, nn

from clarity_cxr.processes import mean_over_processes, process_count


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of all processes' films.

    The same tensors, names and values as `nn.BatchNorm2d` with one process. With several, each must bring as many
    films; torch's own `SyncBatchNorm` does this on GPUs only.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape, in the type it came in."""
        if not self.training or process_count() == 1:
            return super().forward(input)
        x = input.float()
        own_mean = x.mean(dim=(0, 2, 3))
        mean = mean_over_processes(own_mean)
        spread = (x - own_mean[:, None, None]).square().mean(dim=(0, 2, 3)) + (own_mean - mean).square()
        variance = mean_over_processes(spread)
        self._keep_statistics(mean.detach(), variance.detach(), x.numel() // x.shape[1] * process_count())
        scale = self.weight * (variance + self.eps).rsqrt()
        return torch.addcmul((self.bias - mean * scale)[:, None, None], x, scale[:, None, None]).to(input.dtype)

    def _keep_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
