"""Ways to run a model on a CPU, by speed and by what they lose, against eager float32 and timm's plain ViT-S.

    python benchmarks/serving_cpu.py [--model clarity_s16_224] [--threads 2] [--rounds 5] [--batches 1 8 32]
        [--checkpoint F --store S --films 2000]

From grey films of the model's size to probabilities and 14 heatmaps. All ways take turns; before each turn the machine
rests for a moment, so that the spinning threads of the one before are asleep. The median of the rounds' ratios to eager
float32 is reported. With `--checkpoint` and `--store` each way that computes other numbers is compared on the store's
test films: macro AUC, and the share of films whose boxes differ. A way that does not work here is listed with its
reason.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from clarity_cxr.data.store import open_store
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.engines import INPUT, OUTPUTS, ExportBackend
from clarity_cxr.inference.export import export_onnx
from clarity_cxr.inference.loading import AnyPredictor
from clarity_cxr.inference.predictor import Predictor, load
from clarity_cxr.inference.runner import OnnxPredictor
from deployment import agreement_rows, random_checkpoint
from model import REST, interleaved
from record import record

Run = Callable[[np.ndarray], object]
PEER = "timm ViT-S/16, no maps"


def main() -> None:
    """Measure and write `serving_cpu.json`, and `serving_cpu_agreement.json` with a store."""
    options = arguments()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or random_checkpoint(options.model, Path(folder))
        exported, smaller = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        export_onnx(checkpoint, exported)
        export_onnx(checkpoint, smaller, "int8")
        rows = [row for batch in options.batches for row in speed_rows(checkpoint, exported, smaller, batch, options)]
        record("serving_cpu", rows, model=options.model, threads=options.threads, rounds=options.rounds)
        if options.store is not None:
            predictors = numerics(checkpoint, exported, smaller, options.threads)
            agreement = agreement_rows(load(checkpoint), predictors, open_store(options.store), options.films)
            record("serving_cpu_agreement", agreement, checkpoint=checkpoint.name, films=options.films)


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clarity_s16_224")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    return parser.parse_args()


def speed_rows(
    checkpoint: Path, exported: Path, smaller: Path, batch: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row per way for one batch size."""
    ours = load(checkpoint)
    films = np.random.default_rng(0).integers(0, 256, (batch, ours.image_size, ours.image_size), dtype=np.uint8)
    ways = torch_ways(ours) | onnxruntime_ways(exported, smaller, options.threads)
    ways |= openvino_ways(exported, smaller, films.shape, options.threads)
    working, rows = {}, []
    for name, make in ways.items():
        try:
            run = make()
            run(films)
            working[name] = run
        except Exception as error:  # whatever an engine or a compiler raises is what is to be reported
            said = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            rows.append({"what": name, "films": batch, "says": said})
    turns = [lambda run=run: run(films) for run in working.values()]
    times = interleaved(turns, options.rounds, REST)
    peer = times[list(working).index(f"{PEER}, float32")]
    for name, taken in zip(working, times, strict=True):
        faster = [eager / own for eager, own in zip(times[0], taken, strict=True)]
        to_peer = [own / other for own, other in zip(taken, peer, strict=True)]
        line: dict[str, Any] = {"what": name, "films": batch}
        line |= {"ms/film": round(statistics.median(taken) / batch * 1000, 1)}
        line |= {"times faster than eager": round(statistics.median(faster), 2)}
        line |= {
            "range": f"{min(faster):.2f}-{max(faster):.2f}",
            "of the peer's time": round(statistics.median(to_peer), 2),
        }
        rows.append(line)
    return rows


