"""The paper's segmenter: ChestX-Det's PSPNet, through TorchXRayVision's own class (extra `xrv`)."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clarity_cxr.anatomy.regions import REGIONS, region_masks
from clarity_cxr.data.images import PRIOR_SIZE
from clarity_cxr.errors import CheckpointError, ClarityError
from clarity_cxr.files import file_digest

WEIGHTS_URL = "https://github.com/mlmed/torchxrayvision/releases/download/v1/pspnet_chestxray_best_model_4.pth"
WEIGHTS_NAME = WEIGHTS_URL.rsplit("/", 1)[1]
INPUT_SIZE = 512

TARGETS: dict[str, int] = {
    "left_lung": 4,
    "right_lung": 5,
    "heart": 8,
    "mediastinum": 11,
    "facies_diaphragmatica": 10,
}
"""Channel of each region among the 14 of the network, in the order of `REGIONS`."""


class PSPNetSegmenter:
    """All five regions from the network's own channels: sigmoid, cut at 0.5.

    Args:
        network: a `torchxrayvision.baseline_models.chestx_det.PSPNet`; called in eval mode.
        weights_digest: SHA-256 of the weights' file.
        device: where the network runs.

    Attributes:
        name: "torchxrayvision".
        film_size: side of the network's input in pixels.
        threshold: probability above which a pixel belongs to a region.
    """

    name = "torchxrayvision"
    film_size = INPUT_SIZE
    threshold = 0.5

    def __init__(self, network: torch.nn.Module, weights_digest: str | None = None, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        self.weights_digest = weights_digest

    def __call__(self, film: np.ndarray) -> Mapping[str, np.ndarray]:
        """Segment one film (H, W) uint8 into (H, W) bool for each of `REGIONS`."""
        probabilities = self._logits(film[None]).sigmoid()
        large = F.interpolate(probabilities, size=film.shape, mode="bilinear", align_corners=False)
        return region_masks((large[0] > self.threshold).cpu().numpy())

    def regions(self, films: np.ndarray, image_ids: Sequence[str] = ()) -> np.ndarray:
        """Segment films (B, S, S) uint8 into (B, 5, 128, 128) bool; a pixel is set where half of its area is."""
        masks = (self._logits(films).sigmoid() > self.threshold).float()
        return (F.adaptive_avg_pool2d(masks, PRIOR_SIZE) >= 0.5).cpu().numpy()

    def _logits(self, films: np.ndarray) -> Tensor:
        """Logits (B, 5, 512, 512) of films (B, H, W) uint8, which the network sees square in [-1024, 1024]."""
        with torch.inference_mode():
            inputs = torch.from_numpy(np.array(films)).to(self.device).unsqueeze(1).float() / 255 * 2048 - 1024
            if inputs.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
                size = (INPUT_SIZE, INPUT_SIZE)
                inputs = F.interpolate(inputs, size=size, mode="bilinear", antialias=True)
            return self.network(inputs)[:, [TARGETS[region] for region in REGIONS]]


def load_pspnet(weights: Path | None = None, device: str = "cpu") -> PSPNetSegmenter:
    """Build the library's network from a local file, its cache, or the network.

    Args:
        weights: state dict as the library distributes it, or .safetensors; None for the library's own copy.
        device: where the network runs.

    Raises:
        ClarityError: the library is not installed, or its weights cannot be fetched.
        CheckpointError: `weights` is missing, unsafe or of another network.
    """
    try:
        from torchxrayvision.baseline_models.chestx_det import PSPNet
    except ImportError:
        raise ClarityError(
            "--provider torchxrayvision needs the library torchxrayvision; install it with "
            "`pip install 'clarity-cxr[xrv]'`, or use --provider builtin"
        ) from None
    if weights is None:
        return _load_cached(PSPNet, device)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(_read_state(weights), Path(folder) / WEIGHTS_NAME)
        try:
            with _quiet():
                network = PSPNet(cache_dir=folder)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{weights}: weights of another network ({reason}); expected {WEIGHTS_URL}") from None
    return PSPNetSegmenter(network, file_digest(weights), device)


def _load_cached(network_class: Any, device: str) -> PSPNetSegmenter:
    from torchxrayvision.utils import get_cache_dir

    cached = Path(get_cache_dir()) / WEIGHTS_NAME
    try:
        with _quiet():
            network = network_class()
    except OSError as error:  # requests' errors are OSErrors
        raise ClarityError(
            f"{WEIGHTS_URL}: cannot be fetched ({type(error).__name__}); fetch it elsewhere and give it as "
            f"--weights FILE or put it at {cached}, or use --provider builtin"
        ) from None
    except Exception as error:
        raise CheckpointError(f"{cached}: damaged ({type(error).__name__}); delete it and run again") from error
    return PSPNetSegmenter(network, file_digest(cached), device)


def _read_state(weights: Path) -> dict[str, Tensor]:
    """A state dict whose keys start with `module.`, as the library expects them."""
    expected = f"expected the state dict of {WEIGHTS_URL}"
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; {expected}")
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or unsafe file makes the unpickler raise nearly anything
        raise CheckpointError(f"{weights}: not a file of plain tensors ({type(error).__name__}); {expected}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{weights}: not a state dict; {expected}")
    return {"module." + str(name).removeprefix("module."): value for name, value in state.items()}


@contextlib.contextmanager
def _quiet():
    """Keep the library's messages off standard output; errors are told by exceptions."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
    sys.stdout.flush()
