"""The built-in segmenter: the project's own weights, no download, core dependencies only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from scipy import ndimage

from clarity_cxr.anatomy.network import POSES, SIZE, AnatomyNet, standardize
from clarity_cxr.anatomy.regions import ORGANS, clean_organs, complete_regions, region_masks
from clarity_cxr.errors import CheckpointError
from clarity_cxr.files import atomic_path, file_digest

WEIGHTS_NAME = "builtin_segmenter.safetensors"
_FORMAT = "clarity-cxr anatomy 1"
_EDGE = 2


@dataclass(frozen=True)
class Inference:
    """What the network says about a batch of films.

    Attributes:
        organs: (B, 3, 128, 128) probabilities in the order of `ORGANS`, zero where a film is blank.
        poses: (B, 5) probabilities in the order of `POSES`.
        inverted: (B,) probability of an inverted grey scale.
        pixels: (B, 128, 128) the films with zero mean and unit deviation, as the network saw them.
    """

    organs: np.ndarray
    poses: np.ndarray
    inverted: np.ndarray
    pixels: np.ndarray


class BuiltinSegmenter:
    """Lungs and heart from the built-in network; mediastinum and facies diaphragmatica by geometry.

    Args:
        network: a trained network.
        weights_digest: SHA-256 of the weights' file.
        device: where the network runs.

    Attributes:
        name: "builtin".
        film_size: side of the films that `regions` likes best, in pixels.
        threshold: probability above which a pixel belongs to an organ.
    """

    name = "builtin"
    film_size = 224
    threshold = 0.5

    def __init__(self, network: AnatomyNet, weights_digest: str | None = None, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self.weights_digest = weights_digest

    def __call__(self, film: np.ndarray) -> Mapping[str, np.ndarray]:
        """Segment one film at its own size.

        Args:
            film: (H, W) uint8; one that is not square is seen stretched, as in a store.

        Returns:
            (H, W) bool for each of `REGIONS`; an organ that is not found is empty.
        """
        probabilities = self.organ_probabilities(film[None])[0]
        organs = clean_organs(probabilities, self.threshold)
        return region_masks(complete_regions(_enlarge(probabilities, organs, film.shape, self.threshold)))

    def regions(self, films: np.ndarray, image_ids: Sequence[str] = ()) -> np.ndarray:
        """Segment a batch of square films.

        Args:
            films: (B, S, S) uint8.
            image_ids: not used.

        Returns:
            (B, 5, 128, 128) bool in the order of `REGIONS`.
        """
        organs = (clean_organs(film, self.threshold) for film in self.organ_probabilities(films))
        return np.stack([complete_regions(masks) for masks in organs])

    def organ_probabilities(self, films: np.ndarray) -> np.ndarray:
        """(B, H, W) uint8 films to (B, 3, 128, 128) probabilities in the order of `ORGANS`."""
        return self.infer(films).organs

    def infer(self, films: np.ndarray) -> Inference:
        """All that the network says about a batch of films (B, H, W) uint8."""
        with torch.inference_mode():
            films = np.where(np.ptp(films, axis=(1, 2), keepdims=True) > 0, films, 0)
            inputs = standardize(torch.from_numpy(films).to(self.device))
            organs, poses, inverted = self.network(inputs.contiguous(memory_format=torch.channels_last))
            organs = organs.sigmoid() * inputs[:, 0].flatten(1).any(dim=1).view(-1, 1, 1, 1)
            outputs = (organs, poses.softmax(dim=1), inverted.sigmoid(), inputs[:, 0])
            return Inference(*(output.cpu().numpy() for output in outputs))


def _enlarge(probabilities: np.ndarray, organs: np.ndarray, shape: tuple[int, ...], threshold: float) -> np.ndarray:
    """Masks at a film's own size: bilinear probabilities, held to the cleaned organs."""
    near = np.stack([ndimage.binary_dilation(mask, iterations=_EDGE) for mask in organs])
    held = np.where(near, probabilities, 0)
    held = np.where(organs & (held <= threshold), 1, held)
    large = F.interpolate(torch.from_numpy(held)[None].float(), size=shape, mode="bilinear", align_corners=False)
    return large[0].numpy() > threshold


def load_builtin(weights: Path | None = None, device: str = "cpu") -> BuiltinSegmenter:
    """Load the weights in the package, or a file that `clarity anatomy-train` wrote.

    Raises:
        CheckpointError: the file is missing or not one of this network.
    """
    if weights is not None:
        return _load(weights, device)
    with resources.as_file(resources.files("clarity_cxr.anatomy") / WEIGHTS_NAME) as path:
        return _load(path, device)


def _load(path: Path, device: str) -> BuiltinSegmenter:
    expected = f"expected a .safetensors file written by `clarity anatomy-train` ({_FORMAT})"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; {expected}")
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("format") != _FORMAT:
                raise CheckpointError(f"{path}: weights of something else; {expected}")
            widths = tuple(json.loads(file.metadata()["widths"]))
            network = AnatomyNet(widths)
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            missing, unexpected = network.load_state_dict(state, strict=False)
            if unexpected or [name for name in missing if not name.endswith("num_batches_tracked")]:
                raise ValueError(f"missing {missing[:3]}, unexpected {unexpected[:3]}")
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable ({error}); {expected}") from None
    return BuiltinSegmenter(network, file_digest(path), device)


def save_builtin(path: Path, network: AnatomyNet, provenance: dict[str, str]) -> None:
    """Write a network as float16 safetensors with a header: format, widths, organs, poses, input size, provenance.

    Args:
        path: file to write, whole or not at all.
        network: the network.
        provenance: further header entries, such as data, recipe and version.
    """
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    state = {name: value.contiguous() for name, value in state.items() if not name.endswith("num_batches_tracked")}
    metadata = {
        **provenance,
        "format": _FORMAT,
        "widths": json.dumps(network.widths),
        "organs": ",".join(ORGANS),
        "poses": ",".join(POSES),
        "input_size": str(SIZE),
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, metadata))
