"""One self-contained page out of a run: figures, learning curves, ROC curves, and a gallery.

The page holds its pictures and charts itself, needs no script and asks no other address for anything.
"""

import base64
import html
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from PIL import Image

from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.errors import ClarityError
from clarity_cxr.evaluation.curves import Chart, learning_charts, roc_charts, validation_chart
from clarity_cxr.evaluation.gallery import PANELS, GalleryRow, gallery_rows
from clarity_cxr.evaluation.protocols import PROTOCOLS
from clarity_cxr.files import atomic_path
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.inference.predictor import Predictor, load
from clarity_cxr.metrics import auc_per_finding

CONTROL_NAMES = {"random": "Random map", "prior": "Anatomical prior alone", "mean": "The finding's mean heatmap"}
FILMS_PER_FINDING = 2
_DASH = "–"

T = TypeVar("T")


@dataclass(frozen=True)
class RunFiles:
    """What a run's folder holds; a part that is not there is None.

    Attributes:
        folder: the run.
        evaluation: content of `evaluation.json`.
        predictions: `probabilities` (n, 14), `labels` (n, 14) and `split` (n,) of `evaluation_predictions.npz`.
        metrics: `train/metrics.csv`.
        predictor: of `train/best.safetensors`.
        store: `store/`.
    """

    folder: Path
    evaluation: dict[str, Any] | None
    predictions: dict[str, np.ndarray] | None
    metrics: pd.DataFrame | None
    predictor: Predictor | None
    store: FilmStore | None


def build_report(run: Path, out: Path) -> Path:
    """Write `report.html` for a run.

    Args:
        run: folder with `store/`, `train/`, `evaluation.json` and `evaluation_predictions.npz`, as far as they exist.
        out: folder for the page.

    Returns:
        The page's path.

    Raises:
        ClarityError: there is no such folder, nothing of a run is in it, or one of its files is damaged.
    """
    files = read_run(run)
    sections = [
        _headline(files),
        _localization(files),
        _per_finding(files),
        _learning(files),
        _roc(files),
        _gallery(files),
        _origin(files),
    ]
    template = Template(resources.files("clarity_cxr.evaluation").joinpath("report.html").read_text("utf-8"))
    page = template.substitute(
        title=f"CLARiTy run: {html.escape(run.resolve().name)}",
        subtitle=_subtitle(files),
        sections="\n".join(sections),
    )
    path = out / "report.html"
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def read_run(run: Path) -> RunFiles:
    """Read whatever parts of a run are there.

    Raises:
        ClarityError: see `build_report`.
    """
    if not run.is_dir():
        raise ClarityError(f"{run}: no such folder; expected a run with store/, train/ and evaluation.json")
    files = RunFiles(
        folder=run,
        evaluation=_read(run / "evaluation.json", lambda path: json.loads(path.read_text("utf-8"))),
        predictions=_read(run / "evaluation_predictions.npz", _read_predictions),
        metrics=_read(run / "train" / "metrics.csv", pd.read_csv),
        predictor=load(best) if (best := run / "train" / "best.safetensors").exists() else None,
        store=open_store(run / "store") if (run / "store").exists() else None,
    )
    if all(part is None for part in (files.evaluation, files.metrics, files.predictor, files.store)):
        raise ClarityError(
            f"{run}: nothing of a run is here; expected store/, train/metrics.csv, train/best.safetensors "
            "or evaluation.json"
        )
    return files


def _read(path: Path, reader: Callable[[Path], T]) -> T | None:
    if not path.exists():
        return None
    try:
        return reader(path)
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise ClarityError(f"{path}: cannot be read ({error}); delete it and make it again") from error


def _read_predictions(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ("probabilities", "labels", "split")}


def _subtitle(files: RunFiles) -> str:
    words = []
    if files.predictor is not None:
        config = files.predictor.model.config
        parameters = sum(tensor.numel() for tensor in files.predictor.model.parameters()) / 1e6
        words.append(
            f"{config.name}: {config.image_size} px, {config.grid} × {config.grid} patches, "
            f"{parameters:.2f} M parameters"
        )
    if files.store is not None:
        counts = ", ".join(f"{len(files.store.rows(split)):,} {split}" for split in ("train", "val", "test"))
        words.append(f"{len(files.store):,} films ({counts})")
    return html.escape(". ".join(words) + ("." if words else ""))


