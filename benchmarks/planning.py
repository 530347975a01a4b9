"""How well `clarity plan` predicts: every step really done on a phantom release, beside its plan.

    python benchmarks/planning.py [--films 2000] [--side 256] [--size 64] [--epochs 3] [--teacher-epochs 2]
        [--model clarity_t8_64] [--teacher resnet10t] [--batch 16] [--processes 2]

Constants are measured first, with the release's own films, models and batch. Then each step of the plan is run by the
functions behind the commands, in this process, and timed; bytes on the disk are counted. The ratio is real over
planned. Starting programs is in neither. Scoring, which the plan leaves out, is in what is real; as few phantoms have
boxes as NIH films.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ != "__mp_main__":  # worker processes import this file again, and the commands' own need none of these
    import torch

    from clarity_cxr.anatomy.builtin import load_builtin
    from clarity_cxr.anatomy.film_check import check_store, film_problems
    from clarity_cxr.anatomy.store_priors import write_store_priors
    from clarity_cxr.data.augmentation import AugmentationConfig
    from clarity_cxr.data.check import check_release
    from clarity_cxr.data.phantom import PhantomConfig, write_release
    from clarity_cxr.data.prepare import prepare
    from clarity_cxr.distill.dump import dump
    from clarity_cxr.distill.source import LogitSource
    from clarity_cxr.evaluation.evaluate import evaluate
    from clarity_cxr.inference.film_jobs import plan_films
    from clarity_cxr.inference.predict import FolderRun, predict_films
    from clarity_cxr.inference.predictor import load
    from clarity_cxr.models import ModelOptions
    from clarity_cxr.planning.bench import Subject, measure
    from clarity_cxr.planning.plan import Archive, Step, plan
    from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
    from clarity_cxr.training.train import train
    from record import record

BOXED_SHARE = 0.06
"""Of the phantoms' findings that could have boxes: about 0.8 % of the films then have some."""


def main() -> None:
    """Measure, plan, run, and write `runs/benchmarks/planning.json`."""
    options = arguments()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        release = folder / "release"
        write_release(release, PhantomConfig(options.films, options.side, boxed_share=BOXED_SHARE), options.processes)
        shutil.rmtree(release / "priors")  # a real release has none; `anatomy` makes them
        subject = Subject(
            options.model, options.teacher, options.size, options.batch, "cpu", options.processes, release
        )
        constants = measure(subject, folder)
        archive = Archive(
            options.films, options.size, options.epochs, options.teacher_epochs, processes=options.processes
        )
        pairs = zip(plan(archive, constants), steps(folder, options), strict=True)
        rows = [compare(step, work, folder) for step, work in pairs]
    record("planning", rows, **{key: value for key, value in vars(options).items() if key != "scratch"})


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256, help="of the release's films")
    parser.add_argument("--size", type=int, default=64, help="of the prepared films")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--teacher-epochs", type=int, default=2)
    parser.add_argument("--model", default="clarity_t8_64")
    parser.add_argument("--teacher", default="resnet10t")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="folder on the disk that is meant")
    return parser.parse_args()


def steps(folder: Path, options: argparse.Namespace) -> list[Callable[[], object]]:
    """What each step of a plan does, in the plan's order."""
    release, store = folder / "release", folder / "store"
    teacher, student = folder / "teacher/best.safetensors", folder / "student/best.safetensors"

    def check() -> None:
        report = check_release(release, processes=options.processes)
        film_problems(release, report.paths, "warning")

    def prepare_store() -> None:
        check_store(prepare(release, store, options.size, options.processes))

    def learn(name: str, epochs: int, out: Path, logits: Path | None) -> None:
        optimization = OptimizationConfig(epochs=epochs, batch_size=options.batch, learning_rate=1e-4)
        run = RunConfig(evaluation_batch_size=options.batch)
        model = ModelOptions(name, image_size=options.size)
        train(store, out, model, AugmentationConfig(), LossConfig(), optimization, run, logits)

    def dump_logits() -> None:
        source = LogitSource(teacher, store, AugmentationConfig(), RunConfig().seed)
        dump(source, folder / "logits", options.epochs, batch_size=options.batch, origin={})

    def predict() -> None:
        out = folder / "predictions"
        predict_films(load(student), plan_films([release], out), out, FolderRun("", True, {}), options.batch)

    return [
        check,
        prepare_store,
        lambda: write_store_priors(store, load_builtin(), options.batch),
        lambda: learn(options.teacher, options.teacher_epochs, teacher.parent, None),
        dump_logits,
        lambda: learn(options.model, options.epochs, student.parent, folder / "logits"),
        lambda: evaluate(student, store, folder / "evaluation"),
        predict,
    ]


def compare(step: Step, work: Callable[[], object], folder: Path) -> dict[str, object]:
    """Run one step, beside its plan."""
    before, begin = folder_bytes(folder), time.perf_counter()
    work()
    seconds = time.perf_counter() - begin
    return {
        "what": step.name,
        "planned s": round(3600 * step.hours, 1),
        "real s": round(seconds, 1),
        "real / planned": round(seconds / (3600 * step.hours), 2),
        "waits for": step.bottleneck,
        "planned MB": round(step.disk_bytes / 1e6, 2),
        "real MB": round((folder_bytes(folder) - before) / 1e6, 2),
    }


def folder_bytes(folder: Path) -> int:
    """Of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
