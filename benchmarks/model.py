"""CLARiTy against plain ViT-S, and against DenseNet-121 with 14 Grad-CAMs, in one run on one machine.

    python benchmarks/model.py [--threads 2] [--batch 16] [--rounds 7]

Peers: timm's `vit_small_patch16_224` (same backbone, one class token, no maps), and timm's DenseNet-121 with
`pytorch_grad_cam.GradCAM`, one map per finding. Rounds of all contenders are interleaved and the median of the rounds'
ratios is reported, so that a machine's drift does not favour any of them. Random weights: speed only.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.export import export_onnx
from clarity_cxr.inference.predictor import load
from clarity_cxr.inference.runner import OnnxPredictor
from clarity_cxr.localization.boxes import find_boxes_of_maps
from clarity_cxr.localization.heatmaps import localization_heatmaps
from clarity_cxr.models import Clarity, create_model, save_checkpoint
from clarity_cxr.training.config import LossConfig
from clarity_cxr.training.objective import combined_loss, loss_components
from record import record

THRESHOLD = 0.5
"""Probability from which a finding's boxes are made, and heat that a box starts at. Random weights find half of all."""
GRAD_CAM_FILMS = 8
"""Films of Grad-CAM in a round, which takes 14 backward passes of each."""
MAP_FILMS = 32
"""Films of ours in the same round, which take about a second."""
REST = 0.3
"""Seconds of rest before a turn; OpenMP, ONNX Runtime and OpenVINO stop spinning after less."""


def main() -> None:
    """Measure and write `runs/benchmarks/model.json`."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    films = torch.randint(0, 256, (options.batch, 224, 224), dtype=torch.uint8)
    student = create_model("clarity_s16_224")
    plain = plain_vit()
    densenet = timm.create_model("densenet121", num_classes=len(FINDINGS)).eval()
    rows = []
    for precision in ("float32", "bfloat16"):
        rows += forward_rows(student, plain, films, precision, options.rounds)
        for dropout in (0.0, 0.1):
            rows += step_rows(films, precision, dropout, options.rounds)
    rows += grad_cam_rows(student, densenet, options.rounds, options.threads)
    record("model", rows, threads=options.threads, batch=options.batch, rounds=options.rounds)


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def plain_vit(**options: float) -> torch.nn.Module:
    """timm's ViT-S/16 with 14 outputs."""
    return timm.create_model("vit_small_patch16_224", num_classes=len(FINDINGS), drop_path_rate=0.1, **options)


def forward_rows(
    student: Clarity, plain: torch.nn.Module, films: torch.Tensor, precision: str, rounds: int
) -> list[dict[str, object]]:
    """Inference: grey films to probabilities and 14 heatmaps, against the plain transformer's logits."""
    student.eval()
    plain.eval()
    images = student.preprocess(films)

    def maps() -> tuple[np.ndarray, np.ndarray]:
        output = student(student.preprocess(films), return_attention=True)
        assert output.attention is not None
        heatmaps = localization_heatmaps(output.attention, output.heatmap, student.config.mask_threshold, 224)
        return output.probabilities.float().numpy(), heatmaps.float().numpy()

    def boxes() -> None:
        probabilities, heatmaps = maps()
        for film_maps, positive in zip(heatmaps, probabilities >= THRESHOLD, strict=True):
            find_boxes_of_maps(film_maps[positive], np.full(positive.sum(), THRESHOLD))

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        maps_times, box_times, peer_times = interleaved([maps, boxes, lambda: plain(images)], rounds)
    return [
        ratio_row(
            f"forward, probabilities and {what}, {precision}", [times, peer_times], len(films), "timm ViT-S/16 forward"
        )
        for what, times in (("14 heatmaps", maps_times), ("14 heatmaps, boxes of the positive findings", box_times))
    ]