def _headline(files: RunFiles) -> str:
    result = files.evaluation
    if result is None:
        return _section("Summary", _missing("evaluation.json", "clarity evaluate"))
    intervals = result["intervals"]
    udp_protocol = result["udp_protocol"]
    tiles = [
        ("Macro AUC", _number(result["macro_auc"]), intervals["macro_auc"], f"{result['findings_in_mean']} findings"),
        *(
            (f"MSLI, {name}", _number(result["msli"][name]), intervals["msli"][name], _ratio(result, name))
            for name in PROTOCOLS
        ),
        ("UDP", _number(result["udp"]), intervals["udp"], f"macro AUC and MSLI ({udp_protocol}), their mean"),
    ]
    cells = "".join(
        f'<div class="tile"><span>{html.escape(name)}</span><b>{value}</b>'
        f"<span>{_interval(interval)}</span><span>{html.escape(note)}</span></div>"
        for name, value, interval, note in tiles
    )
    level = f"{intervals['level']:.0%}".replace("%", " %")
    note = (
        f"Test films. In brackets: {level} intervals, {intervals['method']} ({intervals['replicates']:,} replicates)."
    )
    return _section("Summary", f'<div class="tiles">{cells}</div><p class="soft">{html.escape(note)}</p>')


def _ratio(result: dict[str, Any], protocol: str) -> str:
    best = result["best_control"][protocol]
    if not best or best["ratio"] is None:
        return ""
    return f"{best['ratio']:.2f} times the best control ({best['control']})"


def _localization(files: RunFiles) -> str:
    title, result = "Localisation", files.evaluation
    if result is None:
        return _section(title, _missing("evaluation.json", "clarity evaluate"))
    if not result["localization"]["scored"]:
        return _section(title, _note(f"Localisation is not scored: {result['localization']['reason']}."))
    head = ["Source of the maps", *(f"MSLI, {name}" for name in PROTOCOLS)]
    head += [f"{name}, without Cardiomegaly" for name in PROTOCOLS]
    rows = [("model", [files.predictor.model.config.name if files.predictor else "Model", *_msli_cells(result)])]
    rows += [("", [CONTROL_NAMES[name], *_msli_cells(control)]) for name, control in result["controls"].items()]
    notes = [f"<b>{name}</b>: {html.escape(text.replace('`', ''))}" for name, text in result["protocols"].items()]
    notes += [
        f"{CONTROL_NAMES[name]} is not scored: {html.escape(str(control['reason']))}"
        for name, control in result["controls"].items()
        if control["reason"]
    ]
    body = (
        "<p>Mean accuracy over the IoU thresholds 0.1, 0.25, 0.5, 0.75 and 0.9, macro over the findings that have "
        "radiologists' boxes. Every source of maps, the controls too, goes through the same threshold search on the "
        "localisation-validation films.</p>"
        + _table(head, rows)
        + f'<p class="soft">Protocols. {". ".join(notes)}.</p>'
        + _iou_table(result)
    )
    return _section(title, body)


def _msli_cells(scores: dict[str, Any]) -> list[str]:
    """Both macro figures of a source under each protocol, with intervals."""
    intervals = scores["intervals"] or {}
    return [
        _figure(scores[key][name], (intervals.get(key) or {}).get(name))
        for key in ("msli", "msli_without_cardiomegaly")
        for name in PROTOCOLS
    ]


def _iou_table(result: dict[str, Any]) -> str:
    levels = list(next(iter(result["iou_accuracy"].values())))
    rows = [("", [name, *(_number(result["iou_accuracy"][name][level]) for level in levels)]) for name in PROTOCOLS]
    return "<h3>Macro IoU accuracy</h3>" + _table(["Protocol", *(f"IoU > {level}" for level in levels)], rows)


def _per_finding(files: RunFiles) -> str:
    title, result = "Each finding", files.evaluation
    if result is None:
        return _section(title, _missing("evaluation.json", "clarity evaluate"))
    head = [
        "Finding",
        "Positive films",
        "AUC",
        *(f"MSLI, {name}" for name in PROTOCOLS),
        "Best control, top",
        "Threshold",
    ]
    rows = [("", _finding_cells(finding, result["per_finding"][finding])) for finding in FINDINGS]
    total = [f"Macro ({result['findings_in_mean']} findings)", "", _figure(result["macro_auc"], None)]
    total += [_figure(result["msli"][name], None) for name in PROTOCOLS]
    best = result["best_control"].get("top") or {}
    rows.append(("sum", [*total, _number(best.get("msli")), ""]))
    body = _table(head, rows) + (
        f'<p class="soft">n counts boxes; a dash stands where a finding has no boxes ({len(BOXED_FINDINGS)} have) or '
        "too few films for the figure to be defined. Threshold: heat that starts a box, protocol top.</p>"
    )
    return _section(title, body)


def _finding_cells(finding: str, values: dict[str, Any]) -> list[str]:
    cells = [finding.replace("_", " "), f"{values['n_positive']:,}", _figure(values["auc"], values["auc_interval"])]
    found = values["localization"]
    if found is None:
        return [*cells, *[_DASH] * (len(PROTOCOLS) + 2)]
    cells += [
        _figure(found[name]["msli"], found[name]["msli_interval"], note=f"n = {found[name]['n']}") for name in PROTOCOLS
    ]
    controls = [control["top"]["msli"] for control in values["controls"].values() if control is not None]
    known = [value for value in controls if value is not None]
    return [*cells, _number(max(known) if known else None), _number(found["top"]["threshold"], 2)]


