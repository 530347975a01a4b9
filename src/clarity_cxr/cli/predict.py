"""`clarity predict`."""

from pathlib import Path

from clarity_cxr.calibration import OperatingPoint


def predict(
    films: list[Path],
    /,
    *,
    checkpoint: Path,
    out: Path,
    release: Path | None = None,
    batch_size: int = 16,
    device: str = "cpu",
    decision_threshold: float = 0.5,
    operating_point: OperatingPoint | None = None,
    overlays: bool = True,
    dicom: bool = False,
    strict: bool = False,
) -> int:
    """Say what films show, and where: per film a JSON and an overlay, and one table, predictions.csv.

    A film that cannot be read is reported at the end and the rest go on; the exit code is then 1. Run again after an
    interruption, the command goes on where it stopped. Films of a folder keep their subfolders under the output.

    Args:
        films: films (PNG, JPEG or DICOM), DICOMDIRs, or folders of films, which are searched with their subfolders.
        checkpoint: weights written by `clarity train` (.safetensors), or a model written by `clarity export` (.onnx).
        out: folder for the results.
        release: NIH release whose radiologists' boxes are drawn in green where it has them.
        batch_size: films in one forward pass.
        device: where the model runs: cpu, cuda, cuda:1, mps.
        decision_threshold: the model's own probability, before calibration, from which a finding is decided positive
            and its boxes are given.
        operating_point: decide at an operating point that `clarity calibrate` stored instead: half, youden, sensitive.
        overlays: whether to draw the overlays beside the JSON files.
        dicom: whether to write report, segmentations and overlay of films that are DICOM as DICOM, too.
        strict: let a film fail that is not a whole upright frontal chest film; else it is predicted with a warning.

    Returns:
        0, or 1 if any film failed.
    """
    import sys

    from clarity_cxr.dicom.writing import write_results
    from clarity_cxr.files import file_digest
    from clarity_cxr.inference.film_jobs import plan_films
    from clarity_cxr.inference.loading import load_predictor
    from clarity_cxr.inference.predict import FolderRun, predict_films, read_truth

    jobs = plan_films(films, out)
    predictor = load_predictor(checkpoint, device, decision_threshold, operating_point)
    truth = {} if release is None else read_truth(release)
    run = FolderRun(file_digest(checkpoint), overlays, truth, strict, write_results if dicom else None)
    summary = predict_films(predictor, jobs, out, run, batch_size)
    already = f", {summary.already_done} were there already" if summary.already_done else ""
    decided = predictor.rule.to_dict()
    print(f"probabilities: calibration {decided['calibration']}; decided at the operating point {predictor.rule.point}")
    print(f"{summary.predicted} films predicted{already}: {summary.table}")
    for film, warning in summary.warnings.items():
        print(f"warning: {film}: {warning}", file=sys.stderr)
    if not summary.failures:
        return 0
    print(f"{len(summary.failures)} of {len(jobs)} films failed:", file=sys.stderr)
    for reason in summary.failures.values():
        print(f"  {reason}", file=sys.stderr)
    return 1
