"""The sections of a page about one run: figures, curves, gallery, origin."""

import html
import json
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from clarity_cxr.evaluation.curves import learning_charts, roc_charts, validation_chart
from clarity_cxr.evaluation.gallery import PANELS, GalleryRow
from clarity_cxr.evaluation.page import (
    DASH,
    chart,
    charts,
    figure,
    interval,
    jpeg,
    missing,
    note,
    number,
    section,
    table,
)
from clarity_cxr.evaluation.protocols import PROTOCOLS
from clarity_cxr.evaluation.run_files import RunFiles
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.metrics import auc_per_finding

CONTROL_NAMES = {"random": "Random map", "prior": "Anatomical prior alone", "mean": "The finding's mean heatmap"}


def subtitle(files: RunFiles) -> str:
    """The model and the films in one line, as HTML."""
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


def headline(files: RunFiles) -> str:
    """The macro figures."""
    result = files.evaluation
    if result is None:
        return section("Summary", missing("evaluation.json", "clarity evaluate"))
    intervals = result["intervals"]
    udp_protocol = result["udp_protocol"]
    tiles = [
        ("Macro AUC", number(result["macro_auc"]), intervals["macro_auc"], f"{result['findings_in_mean']} findings"),
        *(
            (f"MSLI, {name}", number(result["msli"][name]), intervals["msli"][name], _ratio(result, name))
            for name in PROTOCOLS
        ),
        ("UDP", number(result["udp"]), intervals["udp"], f"macro AUC and MSLI ({udp_protocol}), their mean"),
    ]
    cells = "".join(
        f'<div class="tile"><span>{html.escape(name)}</span><b>{value}</b>'
        f"<span>{interval(limits)}</span><span>{html.escape(remark)}</span></div>"
        for name, value, limits, remark in tiles
    )
    level = f"{intervals['level']:.0%}".replace("%", " %")
    remark = (
        f"Test films. In brackets: {level} intervals, {intervals['method']} ({intervals['replicates']:,} replicates)."
    )
    return section("Summary", f'<div class="tiles">{cells}</div><p class="soft">{html.escape(remark)}</p>')


def _ratio(result: dict[str, Any], protocol: str) -> str:
    best = result["best_control"][protocol]
    if not best or best["ratio"] is None:
        return ""
    return f"{best['ratio']:.2f} times the best control ({best['control']})"


def localization(files: RunFiles) -> str:
    """MSLI of the model and the controls under each protocol."""
    title, result = "Localisation", files.evaluation
    if result is None:
        return section(title, missing("evaluation.json", "clarity evaluate"))
    if not result["localization"]["scored"]:
        return section(title, note(f"Localisation is not scored: {result['localization']['reason']}."))
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
        + table(head, rows)
        + f'<p class="soft">Protocols. {". ".join(notes)}.</p>'
        + _iou_table(result)
    )
    return section(title, body)


def _msli_cells(scores: dict[str, Any]) -> list[str]:
    """Both macro figures of a source under each protocol, with intervals."""
    intervals = scores["intervals"] or {}
    return [
        figure(scores[key][name], (intervals.get(key) or {}).get(name))
        for key in ("msli", "msli_without_cardiomegaly")
        for name in PROTOCOLS
    ]


def _iou_table(result: dict[str, Any]) -> str:
    levels = list(next(iter(result["iou_accuracy"].values())))
    rows = [("", [name, *(number(result["iou_accuracy"][name][level]) for level in levels)]) for name in PROTOCOLS]
    return "<h3>Macro IoU accuracy</h3>" + table(["Protocol", *(f"IoU > {level}" for level in levels)], rows)


def per_finding(files: RunFiles) -> str:
    """AUC and MSLI of every finding."""
    title, result = "Each finding", files.evaluation
    if result is None:
        return section(title, missing("evaluation.json", "clarity evaluate"))
    head = [
        "Finding",
        "Positive films",
        "AUC",
        *(f"MSLI, {name}" for name in PROTOCOLS),
        "Best control, top",
        "Threshold",
    ]
    rows = [("", _finding_cells(finding, result["per_finding"][finding])) for finding in FINDINGS]
    total = [f"Macro ({result['findings_in_mean']} findings)", "", figure(result["macro_auc"], None)]
    total += [figure(result["msli"][name], None) for name in PROTOCOLS]
    best = result["best_control"].get("top") or {}
    rows.append(("sum", [*total, number(best.get("msli")), ""]))
    body = table(head, rows) + (
        f'<p class="soft">n counts boxes; a dash stands where a finding has no boxes ({len(BOXED_FINDINGS)} have) or '
        "too few films for the figure to be defined. Threshold: heat that starts a box, protocol top.</p>"
    )
    return section(title, body)


