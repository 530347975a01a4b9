"""A store whose films tell where everything is, and a model that reads it off them."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import nn

from clarity_cxr.data.store import FORMAT_VERSION, FilmStore, ids_digest, open_store
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS

SIZE, GRID = 64, 8


@dataclass
class StoreContent:
    """What `write` puts into a store folder; change it first."""

    films: np.ndarray
    index: pd.DataFrame
    boxes: pd.DataFrame
    priors: np.ndarray | None

    def write(self, path: Path, size: int = SIZE) -> FilmStore:
        path.mkdir(parents=True)
        np.save(path / "films.npy", self.films)
        if self.priors is not None:
            np.save(path / "priors.npy", self.priors)
        self.index.to_parquet(path / "index.parquet")
        self.boxes.to_parquet(path / "boxes.parquet")
        manifest = {
            "format_version": FORMAT_VERSION,
            "size": size,
            "films": len(self.films),
            "findings": list(FINDINGS),
            "priors": None if self.priors is None else {"provider": "release"},
            "ids_digest": ids_digest(self.index["image_id"]),
            "film_digest": "0" * 64,
        }
        (path / "manifest.json").write_text(json.dumps(manifest))
        return open_store(path)


def make_content(films: int = 120, seed: int = 0) -> StoreContent:
    """Films 0..39 train, 40..79 val, the rest test; every test film has one boxed finding, halved by patient.

    A film is dark with one bright rectangle, aligned to the patch grid; its first pixel holds the index of the finding
    it is labelled with. Two films per patient.
    """
    generator = np.random.default_rng(seed)
    pixels = np.zeros((films, SIZE, SIZE), dtype=np.uint8)
    labels = np.zeros((films, len(FINDINGS)), dtype=bool)
    cell, boxes = SIZE // GRID, []
    for row in range(films):
        finding = FINDINGS.index(BOXED_FINDINGS[row // 2 % len(BOXED_FINDINGS)])
        x0, y0 = generator.integers(1, 4, 2)
        x1, y1 = x0 + generator.integers(2, 4), y0 + generator.integers(2, 4)
        pixels[row, y0 * cell : y1 * cell, x0 * cell : x1 * cell] = 200
        pixels[row, 0, 0] = finding
        labels[row, finding] = True
        if row >= 80:
            corners = np.array([x0, y0, x1, y1]) / GRID
            boxes.append((row, f"{row:08d}_000.png", FINDINGS[finding], *corners))
    index = pd.DataFrame({"image_id": [f"{row:08d}_000.png" for row in range(films)]})
    index["patient_id"] = np.arange(films) // 2 + 1
    index["split"] = np.select([np.arange(films) < 40, np.arange(films) < 80], ["train", "val"], "test")
    half = np.where(np.arange(films) // 16 % 2 == 0, "val", "test")
    index["localization"] = np.where(index["split"] == "test", half, "")
    index["width"], index["height"] = 1024, 1024
    index = pd.concat([index, pd.DataFrame(labels, columns=list(FINDINGS))], axis=1)
    table = pd.DataFrame(boxes, columns=["row", "image_id", "finding", "x0", "y0", "x1", "y1"])
    priors = np.zeros((films, 4, 128, 128), dtype=bool)
    priors[:, :, 16:112, 16:112] = True
    return StoreContent(pixels, index, table, np.packbits(priors, axis=-1, bitorder="big"))


class ReadingModel(nn.Module):
    """Probability 0.9 for the finding in the first pixel, 0.1 for the others; attention is the film on the grid."""

    def __init__(self, segment_cam: bool = True, blind_to: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.config = SimpleNamespace(grid=GRID, mask_threshold=0.5, image_size=SIZE, segment_cam=segment_cam)
        self.blind_to = blind_to
        self.asked: list[tuple[int, bool]] = []

    def preprocess(self, films):
        return films.float()

    def forward(self, images, return_attention=False):
        assert not self.training
        self.asked.append((len(images), return_attention))
        probabilities = torch.full((len(images), len(FINDINGS)), 0.1)
        finding = images[:, 0, 0].long()
        probabilities[torch.arange(len(images)), finding] = 0.9
        probabilities[:, list(self.blind_to)] = 0.1
        grid = images.unfold(1, SIZE // GRID, SIZE // GRID).unfold(2, SIZE // GRID, SIZE // GRID).amax((-2, -1))
        attention = (grid / 200)[:, None].expand(-1, len(FINDINGS), -1, -1)
        return SimpleNamespace(
            probabilities=probabilities,
            attention=attention / 65 if return_attention else None,
            heatmap=attention.clamp(0, 1) if self.config.segment_cam else None,
        )
