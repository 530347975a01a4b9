"""Where regions come from: the built-in network, TorchXRayVision's PSPNet, or masks in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from clarity_cxr.anatomy.mask_folder import MaskFolder
from clarity_cxr.errors import ConfigError

ProviderName = Literal["builtin", "torchxrayvision", "masks"]


class Provider(Protocol):
    """What makes the regions of a batch of films."""

    @property
    def name(self) -> str:
        """Name on the command line and in the manifest."""
        ...

    @property
    def film_size(self) -> int | None:
        """Side of the square films it likes best, in pixels; None if it does not look at films."""
        ...

    @property
    def threshold(self) -> float:
        """Where masks are cut."""
        ...

    @property
    def weights_digest(self) -> str | None:
        """Digest of whatever decides the masks."""
        ...

    def regions(self, films: np.ndarray, image_ids: Sequence[str] = ()) -> np.ndarray:
        """(B, S, S) uint8 films of these names to (B, 5, 128, 128) bool in the order of `REGIONS`."""
        ...


class Segmenter(Provider, Protocol):
    """A provider that looks at films and so can segment any of them."""

    def __call__(self, film: np.ndarray) -> Mapping[str, np.ndarray]:
        """(H, W) uint8 film to (H, W) bool for each of `REGIONS`."""
        ...


def load_segmenter(
    name: Literal["builtin", "torchxrayvision"] = "builtin", weights: Path | None = None, device: str = "cpu"
) -> Segmenter:
    """Load a segmenter for frontal chest films.

    Args:
        name: "builtin" (needs nothing) or "torchxrayvision" (the paper's; needs the extra `xrv` and its weights).
        weights: a local weights file instead of the segmenter's own.
        device: where it runs: cpu, cuda, mps.

    Returns:
        A callable from a uint8 (H, W) film to a mapping from `left_lung`, `right_lung`, `heart`, `mediastinum` and
        `facies_diaphragmatica` to bool (H, W) arrays, sides as the patient's.

    Raises:
        ConfigError: an unknown name.
        ClarityError: a library or its weights cannot be had.
        CheckpointError: the weights file is missing, unsafe or of another network.
    """
    if name == "builtin":
        from clarity_cxr.anatomy.builtin import load_builtin

        return load_builtin(weights, device)
    if name == "torchxrayvision":
        from clarity_cxr.anatomy.pspnet import load_pspnet

        return load_pspnet(weights, device)
    raise ConfigError(f"{name!r} is no segmenter; there are 'builtin' and 'torchxrayvision'")


def load_provider(
    name: ProviderName, weights: Path | None = None, masks: Path | None = None, device: str = "cpu"
) -> Provider:
    """The provider that the options of `clarity anatomy` describe.

    Raises:
        ConfigError: the options contradict each other.
        ClarityError: see `load_segmenter` and `MaskFolder`.
    """
    if (name == "masks") != (masks is not None):
        raise ConfigError("--provider masks and --masks FOLDER go together: give both or neither")
    if masks is None:
        return load_segmenter(name, weights, device)  # pyright: ignore[reportArgumentType]
    if weights is not None:
        raise ConfigError("--weights has no meaning with --provider masks; leave it out")
    return MaskFolder(masks)
