"""The wiring to TorchXRayVision's class, with random weights."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clarity_cxr.anatomy.regions import REGIONS
from clarity_cxr.anatomy.segmenters import load_segmenter
from clarity_cxr.errors import CheckpointError, ClarityError
from clarity_cxr.files import file_digest

xrv = pytest.importorskip("torchxrayvision", reason="needs the extra `xrv` (torchxrayvision)")
chestx_det = pytest.importorskip("torchxrayvision.baseline_models.chestx_det")

CHANNELS = {"left_lung": 4, "right_lung": 5, "heart": 8, "facies_diaphragmatica": 10, "mediastinum": 11}


class StandIn(torch.nn.Module):
    """A network of the library's calling convention: what it does in training mode is not what it does in eval mode."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 9, 4, 4), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.Dropout2d(0.5)
        )
        self.classification = torch.nn.Conv2d(16, n_classes, 3, padding=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits = self.classification(self.features(inputs))
        return torch.nn.functional.interpolate(logits, size=inputs.shape[2:], mode="bilinear")


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library's class around a small network; benchmarks/anatomy.py compares the real one."""
    monkeypatch.setattr(chestx_det, "pspnet", StandIn)
    torch.manual_seed(0)
    network = StandIn(14)
    network(torch.randn(4, 3, 64, 64))  # statistics for the norm that differ from its start
    return network.eval()


@pytest.fixture
def weights(shallow: torch.nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "random.pth"
    torch.save({f"module.{name}": value for name, value in shallow.state_dict().items()}, path)
    return path


def direct_masks(network: torch.nn.Module, film: np.ndarray) -> np.ndarray:
    """A direct call of the library as its demo makes it: (5, 512, 512) bool."""
    scaled = xrv.datasets.normalize(film.astype(np.float32), 255)
    with torch.no_grad():
        output = network(torch.from_numpy(scaled)[None, None])
    assert output.shape == (1, 14, 512, 512)
    return (torch.sigmoid(output[0]) > 0.5).numpy()[[CHANNELS[region] for region in REGIONS]]


@pytest.mark.parametrize("size", [512, 224])
def test_regions_are_those_of_a_direct_call_film_by_film(weights: Path, tmp_path: Path, size: int):
    films = np.random.default_rng(0).integers(0, 256, (2, size // 8, size // 8), dtype=np.uint8)
    films = films.repeat(8, axis=1).repeat(8, axis=2)
    segmenter = load_segmenter("torchxrayvision", weights)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "pspnet_chestxray_best_model_4.pth").write_bytes(weights.read_bytes())
    library = chestx_det.PSPNet(cache_dir=str(cache))
    batched = segmenter.regions(films)
    assert batched.shape == (2, 5, 128, 128)
    for film, regions in zip(films, batched, strict=True):
        direct = direct_masks(library, film)
        assert 0.02 < direct.mean() < 0.98, "random weights that say nothing test nothing"
        share = direct.reshape(5, 128, 4, 128, 4).mean(axis=(2, 4))
        # Summation order differs between batch sizes: pixels may flip whose probability is 0.5 within rounding.
        assert ((share >= 0.5) != regions).mean() < 1e-3
        if size == 512:
            alone = segmenter(film)
            for region, mask in zip(REGIONS, direct, strict=True):
                assert (alone[region] != mask).mean() < 1e-3
    assert segmenter.weights_digest == file_digest(weights)


def test_weights_may_be_safetensors(shallow: torch.nn.Module, tmp_path: Path):
    from safetensors.torch import save_file

    path = tmp_path / "random.safetensors"
    save_file(shallow.state_dict(), path)
    film = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    assert load_segmenter("torchxrayvision", path)(film)["heart"].shape == (64, 64)


def test_files_that_are_no_such_weights_are_refused(tmp_path: Path, shallow: Any):
    class Evil:
        def __reduce__(self):
            return (print, ("unsafe",))

    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps(Evil()))
    other = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), other)
    for path, message in (
        (evil, "not a file of plain tensors"),
        (other, "another network"),
        (tmp_path / "none.pth", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_segmenter("torchxrayvision", path)


def test_without_network_the_error_names_file_and_alternative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import requests

    def unreachable(*arguments: object, **options: object) -> None:
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ClarityError) as caught:
        load_segmenter("torchxrayvision")
    message = str(caught.value)
    assert "releases/download/v1/pspnet_chestxray_best_model_4.pth" in message
    assert str(tmp_path) in message
    assert "--provider builtin" in message
