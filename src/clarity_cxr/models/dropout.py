"""Dropout whose random bits are cheap on a CPU."""

import torch
from torch import Tensor, nn

_STEPS = 2**16


class Dropout(nn.Dropout):
    """`nn.Dropout`, but on a CPU four elements share one 64-bit draw; the rate is then rounded to 1/65,536.

    PyTorch draws one number per element in one thread there, which was almost half of a training step. Draws come
    from the default generator, so `torch.manual_seed` keys them.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zero elements at rate `p` and scale the others by 1 / (1 - p), in training mode; any shape."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        words = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: input.numel()].view(input.shape) >= round(self.p * _STEPS) - _STEPS // 2
        return input * kept.to(input.dtype).mul_(1 / (1 - self.p))


def use_cheap_dropout(module: nn.Module) -> None:
    """Replace every `nn.Dropout` inside a module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
