"""The printed tables of an evaluation, 80 columns wide."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from clarity_cxr.evaluation.controls import CONTROLS
from clarity_cxr.evaluation.protocols import PROTOCOLS
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS

_MARKS = {"searched": " ", "unconditioned": "*", "macro": "†", "default": "‡"}
_MARK_NOTES = {
    "unconditioned": "* threshold chosen on all validation boxes: no film of them is predicted positive",
    "macro": "† no validation box: the threshold is the others' best macro threshold",
    "default": "‡ threshold 0.5, not searched",
}


def print_tables(result: Mapping[str, Any], console: Console) -> None:
    """Print classification, localisation under each protocol, and the macro figures.

    Args:
        result: content of `evaluation.json`.
        console: where to.
    """
    console.print(classification_table(result))
    if not result["localization"]["scored"]:
        console.print(f"Localisation is not scored: {result['localization']['reason']}.")
        return
    for protocol in PROTOCOLS:
        console.print(localization_table(result, protocol), "")
    for name in CONTROLS:
        if result["controls"][name]["reason"]:
            console.print(f"Control {name} is not scored: {result['controls'][name]['reason']}.")
    sources = {
        values["threshold_source"]
        for finding in BOXED_FINDINGS
        for values in result["per_finding"][finding]["localization"].values()
    }
    for source, note in _MARK_NOTES.items():
        if source in sources:
            console.print(note)
    value, interval = result["udp"], result["intervals"]["udp"]
    console.print(f"UDP, protocol {result['udp_protocol']}: {_figure(value)} ({_interval(interval)})")


def classification_table(result: Mapping[str, Any]) -> Table:
    """AUC per finding with its 95 % interval and counts."""
    table = _table("Classification of the test films", "AUC", "95 %", "positive", "negative")
    for finding in FINDINGS:
        values = result["per_finding"][finding]
        labelled = values["n_positive"] + values["n_negative"] > 0
        counts = (str(values["n_positive"]), str(values["n_negative"])) if labelled else ("not labelled", "")
        table.add_row(finding, _figure(values["auc"]), _interval(values["auc_interval"]), *counts)
    table.add_section()
    label = f"Macro ({result['findings_in_mean']} of {len(FINDINGS)})"
    table.add_row(label, _figure(result["macro_auc"]), _interval(result["intervals"]["macro_auc"]), "", "")
    return table


def localization_table(result: Mapping[str, Any], protocol: str) -> Table:
    """MSLI and IoU accuracy at 0.5 per finding under one protocol, beside the MSLI of the controls."""
    table = _table(f"MSLI, protocol {protocol}", "n", "missed", "xi", "MSLI", "95 %", "IoU>.5", *CONTROLS)
    for finding in BOXED_FINDINGS:
        entry = result["per_finding"][finding]
        values = entry["localization"][protocol]
        controls = (entry["controls"][name] for name in CONTROLS)
        table.add_row(
            finding,
            str(values["n"]),
            str(values["n_missed"]),
            f"{values['threshold']:.2f}{_MARKS[values['threshold_source']]}",
            _figure(values["msli"]),
            _interval(values["msli_interval"]),
            _figure(values["iou_accuracy"]["0.5"]),
            *(_figure(control and control[protocol]["msli"]) for control in controls),
        )
    table.add_section()
    labels = {
        "msli": f"Macro ({result['msli_findings_in_mean'][protocol]} of {len(BOXED_FINDINGS)})",
        "msli_without_cardiomegaly": "Macro without\nCardiomegaly",
    }
    for key, label in labels.items():
        controls = (_figure(result["controls"][name][key][protocol]) for name in CONTROLS)
        interval = _interval(result["intervals"][key][protocol])
        accuracy = _figure(result["iou_accuracy"][protocol]["0.5"]) if key == "msli" else ""
        table.add_row(label, "", "", "", _figure(result[key][protocol]), interval, accuracy, *controls)
    table.caption = result["protocols"][protocol]
    best = result["best_control"][protocol]
    if best["ratio"] is not None:
        table.caption += f"; {best['ratio']:.2f} ({_interval(best['ratio_interval'], 2)}) times the best control"
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0), title_justify="left", caption_justify="left")
    table.add_column("finding", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _figure(value: float | None) -> str:
    """Three decimals; an undefined figure is a dash."""
    return "–" if value is None else f"{value:.3f}"


def _interval(interval: list[float] | None, digits: int = 3) -> str:
    return "–" if interval is None else f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}"