def _learning(files: RunFiles) -> str:
    title = "Learning curves"
    if files.metrics is None:
        return _section(title, _missing("train/metrics.csv", "clarity train"))
    validation = validation_chart(files.metrics)
    losses = learning_charts(files.metrics)
    body = "" if validation is None else f'<figure class="wide">{_chart(validation)}</figure>'
    if losses:
        body += "<h3>Losses</h3>" + _charts(losses, "charts")
    return _section(title, body or _note("train/metrics.csv holds no figures yet."))


def _roc(files: RunFiles) -> str:
    title = "ROC curves"
    if files.predictions is None:
        return _section(title, _missing("evaluation_predictions.npz", "clarity evaluate"))
    test = files.predictions["split"] == "test"
    if not test.any():
        return _section(title, _note("evaluation_predictions.npz holds no test films."))
    probabilities, labels = files.predictions["probabilities"][test], files.predictions["labels"][test].astype(bool)
    charts = roc_charts(probabilities, labels, auc_per_finding(probabilities, labels).tolist())
    lead = f'<p class="soft">{len(labels):,} test films; n counts the positive ones. Across: false positive rate.</p>'
    return _section(title, lead + _charts(charts, "charts small"))


def _gallery(files: RunFiles) -> str:
    title = "Gallery"
    if files.predictor is None:
        return _section(title, _missing("train/best.safetensors", "clarity train"))
    if files.store is None:
        return _section(title, _missing("store/", "clarity prepare"))
    boxed = not files.store.boxes.empty
    films = FILMS_PER_FINDING if boxed else FILMS_PER_FINDING * len(BOXED_FINDINGS)
    lead = (
        "<p>For each finding with boxes, test films drawn at random, those that the model decides positive first. "
        if boxed
        else "<p>The store has no boxes: random test films, each with its most probable finding. "
    ) + (
        "The foreground mask, the class token's attention, the localisation heatmap (attention inside the mask), and "
        "the boxes: predicted in red, the radiologist's in green.</p>"
    )
    rows = gallery_rows(files.store, files.predictor, films)
    groups = groupby(rows, key=lambda row: row.finding if boxed else "Random test films")
    body = "".join(
        f"<h3>{html.escape(name.replace('_', ' '))}</h3>" + "".join(_gallery_row(row, boxed) for row in group)
        for name, group in groups
    )
    return _section(title, lead + (body or _note("The store has no test films.")))


def _gallery_row(row: GalleryRow, boxed: bool) -> str:
    finding = "" if boxed else f"{row.finding.replace('_', ' ')}, "
    caption = html.escape(f"{row.image_id}: {finding}{row.caption}")
    panels = "".join(
        f'<figure><img alt="{name}, {caption}" width="{image.width}" height="{image.height}" src="{_jpeg(image)}">'
        f"<figcaption>{name}</figcaption></figure>"
        for name, image in zip(PANELS, row.panels, strict=True)
    )
    return f'<div class="row"><p class="soft">{caption}</p><div class="panels">{panels}</div></div>'


def _origin(files: RunFiles) -> str:
    entries: dict[str, Any] = {"Run": files.folder.resolve().name}
    if files.predictor is not None:
        provenance = files.predictor.metadata.provenance
        entries |= {f"Training: {key}": value for key, value in provenance.items() if not isinstance(value, dict)}
    if files.evaluation is not None:
        entries["Checkpoint (SHA-256)"] = files.evaluation["checkpoint"]["sha256"]
        entries |= {f"Version: {name}": value for name, value in files.evaluation["versions"].items()}
    if files.store is not None:
        entries["Store fingerprint"] = files.store.fingerprint
        entries["Priors"] = json.dumps(files.store.manifest["priors"])
    terms = "".join(
        f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd>" for key, value in entries.items()
    )
    return _section("Where the numbers come from", f"<dl>{terms}</dl>")


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _missing(part: str, command: str) -> str:
    return _note(f"{part} is not there yet; {command} makes it.")


def _note(text: str) -> str:
    return f'<p class="missing">{html.escape(text)}</p>'


def _charts(charts: Iterable[Chart], style: str) -> str:
    return f'<div class="{style}">' + "".join(f"<figure>{_chart(chart)}</figure>" for chart in charts) + "</div>"


def _chart(chart: Chart) -> str:
    caption = f"<b>{html.escape(chart.title)}</b>{html.escape(chart.subtitle)}"
    return f"<figcaption>{caption}</figcaption>{chart.svg}"


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table of rows (style, cells); cells are HTML."""
    header = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(
        f'<tr class="{style}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for style, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(value: float | None, interval: Sequence[float] | None, note: str = "") -> str:
    """A figure with its interval and a note below it."""
    below = ", ".join(part for part in (_interval(interval), note) if part)
    return _number(value) + (f"<small>{below}</small>" if below else "")


def _number(value: float | None, digits: int = 3) -> str:
    return _DASH if value is None else f"{value:.{digits}f}"


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"({interval[0]:.3f}–{interval[1]:.3f})"


def _jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
