"""One film on the CPU: torch, ONNX Runtime and int8, beside plain ViT-S and DenseNet-121 with 14 Grad-CAMs.

    python benchmarks/deployment.py [--model clarity_s16_224] [--threads 2] [--rounds 15] [--films 64]
        [--checkpoint F --store S]

All contenders take the same film at the model's size and are interleaved; the median of the rounds' ratios to eager
torch is reported. `--checkpoint` and `--store` measure what int8 costs: macro AUC of the store's test films with each,
and how often decisions and boxes differ. The cold start is a new process that imports the runner, opens the model and
predicts a film of 1024 x 1024.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.export import export_onnx
from clarity_cxr.inference.loading import AnyPredictor
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.inference.predictor import load
from clarity_cxr.inference.runner import OnnxPredictor
from clarity_cxr.metrics import auc_per_finding, box_iou
from clarity_cxr.models import create_model, save_checkpoint
from model import REST, interleaved
from record import record

COLD_START = """
import sys
import numpy as np
from clarity_cxr.inference.runner import OnnxPredictor
predictor = OnnxPredictor(sys.argv[1], threads=int(sys.argv[2]))
predictor.predict(np.zeros((1024, 1024), dtype=np.uint8))
"""


def main() -> None:
    """Measure and write `runs/benchmarks/deployment.json`, and `deployment_agreement.json` with a store."""
    options = arguments()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or random_checkpoint(options.model, Path(folder))
        exported, smaller = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        export_onnx(checkpoint, exported)
        export_onnx(checkpoint, smaller, "int8")
        rows = speed_rows(checkpoint, exported, smaller, options)
        rows += cold_start_rows(exported, options)
        agreement = [] if options.store is None else export_agreement(checkpoint, exported, smaller, options)
    record("deployment", rows, model=options.model, threads=options.threads, rounds=options.rounds)
    if agreement:
        record("deployment_agreement", agreement, checkpoint=checkpoint.name, films=options.films)


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clarity_s16_224")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def random_checkpoint(name: str, folder: Path) -> Path:
    """A checkpoint of random weights: speed only."""
    path = folder / "random.safetensors"
    torch.manual_seed(0)
    save_checkpoint(path, create_model(name))
    return path


def speed_rows(checkpoint: Path, exported: Path, smaller: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """Grey film to probabilities and 14 heatmaps, eager torch being 1."""
    ours = load(checkpoint)
    side = ours.image_size
    film = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    batch = torch.from_numpy(film)[None]
    images = ours.model.preprocess(batch)
    runners = [OnnxPredictor(path, threads=options.threads) for path in (exported, smaller)]
    plain = timm.create_model("vit_small_patch16_224", num_classes=len(FINDINGS), img_size=side).eval()
    densenet = timm.create_model("densenet121", num_classes=len(FINDINGS)).eval()
    cam = GradCAM(model=densenet, target_layers=[densenet.features[-1]])

    def eager() -> None:
        with torch.inference_mode():
            ours.film_model(batch)

    def plain_vit() -> None:
        with torch.inference_mode():
            plain(images)

    def grad_cams() -> None:
        for finding in range(len(FINDINGS)):
            cam(input_tensor=images, targets=[ClassifierOutputTarget(finding)])

    contenders = {
        "CLARiTy, eager torch": eager,
        "CLARiTy, ONNX Runtime": lambda: runners[0].maps(film[None]),
        "CLARiTy, ONNX Runtime, int8": lambda: runners[1].maps(film[None]),
        "timm ViT-S/16, eager, no maps": plain_vit,
        "DenseNet-121 + 14 Grad-CAMs, eager": grad_cams,
    }
    times = interleaved(list(contenders.values()), options.rounds, REST)
    sizes = {"CLARiTy, ONNX Runtime": exported, "CLARiTy, ONNX Runtime, int8": smaller}
    rows = []
    for name, taken in zip(contenders, times, strict=True):
        faster = [eager_time / own for eager_time, own in zip(times[0], taken, strict=True)]
        row: dict[str, object] = {"what": name, "ms": round(statistics.median(taken) * 1000, 1)}
        row |= {"times faster than eager": round(statistics.median(faster), 2)}
        row |= {"range": f"{min(faster):.2f}-{max(faster):.2f}"}
        rows.append(row | ({"MB": round(sizes[name].stat().st_size / 1e6, 1)} if name in sizes else {}))
    return rows


def cold_start_rows(exported: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """From no process to its first prediction, Python's own start included."""
    command = [sys.executable, "-c", COLD_START, str(exported), str(options.threads)]
    whole = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run(command, check=True)
        whole.append(time.perf_counter() - begin)
    return [{"what": "runner's cold start to the first prediction", "ms": round(statistics.median(whole) * 1000, 1)}]


