"""A small release in the NIH layout, written film by film so that each test can damage what it needs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
LABELS = ("No Finding", "Effusion", "Atelectasis|Mass", "Cardiomegaly|Infiltration", "Nodule")
REAL_RELEASE = Path(__file__).parents[2] / "../shared/data/nih_subset"


@dataclass
class SmallRelease:
    """Rows of each table and list, to be changed before `write`.

    Patients 1..20 (official train_val) and 21..30 (test) have 1 to 3 films each.
    """

    root: Path
    rows: list[str] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)
    train_val: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    films: dict[str, np.ndarray] = field(default_factory=dict)
    folders: tuple[str, ...] = ("images_001/images", "images_002/images")

    @property
    def ids(self) -> list[str]:
        return [row.split(",")[0] for row in self.rows]

    def write(self) -> Path:
        for folder in self.folders:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for position, (name, film) in enumerate(self.films.items()):
            Image.fromarray(film).save(self.root / self.folders[position % len(self.folders)] / name)
        self.write_tables()
        return self.root

    def write_tables(self) -> None:
        table = "\n".join([HEADER, *self.rows]) + "\n"
        (self.root / "Data_Entry_2017_v2020.csv").write_text(table, encoding="utf-8")
        (self.root / "BBox_List_2017.csv").write_text("\n".join([BOX_HEADER, *self.boxes]) + "\n", encoding="utf-8")
        (self.root / "train_val_list.txt").write_text("\n".join(self.train_val), encoding="utf-8")
        (self.root / "test_list.txt").write_text("\n".join(self.test), encoding="utf-8")

    def film_path(self, image_id: str) -> Path:
        return next(self.root.glob(f"images*/**/{image_id}"))


@pytest.fixture
def small_release(tmp_path: Path) -> SmallRelease:
    return build_release(tmp_path / "release")


@pytest.fixture
def make_release() -> Callable[[Path], SmallRelease]:
    return build_release


def build_release(root: Path, seed: int = 0) -> SmallRelease:
    rng = np.random.default_rng(seed)
    release = SmallRelease(root)
    for patient in range(1, 31):
        for follow_up in range(1 + patient % 3):
            image_id = f"{patient:08d}_{follow_up:03d}.png"
            label = LABELS[(patient + follow_up) % len(LABELS)]
            release.rows.append(f"{image_id},{label},{follow_up},{patient},{30 + patient},F,PA,2500,2048,0.17,0.17")
            (release.train_val if patient <= 20 else release.test).append(image_id)
            release.films[image_id] = rng.integers(0, 256, (48, 48), dtype=np.uint8)
            finding = label.split("|")[-1].replace("Infiltration", "Infiltrate")
            if patient > 20 and finding != "No Finding":
                release.boxes.append(f"{image_id},{finding},102.4,204.8,307.2,512,,,")
    return release
