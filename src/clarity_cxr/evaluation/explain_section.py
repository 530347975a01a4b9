"""The section of a page on whether the maps explain, and how found boxes depend on their size."""

import html
from collections.abc import Mapping
from typing import Any

from clarity_cxr.evaluation.curves import explanation_charts
from clarity_cxr.evaluation.page import DASH, charts, figure, missing, number, section, table
from clarity_cxr.evaluation.protocols import PROTOCOLS
from clarity_cxr.evaluation.run_files import RunFiles

SOURCE_NAMES = {
    "model": "Model",
    "gradcam": "Grad-CAM, same weights",
    "rollout": "Attention rollout, same weights",
    "teacher_gradcam": "Grad-CAM of the teacher",
    "random": "Random map",
    "prior": "Anatomical prior alone",
    "mean": "The finding's mean heatmap",
}
MARKER_CHANGE = 0.1
"""A painted marker that raises a probability by more than this is called a shortcut."""


def explanation(files: RunFiles) -> str:
    """All checks of `explain.json`, and recall by lesion size of `evaluation.json`."""
    title = "Do the maps explain?"
    sizes = _recall_by_size(files.evaluation)
    if files.explanation is None:
        return section(title, sizes + missing("explain.json", "clarity explain"))
    content = files.explanation
    return section(
        title,
        _source_table(content["sources"])
        + "<h3>Deletion and insertion</h3>"
        + _curves(content)
        + "<h3>Randomised weights and small shifts</h3>"
        + _checks(content)
        + sizes
        + "<h3>A painted marker</h3>"
        + _marker(content["marker"]),
    )


def _source_table(sources: Mapping[str, Any]) -> str:
    head = ["Source of the maps", "Pointing game", *(f"MSLI, {name}" for name in PROTOCOLS)]
    head += ["Deletion (low is good)", "Insertion (high is good)"]
    rows = []
    for name, source in sources.items():
        game, curves = source["pointing_game"], source["curves"]
        cells = [SOURCE_NAMES[name], figure(game["macro"], game["interval"])]
        cells += [figure(source["msli"][protocol], source["intervals"]["msli"][protocol]) for protocol in PROTOCOLS]
        cells += [DASH if curves is None else number(curves[kind]["area"]) for kind in ("deletion", "insertion")]
        rows.append(("model" if name == "model" else "", cells))
    lead = (
        "<p>Other explanations of the same weights, and maps that know nothing of the film, through the same threshold "
        "search. Pointing game: how often the hottest point lies inside a radiologist's box, macro over findings.</p>"
    )
    return lead + table(head, rows)


def _curves(content: Mapping[str, Any]) -> str:
    sources = {SOURCE_NAMES[name]: of["curves"] for name, of in content["sources"].items() if of["curves"]}
    films = next(iter(sources.values()))["deletion"]["films"]
    lead = (
        f"<p>Mean probability of the boxed finding on {films:,} films while the hottest patches are blurred away "
        "(deletion), or put back into a blurred film (insertion). A map that explains makes the first fall and the "
        "second rise early.</p>"
    )
    return lead + charts(explanation_charts(content["fractions"], sources), "charts")


def _checks(content: Mapping[str, Any]) -> str:
    randomised, stability = content["randomisation"], content["stability"]
    rows = [
        ("", [f"Weights of {html.escape(name)} randomised", number(value)])
        for name, value in randomised["correlation"].items()
    ]
    rows.append(("", ["Another film with the same finding", number(randomised["between_films"])]))
    everything = randomised["correlation"]["everything"]
    verdict = "differ from" if everything < 0.5 else "do NOT differ enough from"
    return (
        table(["Maps compared with those of", "Rank correlation"], rows)
        + f"<p>The maps {verdict} those of a model with random weights ({number(everything)}). When a film is shifted "
        f"by {stability['shift']} px, its map follows with a correlation of {number(stability['correlation'])} and its "
        f"probability changes by {number(stability['probability_change'])} on average.</p>"
    )


def _recall_by_size(result: Mapping[str, Any] | None) -> str:
    recall = (result or {}).get("recall_by_size")
    if not recall:
        return ""
    rows = [
        (
            "",
            [
                html.escape(band["name"]),
                f"{band['boxes']:,}",
                *(figure(band["found"][key]["share"], band["found"][key]["interval"]) for key in band["found"]),
            ],
        )
        for band in recall
    ]
    head = ["Share of the film", "Boxes", *(key.replace(" ", ", IoU > ") for key in recall[0]["found"])]
    return "<h3>Found boxes by their size</h3>" + table(head, rows)


def _marker(effects: Mapping[str, Any]) -> str:
    rows, shortcuts = [], []
    for finding, of in effects.items():
        if not of["films"]:
            continue
        change = of["probability_after"] - of["probability_before"]
        name = finding.replace("_", " ")
        if change > MARKER_CHANGE:
            shortcuts.append(name)
        cells = [name, number(of["probability_before"]), number(of["probability_after"])]
        cells += [f"{round(change, 3) + 0.0:+.3f}", number(of["heat_before"]), number(of["heat_after"])]
        rows.append(("model" if change > MARKER_CHANGE else "", cells))
    words = (
        f"<b>The model looks at the marker for {html.escape(', '.join(shortcuts))}</b>: painting it alone raises the "
        "probability."
        if shortcuts
        else f"No finding's probability rises by more than {MARKER_CHANGE:g}: the marker is no sign to the model."
    )
    lead = (
        f"<p>The phantoms' spurious marker, a bright square in the lower left corner, painted onto films without the "
        f"finding. {words} Heat: share of the map on the marker's patches and those beside them.</p>"
    )
    return lead + table(["Finding", "p before", "p after", "Change", "Heat before", "Heat after"], rows)