def _finding_cells(finding: str, values: dict[str, Any]) -> list[str]:
    positive = f"{values['n_positive']:,}" if values["n_positive"] + values["n_negative"] else "not labelled"
    cells = [finding.replace("_", " "), positive, figure(values["auc"], values["auc_interval"])]
    found = values["localization"]
    if found is None:
        return [*cells, *[DASH] * (len(PROTOCOLS) + 2)]
    cells += [
        figure(found[name]["msli"], found[name]["msli_interval"], f"n = {found[name]['n']}") for name in PROTOCOLS
    ]
    controls = [control["top"]["msli"] for control in values["controls"].values() if control is not None]
    known = [value for value in controls if value is not None]
    return [*cells, number(max(known) if known else None), number(found["top"]["threshold"], 2)]


def learning(files: RunFiles) -> str:
    """Validation scores and losses over the epochs."""
    title = "Learning curves"
    if files.metrics is None:
        return section(title, missing("train/metrics.csv", "clarity train"))
    validation = validation_chart(files.metrics)
    losses = learning_charts(files.metrics)
    body = "" if validation is None else f'<figure class="wide">{chart(validation)}</figure>'
    if losses:
        body += "<h3>Losses</h3>" + charts(losses, "charts")
    return section(title, body or note("train/metrics.csv holds no figures yet."))


def roc(files: RunFiles) -> str:
    """ROC curves of the test films."""
    title = "ROC curves"
    if files.predictions is None:
        return section(title, missing("evaluation_predictions.npz", "clarity evaluate"))
    test = files.predictions["split"] == "test"
    if not test.any():
        return section(title, note("evaluation_predictions.npz holds no test films."))
    probabilities, labels = files.predictions["probabilities"][test], files.predictions["labels"][test].astype(bool)
    labelled = files.predictions["labelled"][test]
    aucs = auc_per_finding(probabilities, labels, labelled).tolist()
    curves = roc_charts(probabilities, labels, aucs, labelled)
    lead = f'<p class="soft">{len(labels):,} test films; n counts the positive ones. Across: false positive rate.</p>'
    return section(title, lead + charts(curves, "charts small"))


def gallery(files: RunFiles, rows: Iterable[GalleryRow]) -> str:
    """Films beside what the model sees in them (Figure 9).

    Args:
        files: the run.
        rows: of `clarity_cxr.evaluation.gallery.gallery_rows`.
    """
    title = "Gallery (Figure 9)"
    if files.predictor is None:
        return section(title, missing("train/best.safetensors", "clarity train"))
    if files.store is None:
        return section(title, missing("store/", "clarity prepare"))
    boxed = not files.store.boxes.empty
    lead = (
        "<p>For each finding with boxes, test films drawn at random, those that the model decides positive first. "
        if boxed
        else "<p>The store has no boxes: random test films, each with its most probable finding. "
    ) + (
        "The foreground mask, the class token's attention, the localisation heatmap (attention inside the mask), and "
        "the boxes: predicted in red, the radiologist's in green.</p>"
    )
    groups = groupby(rows, key=lambda row: row.finding if boxed else "Random test films")
    body = "".join(
        f"<h3>{html.escape(name.replace('_', ' '))}</h3>" + "".join(_gallery_row(row, boxed) for row in group)
        for name, group in groups
    )
    return section(title, lead + (body or note("The store has no test films.")))


def _gallery_row(row: GalleryRow, boxed: bool) -> str:
    finding = "" if boxed else f"{row.finding.replace('_', ' ')}, "
    caption = html.escape(f"{row.image_id}: {finding}{row.caption}")
    panels = "".join(
        f'<figure><img alt="{name}, {caption}" width="{image.width}" height="{image.height}" src="{jpeg(image)}">'
        f"<figcaption>{name}</figcaption></figure>"
        for name, image in zip(PANELS, row.panels, strict=True)
    )
    return f'<div class="row"><p class="soft">{caption}</p><div class="panels">{panels}</div></div>'


def origin(files: RunFiles) -> str:
    """Checkpoint, store and versions."""
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
    return section("Where the numbers come from", f"<dl>{terms}</dl>")
