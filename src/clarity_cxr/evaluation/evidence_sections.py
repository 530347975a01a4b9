"""The sections of a page that stand beside the paper: its tables and sweeps, other protocols, calibration, subgroups,
runs compared."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from clarity_cxr.calibration import OPERATING_POINTS
from clarity_cxr.evaluation.curves import Chart, reliability_charts
from clarity_cxr.evaluation.page import DASH, charts, figure, interval, missing, note, number, section, table
from clarity_cxr.evaluation.run_files import RunFiles
from clarity_cxr.evaluation.run_sections import CONTROL_NAMES
from clarity_cxr.evaluation.subgroups import MEASURES, SMALL
from clarity_cxr.evaluation.table_formats import PaperTable, as_html
from clarity_cxr.findings import FINDINGS

MEASURE_NAMES = {"auc": "AUC", "sensitivity": "Sensitivity", "false_positive_rate": "False-positive rate"}
_OLDER = "evaluation.json was written by an older version; run clarity evaluate again."


def paper(tables: Sequence[PaperTable], sweeps: Sequence[Chart]) -> str:
    """Tables 3 to 7 and Figures 10 and 11, the tables folded: there are many published rows."""
    lead = (
        "<p>The paper's tables as they are printed, with our rows in bold. Open one to see it. Published rows follow "
        "protocols of their own, so read the notes below each table before comparing.</p>"
    )
    folded = "".join(
        f"<details><summary>{html.escape(each.title)}</summary>{as_html(each)}</details>" for each in tables
    )
    return section("Beside the paper", lead + folded + charts(sweeps, "charts"))


def protocols(files: RunFiles) -> str:
    """Every protocol as the one object that it is, and the model as other methods were scored."""
    title, result = "Protocols", files.evaluation
    if result is None:
        return section(title, missing("evaluation.json", "clarity evaluate"))
    if "protocol_rules" not in result:
        return section(title, note(_OLDER))
    rules = [
        (
            "",
            [
                f"<b>{name}</b>",
                rule["hit_by"],
                rule["negatives"],
                "searched" if rule["threshold"] is None else f"{rule['threshold']:g}",
                f'<span class="words">{html.escape(rule["description"].replace("`", ""))}</span>',
            ],
        )
        for name, rule in result["protocol_rules"].items()
    ]
    decision = next(iter(result["protocol_rules"].values()))["decision_threshold"]
    body = table(["Protocol", "Hit by", "Predicted negative", "Heat threshold", "In words"], rules)
    body += f'<p class="soft">Predicted positive: the model\'s own probability is at least {decision:g}.</p>'
    if result["localization"]["scored"]:
        body += "<h3>The model as other methods were scored</h3>" + _peer_table(result["peer_protocols"])
    return section(title, body)


def _peer_table(peers: Mapping[str, Any]) -> str:
    levels = ("0.1", "0.3", "0.5", "0.7")
    rows = []
    for name, content in peers.items():
        sources = {"model": content["model"], **content["controls"]}
        for source, found in sources.items():
            if found is None:
                continue
            label = "Model" if source == "model" else CONTROL_NAMES[source]
            cells = [name, label, figure(found["msli"], found["msli_interval"])]
            cells += [figure(found["iou_accuracy"][t], found["iou_accuracy_interval"][t]) for t in levels]
            rows.append(("model" if source == "model" else "", cells))
    return table(["Protocol", "Source of the maps", "MSLI", *(f"IoU > {level}" for level in levels)], rows)


def calibration(files: RunFiles) -> str:
    """How far probabilities are from frequencies, before and after, and what each operating point costs."""
    title, result = "Probabilities", files.evaluation
    if result is None:
        return section(title, missing("evaluation.json", "clarity evaluate"))
    if "calibration" not in result:
        return section(title, note(_OLDER))
    found = result["calibration"]
    head = ["Finding", "ECE, own", "ECE, calibrated", "Brier, own", "Brier, calibrated"]
    head += [f"{point}: from" for point in OPERATING_POINTS]
    rows = []
    for finding in FINDINGS:
        values = found["per_finding"][finding]
        cells = [finding.replace("_", " ")]
        cells += [number(values[kind][measure]) for measure in ("ece", "brier") for kind in ("raw", "calibrated")]
        rows.append(("", [*cells, *(_point_cell(values["operating_points"].get(point)) for point in OPERATING_POINTS)]))
    meanings = ". ".join(f"<b>{name}</b>: {html.escape(text)}" for name, text in OPERATING_POINTS.items())
    lead = (
        f"<p>Calibration: {html.escape(found['method'])}, {html.escape(found['source'])}, fitted on "
        f"{found['fitted_on']['films']:,} validation films; all figures are of test films. ECE over ten bins of "
        "equally many films; in the diagrams the model's own probabilities are orange, calibrated ones blue.</p>"
    )
    diagrams = charts(reliability_charts(found["per_finding"]), "charts small")
    remark = (
        f'<p class="soft">Operating points on the calibrated probability, in brackets sensitivity and false-positive '
        f"rate on the test films. {meanings} ({found['fitted_on']['sensitivity']:g}).</p>"
    )
    return section(title, lead + diagrams + table(head, rows) + remark)


def _point_cell(point: Mapping[str, float] | None) -> str:
    if point is None:
        return DASH
    rates = f"{number(point['sensitivity'], 2)}, {number(point['false_positive_rate'], 2)}"
    return f"{number(point['threshold'])}<small>({rates})</small>"


def subgroups(files: RunFiles) -> str:
    """AUC, sensitivity and false alarms of each group, and the largest gaps."""
    title, result = "Subgroups", files.evaluation
    if result is None:
        return section(title, missing("evaluation.json", "clarity evaluate"))
    if not result.get("subgroups"):
        return section(title, note("The store's index holds no sex, age, view or follow-up; or " + _OLDER))
    head = ["Group", "Films", "Patients", *(f"{name}, macro" for name in MEASURE_NAMES.values())]
    body = ""
    for attribute in result["subgroups"].values():
        rows = [
            (
                "",
                [
                    html.escape(name),
                    f"{group['films']:,}",
                    f"{group['patients']:,}",
                    *(_macro_cell(group["macro"], measure) for measure in MEASURES),
                ],
            )
            for name, group in attribute["groups"].items()
        ]
        body += f"<h3>{html.escape(attribute['title'])}</h3>" + table(head, rows) + _gaps(attribute)
    remark = (
        f'<p class="soft">Macro over the findings with at least {SMALL} films behind the figure; "small" says that '
        "there are fewer than all 14. Sensitivity and false-positive rate at the decision threshold of the protocols. "
        "Gaps are the largest of all findings and pairs of groups, so that their intervals lie a little too far from "
        "0. Every finding's figures are in evaluation.json.</p>"
    )
    return section(title, body + remark)


def _macro_cell(macro: Mapping[str, Any], measure: str) -> str:
    of = macro[f"{measure}_findings"]
    remark = f"small: {of} findings" if of < len(FINDINGS) else ""
    return figure(macro[measure], macro[f"{measure}_interval"], remark)


def _gaps(attribute: Mapping[str, Any]) -> str:
    lines = []
    for measure, gap in attribute["largest_gap"].items():
        if gap is not None:
            words = (
                f"{MEASURE_NAMES[measure]}: {gap['finding'].replace('_', ' ')}, {gap['high']} above {gap['low']} by "
            )
            lines.append(html.escape(f"{words}{number(gap['gap'])} {interval(gap['interval'])}"))
    unknown = f" Not known of {attribute['unknown']:,} films." if attribute["unknown"] else ""
    return f'<p class="soft">Largest gaps. {"; ".join(lines) or "None: the groups are too small"}.{unknown}</p>'


def compared(first: str, others: Mapping[str, Mapping[str, Any] | str]) -> str:
    """Differences of every other run to the first on the same films.

    Args:
        first: name of the first run.
        others: name of a run -> what `compare_runs` gives, or why they cannot be compared.
    """
    body = (
        f"<p>Each run minus <b>{html.escape(first)}</b>, on the same films, both resampled with the same patients. A "
        "difference whose interval spans 0 could be turned round by other test patients. Training seeds are not "
        "resampled.</p>"
    )
    for name, differences in others.items():
        body += f"<h3>{html.escape(name)}</h3>"
        if isinstance(differences, str):
            body += note(differences)
            continue
        rows = [
            (
                "" if key.startswith("auc ") else "model",
                [
                    html.escape(key.replace("_", " ")),
                    number(of["first"]),
                    number(of["second"]),
                    figure(of["difference"], of["interval"]),
                    _verdict(of["interval"]),
                ],
            )
            for key, of in differences.items()
        ]
        body += table(["Figure", "First", "This run", "Difference", "Clear of 0?"], rows)
    return section("Runs compared", body)


def _verdict(limits: Sequence[float] | None) -> str:
    if limits is None:
        return DASH
    return "yes" if limits[0] > 0 or limits[1] < 0 else "no"