def step_rows(films: torch.Tensor, precision: str, dropout: float, rounds: int) -> list[dict[str, object]]:
    """Training step: forward, all losses, backward, fused AdamW, against the plain transformer with one BCE.

    Both have the same dropout in attention and MLP: none, or the recipe's 0.1. Augmentation is not part of either.
    """
    student = create_model("clarity_s16_224", mlp_dropout=dropout, attention_dropout=dropout).train()
    plain = plain_vit(proj_drop_rate=dropout, attn_drop_rate=dropout).train()
    for block in plain.blocks:
        block.attn.fused_attn = precision == "float32"  # the faster of timm's own two paths on this kind of CPU
    images = student.preprocess(films)
    labels = (torch.rand(len(films), len(FINDINGS)) < 0.1).float()
    priors = torch.rand(len(films), 4, 8, 8).repeat_interleave(16, 2).repeat_interleave(16, 3) > 0.5
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) for model in (student, plain)]
    loss_config = LossConfig()

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def ours() -> None:
        with autocast():
            components = loss_components(student(images), labels, labels, priors, loss_config)
        finish(combined_loss(components, loss_config), optimizers[0])

    def theirs() -> None:
        with autocast():
            logits = plain(images)
        finish(torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), labels), optimizers[1])

    times = interleaved([ours, theirs], rounds)
    name = f"training step, all losses, dropout {dropout:g}, {precision}"
    return [ratio_row(name, times, len(films), "timm ViT-S/16 step")]


def grad_cam_rows(student: Clarity, densenet: torch.nn.Module, rounds: int, threads: int) -> list[dict[str, object]]:
    """14 maps per film, against DenseNet-121 with a Grad-CAM per finding, which the package makes in float32 only."""
    films = torch.randint(0, 256, (MAP_FILMS, 224, 224), dtype=torch.uint8)
    images = student.preprocess(films[:GRAD_CAM_FILMS])
    cam = GradCAM(model=densenet, target_layers=[densenet.features[-1]])

    def theirs() -> None:
        for finding in range(len(FINDINGS)):
            cam(input_tensor=images, targets=[ClassifierOutputTarget(finding)] * len(images))

    with tempfile.TemporaryDirectory() as folder:
        checkpoint, exported = Path(folder) / "model.safetensors", Path(folder) / "model.onnx"
        save_checkpoint(checkpoint, student)
        export_onnx(checkpoint, exported)
        eager = load(checkpoint).film_model
        fastest = OnnxPredictor(exported, backend="openvino-bfloat16", threads=threads, streams=threads)

        def in_float32() -> None:
            with torch.inference_mode():
                eager(films)

        ours = [in_float32, lambda: fastest.maps(films.numpy())]
        *times, peer_times = interleaved([*ours, theirs], max(rounds // 2, 3), REST)
    peer_times = [seconds / GRAD_CAM_FILMS * MAP_FILMS for seconds in peer_times]
    peer = "DenseNet-121 + 14 Grad-CAMs, float32"
    rows = [
        ratio_row(f"14 maps per film, {name}", [taken, peer_times], MAP_FILMS, peer)
        for name, taken in zip(("eager float32", "fastest of each: OpenVINO bfloat16"), times, strict=True)
    ]
    return [row | {"speed-up": round(1 / float(str(row["ratio"])), 1)} for row in rows]


def finish(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Backward and update."""
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def interleaved(contenders: list[Callable[[], object]], rounds: int, rest: float = 0.0) -> list[list[float]]:
    """Seconds of each contender in each round, after one warm-up of each.

    `rest` seconds pass before each turn: threads that spin while they wait for work would disturb the next contender.
    """
    for contender in contenders:
        contender()
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, taken in zip(contenders, times, strict=True):
            time.sleep(rest)
            begin = time.perf_counter()
            contender()
            taken.append(time.perf_counter() - begin)
    return times


def ratio_row(name: str, times: list[list[float]], films: int, peer: str) -> dict[str, object]:
    """Median seconds of both, and the median of the rounds' ratios."""
    ratios = [ours / theirs for ours, theirs in zip(*times, strict=True)]
    return {
        "what": name,
        "ours ms/film": round(statistics.median(times[0]) / films * 1000, 2),
        "peer": peer,
        "peer ms/film": round(statistics.median(times[1]) / films * 1000, 2),
        "ratio": round(statistics.median(ratios), 4),
        "ratio range": f"{min(ratios):.3f}-{max(ratios):.3f}",
    }


if __name__ == "__main__":
    main()
