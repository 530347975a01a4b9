"""`clarity predict`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clarity_cxr.calibration import OperatingPoint
from clarity_cxr.inference.engines import Backend
from clarity_cxr.inference.folder_exports import ExportName

if TYPE_CHECKING:
    from clarity_cxr.inference.archive import ArchiveRun


def predict(
    films: list[Path],
    /,
    *,
    checkpoint: Path,
    out: Path,
    release: Path | None = None,
    batch_size: int = 16,
    device: str = "cpu",
    backend: Backend | None = None,
    decision_threshold: float = 0.5,
    operating_point: OperatingPoint | None = None,
    overlays: bool = True,
    dicom: bool = False,
    strict: bool = False,
    export: ExportName | None = None,
    shard: str | None = None,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    ray_actors: int | None = None,
) -> int:
    """Say what films show, and where: per film a JSON and an overlay, and one table, predictions.csv.

    A film that cannot be read is reported at the end and the rest go on; the exit code is then 1. Run again after an
    interruption, the command goes on where it stopped. Films of a folder keep their subfolders under the output.

    Args:
        films: films (PNG, JPEG or DICOM), DICOMDIRs, folders of films, which are searched with their subfolders, or
            lists of films: text with one path a line (.txt) or a table with a column `path` (.parquet).
        checkpoint: weights written by `clarity train` (.safetensors), or a model written by `clarity export` (.onnx).
        out: folder for the results.
        release: NIH release whose radiologists' boxes are drawn in green where it has them.
        batch_size: films in one forward pass.
        device: where the model runs: cpu, cuda, cuda:1, mps.
        backend: what computes: torch or torch-bfloat16 for a checkpoint, onnxruntime, openvino or openvino-bfloat16 for
            an export (default: torch and onnxruntime).
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive
            and its boxes are given.
        operating_point: decide at an operating point that `clarity calibrate` stored instead: half, youden, sensitive.
        overlays: whether to draw the overlays beside the JSON files.
        dicom: whether to write report, segmentations and overlay of films that are DICOM as DICOM, too.
        strict: let a film fail that is not a whole upright frontal chest film; else it is predicted with a warning.
        export: one file of all films' predictions for other tools, too: coco (boxes) or chexlocalize (masks of its
            tasks, the films' JSON files then hold masks).
        shard: share of the films to predict here, I/N from 1/N to N/N, for job arrays; the last joins the table.
        engine: local, or ray for archives: actors on this machine or a cluster write one row per film into Parquet
            parts and lines of JSON, and no overlay or DICOM.
        ray_address: running Ray cluster (10.0.0.1:6379, auto); without it --engine ray starts one on this machine.
        ray_actors: processes that hold the model (default: one per GPU with --device cuda, else per processor).

    Returns:
        0, or 1 if any film failed.
    """
    from clarity_cxr.data.workers import available_processors
    from clarity_cxr.dicom.writing import write_results
    from clarity_cxr.errors import ConfigError
    from clarity_cxr.files import file_digest
    from clarity_cxr.inference.film_jobs import plan_films
    from clarity_cxr.inference.folder_exports import needs_masks, write_export
    from clarity_cxr.inference.loading import load_predictor
    from clarity_cxr.inference.predict import FolderRun, predict_films, read_truth
    from clarity_cxr.inference.prediction_table import table_path
    from clarity_cxr.shards import WHOLE, parse_shard

    if engine == "ray":
        from clarity_cxr.inference.archive import ArchiveRun

        if release or dicom or shard or export:
            raise ConfigError(
                "--engine ray writes tables of rows only and shares out the films itself; "
                "leave out --release, --dicom, --export and --shard"
            )
        run = ArchiveRun(
            out.absolute(),
            checkpoint.absolute(),
            device,
            decision_threshold,
            operating_point,
            batch_size,
            strict,
            backend,
        )
        return _predict_archive(films, run, ray_address, ray_actors)
    if ray_address or ray_actors:
        raise ConfigError("--ray-address and --ray-actors are for --engine ray")
    share, masks = parse_shard(shard), needs_masks(export)
    jobs = plan_films(films, out)
    streams = available_processors() if min(len(jobs), batch_size) > 1 else 1
    predictor = load_predictor(checkpoint, device, decision_threshold, operating_point, backend, streams)
    truth = {} if release is None else read_truth(release)
    folder_run = FolderRun(file_digest(checkpoint), overlays, truth, strict, write_results if dicom else None, masks)
    summary = predict_films(predictor, jobs, out, folder_run, batch_size, share)
    if export and summary.table == table_path(out, WHOLE):
        print(f"exported: {write_export(export, jobs, out)}")
    already = f", {summary.already_done} were there already" if summary.already_done else ""
    decided = predictor.rule.to_dict()
    print(f"probabilities: calibration {decided['calibration']}; decided at the operating point {predictor.rule.point}")
    print(f"{summary.predicted} films predicted{already}: {summary.table}")
    for film, warning in summary.warnings.items():
        print(f"warning: {film}: {warning}", file=sys.stderr)
    if not summary.failures:
        return 0
    total = summary.predicted + summary.already_done + len(summary.failures)
    print(f"{len(summary.failures)} of {total} films failed:", file=sys.stderr)
    for reason in summary.failures.values():
        print(f"  {reason}", file=sys.stderr)
    return 1


def _predict_archive(films: list[Path], run: "ArchiveRun", ray_address: str | None, ray_actors: int | None) -> int:
    from clarity_cxr.inference.ray_engine import predict_archive

    summary = predict_archive(films, run, ray_address, ray_actors)
    already = summary.films - summary.predicted - summary.failed
    print(f"{summary.predicted} films predicted{f', {already} were there already' if already else ''}: {run.parts}")
    if summary.doubtful:
        print(f"warning: {summary.doubtful} films have warnings, see the column `warnings`", file=sys.stderr)
    if not summary.failed:
        return 0
    print(f"{summary.failed} of {summary.films} films failed, see the column `error`; some of them:", file=sys.stderr)
    for reason in summary.first_errors:
        print(f"  {reason}", file=sys.stderr)
    return 1