def export_agreement(
    checkpoint: Path, exported: Path, smaller: Path, options: argparse.Namespace
) -> list[dict[str, object]]:
    """What the exports change on the store's test films, against eager torch."""
    named = {"ONNX Runtime": exported, "ONNX Runtime, int8": smaller}
    predictors = {name: OnnxPredictor(path, threads=options.threads) for name, path in named.items()}
    return agreement_rows(load(checkpoint), predictors, open_store(options.store), options.films)


def agreement_rows(
    reference: AnyPredictor, predictors: Mapping[str, AnyPredictor], store: FilmStore, count: int
) -> list[dict[str, object]]:
    """What each predictor changes against a reference on the first of a store's test films."""
    rows = store.rows("test")[:count]
    labels = store.labels[rows]
    films = [store.films[row] for row in rows]
    expected = predictions(reference, films)
    wanted = np.array([list(one.probabilities.values()) for one in expected])
    wanted_decisions = np.array([list(one.decisions.values()) for one in expected])
    result = []
    for name, predictor in predictors.items():
        said = predictions(predictor, films)
        values = np.array([list(one.probabilities.values()) for one in said])
        decided = np.array([list(one.decisions.values()) for one in said])
        boxes = [edges(one) == edges(other) for one, other in zip(said, expected, strict=True)]
        result.append(
            {
                "what": name,
                "films": len(films),
                "macro AUC": round(float(np.nanmean(auc_per_finding(values, labels))), 4),
                "eager float32": round(float(np.nanmean(auc_per_finding(wanted, labels))), 4),
                "largest change": float(np.abs(values - wanted).max()),
                "other decisions": f"{np.mean(decided != wanted_decisions):.3%}",
                "films with other boxes": f"{1 - np.mean(boxes):.2%}",
                "mean IoU": round(mean_iou(said, expected), 4),
            }
        )
    return result


def mean_iou(said: Sequence[FilmPrediction], expected: Sequence[FilmPrediction]) -> float:
    """Of each reference box with the best box of its finding in its film, 0 where there is none; NaN without boxes."""
    best = []
    for ours, theirs in zip(said, expected, strict=True):
        for box in theirs.boxes:
            mine = np.array([edge[1:] for edge in edges(ours) if edge[0] == box.finding]).reshape(-1, 4)
            wanted = np.array([[box.x0, box.y0, box.x1, box.y1]])
            best.append(float(box_iou(wanted, mine).max(initial=0.0)))
    return float(np.mean(best)) if best else float("nan")


def predictions(predictor: AnyPredictor, films: list[np.ndarray]) -> list[FilmPrediction]:
    """In batches of 32."""
    starts = range(0, len(films), 32)
    return [one for first in starts for one in predictor.predict_batch(films[first : first + 32])]


def edges(prediction: FilmPrediction) -> list[tuple[str, float, float, float, float]]:
    """Every box's finding and edges."""
    return [(box.finding, box.x0, box.y0, box.x1, box.y1) for box in prediction.boxes]


if __name__ == "__main__":
    main()