def torch_ways(ours: Predictor) -> dict[str, Callable[[], Run]]:
    """Eager and compiled, in float32 and under bfloat16 autocast; and the peer."""
    side = ours.image_size
    plain = timm.create_model("vit_small_patch16_224", num_classes=len(FINDINGS), img_size=side).eval()

    def runner(network: Callable[..., object], prepare: Callable[[torch.Tensor], torch.Tensor], half: bool) -> Run:
        def run(films: np.ndarray) -> object:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                return network(prepare(torch.from_numpy(films)))

        return run

    def compiled() -> Callable[..., object]:
        torch.compiler.reset()
        return torch.compile(ours.film_model, dynamic=False)

    def as_is(films: torch.Tensor) -> torch.Tensor:
        return films

    ways: dict[str, Callable[[], Run]] = {}
    for half, name in ((False, "float32"), (True, "bfloat16")):
        ways[f"eager, {name}"] = lambda half=half: runner(ours.film_model, as_is, half)
        ways[f"torch.compile, {name}"] = lambda half=half: runner(compiled(), as_is, half)
        ways[f"{PEER}, {name}"] = lambda half=half: runner(plain, ours.model.preprocess, half)
    return ways


def onnxruntime_ways(exported: Path, smaller: Path, threads: int) -> dict[str, Callable[[], Run]]:
    """ONNX Runtime with several settings."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    settings = {
        "ONNX Runtime": (exported, threads, False, levels.ORT_ENABLE_ALL),
        "ONNX Runtime, spinning": (exported, threads, True, levels.ORT_ENABLE_ALL),
        "ONNX Runtime, 1 thread": (exported, 1, False, levels.ORT_ENABLE_ALL),
        "ONNX Runtime, basic optimisation": (exported, threads, False, levels.ORT_ENABLE_BASIC),
        "ONNX Runtime, int8": (smaller, threads, False, levels.ORT_ENABLE_ALL),
    }

    def open_session(path: Path, intra: int, spinning: bool, level: Any) -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.graph_optimization_level = intra, level
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda films: session.run(list(OUTPUTS), {INPUT: films})

    return {name: lambda setting=setting: open_session(*setting) for name, setting in settings.items()}


def openvino_ways(exported: Path, smaller: Path, shape: tuple[int, ...], threads: int) -> dict[str, Callable[[], Run]]:
    """OpenVINO with its precision and performance hints, and with the films' shape known beforehand."""

    def compiled(path: Path, precision: str, hint: str, static: bool) -> Any:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        if static:
            model.reshape({INPUT: list(shape)})
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": threads}
        return core.compile_model(model, "CPU", settings)

    def at_once(path: Path, precision: str, static: bool = False) -> Run:
        request = compiled(path, precision, "LATENCY", static).create_infer_request()
        return lambda films: request.infer({INPUT: films}, share_inputs=True)

    def in_streams(backend: ExportBackend) -> Run:
        return OnnxPredictor(exported, threads=threads, backend=backend, streams=threads).maps

    ways: dict[str, Callable[[], Run]] = {}
    backends: list[tuple[str, str, ExportBackend]] = [
        ("f32", "float32", "openvino"),
        ("bf16", "bfloat16", "openvino-bfloat16"),
    ]
    for hint, name, backend in backends:
        ways[f"OpenVINO, {name}"] = lambda hint=hint: at_once(exported, hint)
        ways[f"OpenVINO, {name}, static shape"] = lambda hint=hint: at_once(exported, hint, static=True)
        ways[f"OpenVINO, {name}, streams"] = lambda backend=backend: in_streams(backend)
    ways["OpenVINO, int8"] = lambda: at_once(smaller, "f32")
    return ways


def numerics(checkpoint: Path, exported: Path, smaller: Path, threads: int) -> dict[str, AnyPredictor]:
    """One predictor for each way of computing that gives other numbers."""
    return {
        "eager, bfloat16": load(checkpoint, backend="torch-bfloat16"),
        "ONNX Runtime": OnnxPredictor(exported, threads=threads),
        "ONNX Runtime, int8": OnnxPredictor(smaller, threads=threads),
        "OpenVINO, float32": OnnxPredictor(exported, threads=threads, backend="openvino"),
        "OpenVINO, bfloat16": OnnxPredictor(exported, threads=threads, backend="openvino-bfloat16"),
        "OpenVINO, int8": OnnxPredictor(smaller, threads=threads, backend="openvino"),
    }


if __name__ == "__main__":
    main()
