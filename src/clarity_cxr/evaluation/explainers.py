"""Other explanations from the same weights, as sources of maps: Grad-CAM, attention rollout, Grad-CAM of a teacher.

They go through the same threshold search and protocols as the model's own heatmaps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clarity_cxr.data.store import FilmStore
from clarity_cxr.errors import ClarityError
from clarity_cxr.evaluation.protocols import MapSource
from clarity_cxr.findings import FINDINGS
from clarity_cxr.localization.heatmaps import scale_maps
from clarity_cxr.models import Clarity
from clarity_cxr.models.teacher import Teacher

EXPLAINERS = {
    "gradcam": "Grad-CAM of the same weights, at the last block's patch tokens (package grad-cam)",
    "rollout": "attention rollout of the same weights: all blocks' attention and its shortcuts multiplied through",
    "teacher_gradcam": "Grad-CAM of the teacher, at its last stage",
}
_BATCH = 16


class _Logits(nn.Module):
    """A CLARiTy as a plain classifier."""

    def __init__(self, model: Clarity) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of normalised images (B, 3, S, S)."""
        return self.model(images).logits


def gradcam_maps(model: Clarity, store: FilmStore, device: torch.device) -> MapSource:
    """Grad-CAM (Selvaraju et al., 2017) at the norm before the last block's attention.

    The package expects feature maps (B, D, N, N); the C class tokens, which come first, are left out.

    Raises:
        ClarityError: the package grad-cam is not installed.
    """
    grid, classes = model.config.grid, model.config.classes

    def patches_only(tokens: Tensor) -> Tensor:
        return tokens[:, classes:].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)

    layer = model.backbone.blocks[-1].get_submodule("norm1")
    return _package_maps(_Logits(model), layer, model.preprocess, store, device, patches_only)


def teacher_gradcam_maps(teacher: Teacher, store: FilmStore, device: torch.device) -> MapSource:
    """Grad-CAM at the last module of the teacher's backbone that gives feature maps (B, D, h, w).

    Raises:
        ClarityError: the package grad-cam is not installed, or the teacher has no such module.
    """
    return _package_maps(teacher, _last_feature_layer(teacher), teacher.preprocess, store, device, None)


def rollout_maps(model: Clarity, store: FilmStore, device: torch.device) -> MapSource:
    """Attention rollout (Abnar and Zuidema, 2020): the class row of the product of (A + I) / 2 over blocks."""

    def maps(finding: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        parts = [_rollout(model, store, rows[at : at + _BATCH], device) for at in range(0, len(rows), _BATCH)]
        return scale_maps(torch.cat(parts)[:, FINDINGS.index(finding)], store.size).numpy()

    return maps


def _package_maps(
    network: nn.Module,
    layer: nn.Module,
    preprocess: Callable[[Tensor], Tensor],
    store: FilmStore,
    device: torch.device,
    reshape: Callable[[Tensor], Tensor] | None,
) -> MapSource:
    grad_cam, target = _package()
    network.to(device).eval()

    def maps(finding: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        parts = []
        with grad_cam(network, [layer], reshape_transform=reshape) as cam:
            for at in range(0, len(rows), _BATCH):
                films = torch.from_numpy(store.films[rows[at : at + _BATCH]]).to(device)
                wanted = [target(FINDINGS.index(finding))] * len(films)
                parts.append(cam(preprocess(films), targets=wanted))
        return np.concatenate(parts).astype(np.float32)

    return maps


def _package() -> tuple[Any, Any]:
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        raise ClarityError('Grad-CAM needs a further package: pip install "clarity-cxr[explain]"') from None
    return GradCAM, ClassifierOutputTarget


def _last_feature_layer(teacher: Teacher) -> nn.Module:
    """The last direct part of the backbone whose output is (B, D, h, w) with h > 1, found with one empty film."""
    found: list[nn.Module] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            found.append(module)

    hooks = [module.register_forward_hook(look) for module in teacher.backbone.children()]
    try:
        size = teacher.config.image_size
        with torch.no_grad():
            teacher.eval()(torch.zeros(1, 3, size, size, device=next(teacher.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ClarityError(f"teacher {teacher.config.name}: no part of it gives feature maps, so Grad-CAM has no layer")
    return found[-1]


@torch.no_grad()
def _rollout(model: Clarity, store: FilmStore, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    """(B, C, N, N) float32 on the CPU."""
    backbone, classes, grid = model.to(device).eval().backbone, model.config.classes, model.config.grid
    attention: list[Tensor] = []

    def record(module: Any, inputs: tuple[Tensor, ...]) -> None:
        projected = module.qkv(inputs[0]).unflatten(-1, (3, module.num_heads, module.head_dim))
        query, key, _ = projected.permute(2, 0, 3, 1, 4)
        weights = (query.float() * module.scale) @ key.float().transpose(-2, -1)
        attention.append(weights.softmax(dim=-1).mean(dim=1))

    hooks = [block.attn.register_forward_pre_hook(record) for block in backbone.blocks]  # pyright: ignore
    try:
        backbone(model.preprocess(torch.from_numpy(store.films[rows]).to(device)))
    finally:
        for hook in hooks:
            hook.remove()
    product = torch.eye(attention[0].shape[-1], device=device).expand(len(rows), -1, -1)
    for weights in attention:
        product = (weights + torch.eye(weights.shape[-1], device=device)) / 2 @ product
    return product[:, :classes, classes:].unflatten(-1, (grid, grid)).float().cpu()
