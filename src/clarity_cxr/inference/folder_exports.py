"""The predictions of a folder in one file of another tool's format: COCO's boxes, CheXlocalize's masks."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from clarity_cxr.errors import ClarityError
from clarity_cxr.files import write_json
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.film_jobs import FilmJob
from clarity_cxr.inference.film_masks import Rle, encode_mask, pycocotools_mask

ExportName = Literal["coco", "chexlocalize"]

CHEXLOCALIZE_TASKS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (),
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Lesion": ("Mass", "Nodule"),
    "Airspace Opacity": (),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Effusion",),
    "Support Devices": (),
}
"""CheXlocalize's ten tasks (Saporta et al., 2022) and the findings whose masks together answer each; some have none."""


def needs_masks(export: ExportName | None) -> bool:
    """Whether films must be predicted with masks for an export.

    Raises:
        ClarityError: they must, and pycocotools is not installed.
    """
    if export != "chexlocalize":
        return False
    pycocotools_mask()
    return True


def write_export(export: ExportName, jobs: Sequence[FilmJob], out: Path) -> Path:
    """Write `OUT/coco.json` or `OUT/chexlocalize.json` from the films' JSON files; films that failed are not in it.

    Raises:
        ClarityError: two films have one CheXlocalize id, or the file cannot be written.
    """
    path = out / f"{export}.json"
    write_json(path, _FORMATS[export](_results(jobs)))
    return path


def coco_boxes(results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A COCO data set of predicted boxes: images in their order and boxes `[x, y, width, height]`, ids from 1.

    `annotations` have a `score`, the finding's probability times the mean heat inside the box, so that as they are they
    are COCO's results too (`COCO.loadRes`).

    Args:
        results: content of films' JSON files.
    """
    images, annotations = [], []
    for image_id, result in enumerate(results, start=1):
        size = {"width": result["width"], "height": result["height"]}
        images.append({"id": image_id, "file_name": result["film"], **size})
        for box in result["boxes"]:
            width, height = box["x1"] - box["x0"], box["y1"] - box["y0"]
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": FINDINGS.index(box["finding"]) + 1,
                "bbox": [box["x0"], box["y0"], width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": box["score"],
            }
            annotations.append(annotation)
    categories = [{"id": index, "name": name} for index, name in enumerate(FINDINGS, start=1)]
    info = {"description": "Boxes predicted by clarity-cxr. Research use only."}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def chexlocalize_masks(results: Iterable[dict[str, Any]]) -> dict[str, dict[str, Rle]]:
    """CheXlocalize's predicted segmentations: CXR id -> each of the ten tasks -> run lengths in the film's own pixels.

    A task whose findings were decided negative, or that we have no finding for, has an empty mask.

    Args:
        results: content of films' JSON files, with `masks`.

    Raises:
        ClarityError: two films have one id.
    """
    masks: dict[str, dict[str, Rle]] = {}
    films: dict[str, str] = {}
    for result in results:
        name = cxr_id(result["film"])
        if name in films:
            raise ClarityError(f"{films[name]} and {result['film']}: both would be {name} in chexlocalize.json")
        films[name] = result["film"]
        masks[name] = {task: _task_mask(result, findings) for task, findings in CHEXLOCALIZE_TASKS.items()}
    return masks


def cxr_id(film: str) -> str:
    """CheXlocalize's id of a film, as `patient64541_study1_view1_frontal` of `patient64541/study1/view1_frontal.jpg`.

    Folders above the patient's are left out; a path without a patient's folder is joined whole.
    """
    parts = PurePosixPath(film).with_suffix("").parts
    first = next((position for position, part in enumerate(parts) if re.fullmatch(r"patient\d+", part)), 0)
    return "_".join(parts[first:])


def _task_mask(result: dict[str, Any], findings: Sequence[str]) -> Rle:
    """The union of the findings' masks."""
    found = [result["masks"][name] for name in findings if name in result["masks"]]
    if not found:
        return encode_mask(np.zeros((result["height"], result["width"]), dtype=bool))
    merged = pycocotools_mask().merge(found)
    return {"size": list(merged["size"]), "counts": merged["counts"].decode("ascii")}


def _results(jobs: Iterable[FilmJob]) -> Iterator[dict[str, Any]]:
    for job in jobs:
        if job.json.is_file():
            yield json.loads(job.json.read_text(encoding="utf-8"))


_FORMATS: dict[ExportName, Callable[[Iterable[dict[str, Any]]], dict[str, Any]]] = {
    "coco": coco_boxes,
    "chexlocalize": chexlocalize_masks,
}
