"""Tables 3 to 7 of the paper: the published rows as they are printed, and ours beside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from clarity_cxr.evaluation.cost import component_costs
from clarity_cxr.evaluation.protocols import PROTOCOLS
from clarity_cxr.evaluation.published import notes, published_table
from clarity_cxr.evaluation.run_files import RunFiles
from clarity_cxr.evaluation.table_formats import Cell, Figure, PaperTable, Row
from clarity_cxr.findings import BOXED_FINDINGS, FINDINGS
from clarity_cxr.models.config import ModelConfig
from clarity_cxr.models.registry import clarity_s16_224, clarity_s16_512

LEVELS = ("0.1", "0.2", "0.3", "0.4", "0.5")
TABLE_7_MODELS = {"clarity_s16_224": clarity_s16_224(), "clarity_s16_512": clarity_s16_512()}


def paper_tables(runs: Sequence[RunFiles]) -> list[PaperTable]:
    """Tables 3 to 7 with a row (Table 3 and 5: a row per protocol) for every run that has the figures."""
    evaluated = [files for files in runs if files.evaluation is not None and "protocol_rules" in files.evaluation]
    return [_table_3(evaluated), _table_4(evaluated), _table_5(evaluated), _table_6(runs), _table_7(runs)]


def run_name(files: RunFiles) -> str:
    """A run as the tables call it: its folder and its model."""
    model = "" if files.evaluation is None else f", {files.evaluation['checkpoint']['config']['name']}"
    return f"{files.folder.resolve().name}{model}"


def _table_3(runs: Sequence[RunFiles]) -> PaperTable:
    rows = [
        Row(
            (
                *map(_text, (row["model"], row["split"], row["image_size"], row["training_share"])),
                "its own",
                *(Figure(_value(row[name])) for name in ("macro_auc", *(f"iou_{level}" for level in LEVELS))),
            )
        )
        for _, row in published_table(3).iterrows()
    ]
    for files in runs:
        result = _result(files)
        for protocol in PROTOCOLS:
            accuracy = result["iou_accuracy"][protocol] or {}
            intervals = result["intervals"]["iou_accuracy"][protocol] or {}
            size = str(result["checkpoint"]["config"]["image_size"])
            cells: list[Cell] = [run_name(files), "this store", size, _training_share(result), protocol]
            cells.append(Figure(result["macro_auc"], result["intervals"]["macro_auc"]))
            cells += [Figure(accuracy.get(level), intervals.get(level)) for level in LEVELS]
            rows.append(Row(tuple(cells), ours=True))
    columns = ("Model", "Split", "Image size", "Training share", "Protocol", "Macro AUC")
    columns += tuple(f"IoU > {level}" for level in LEVELS)
    return PaperTable("table3", "Table 3. Classification and localisation", columns, rows, _notes(3, runs))


def _table_4(runs: Sequence[RunFiles]) -> PaperTable:
    rows = [
        Row((_text(row["model"]), _text(row["split"]), *(Figure(_value(row[name])) for name in (*FINDINGS, "Mean"))))
        for _, row in published_table(4).iterrows()
    ]
    for files in runs:
        result = _result(files)
        cells: list[Cell] = [run_name(files), "this store"]
        for finding in FINDINGS:
            values = result["per_finding"][finding]
            cells.append(Figure(values["auc"], values["auc_interval"], f"n = {values['n_positive']}"))
        mean = Figure(result["macro_auc"], result["intervals"]["macro_auc"], f"{result['findings_in_mean']} findings")
        rows.append(Row((*cells, mean), ours=True))
    columns = ("Model", "Split", *(name.replace("_", " ") for name in FINDINGS), "Mean")
    return PaperTable("table4", "Table 4. AUC of each finding", columns, rows, _notes(4, runs))


def _table_5(runs: Sequence[RunFiles]) -> PaperTable:
    published = published_table(5)
    rows: list[Row] = []
    for level in LEVELS:
        block = published[np.isclose(published["iou_threshold"], float(level))]
        rows += [
            Row(
                (
                    _text(row["model"]),
                    level,
                    "its own",
                    *(Figure(_value(row[name])) for name in (*BOXED_FINDINGS, "Mean")),
                )
            )
            for _, row in block.iterrows()
        ]
        rows += [_table_5_row(files, level, protocol) for files in runs for protocol in PROTOCOLS]
    columns = ("Model", "T(IoU)", "Protocol", *BOXED_FINDINGS, "Mean")
    return PaperTable("table5", "Table 5. IoU accuracy of each finding", columns, rows, _notes(5, runs))


def _table_5_row(files: RunFiles, level: str, protocol: str) -> Row:
    result = _result(files)
    cells: list[Cell] = [run_name(files), level, protocol]
    for finding in BOXED_FINDINGS:
        found = (result["per_finding"][finding]["localization"] or {}).get(protocol)
        if found is None:
            cells.append(Figure(None))
            continue
        limits = found["iou_accuracy_interval"][level]
        cells.append(Figure(found["iou_accuracy"][level], limits, f"n = {found['n']}"))
    mean = (result["iou_accuracy"][protocol] or {}).get(level)
    limits = (result["intervals"]["iou_accuracy"][protocol] or {}).get(level)
    return Row((*cells, Figure(mean, limits)), ours=True)


def _table_6(runs: Sequence[RunFiles]) -> PaperTable:
    published = published_table(6)
    scores = ("macro_auc", "msli", "udp")
    ours = [files.ablations for files in runs if files.ablations is not None]
    ablations = pd.concat(ours) if ours else pd.DataFrame(columns=["row", "seed", *scores])
    rows = []
    for _, row in published.iterrows():
        rows.append(Row((_text(row["row"]), "published", *(Figure(_value(row[name])) for name in scores))))
        mine = ablations[ablations["row"] == row["row"]]
        if len(mine):
            rows.append(_ablation_row(str(row["row"]), mine, scores))
    others = [name for name in ablations["row"].unique() if name not in set(published["row"])]
    rows += [_ablation_row(str(name), ablations[ablations["row"] == name], scores) for name in others]
    remarks = list(notes()["tables"][6])
    if not ours:
        remarks.append("None of the runs holds ablations.csv, so there is no row of ours.")
    columns = ("Row", "Source", "Macro AUC", "MSLI", "UDP")
    return PaperTable("table6", "Table 6. Ablations, validation films", columns, rows, remarks)


def _ablation_row(name: str, mine: pd.DataFrame, scores: Sequence[str]) -> Row:
    spread = [Figure(_value(mine[score].mean()), remark=_spread(mine[score].dropna())) for score in scores]
    return Row((name, f"ours, {len(mine)} seeds" if len(mine) > 1 else "ours, 1 seed", *spread), ours=True)


def _spread(values: pd.Series) -> str:
    return f"± {values.std():.3f}" if len(values) > 1 else ""


def _table_7(runs: Sequence[RunFiles]) -> PaperTable:
    configs = dict(TABLE_7_MODELS)
    for files in runs:
        if files.predictor is not None:
            configs.setdefault(files.predictor.model.config.name, files.predictor.model.config)
    published = published_table(7)
    rows = [row for name, config in configs.items() for row in _cost_rows(name, config, published)]
    columns = ("Model", "Component", "Parameters (M)", "published", "Multiply-adds (G)", "published")
    return PaperTable("table7", "Table 7. Computing resources, counted", columns, rows, list(notes()["tables"][7]))


def _cost_rows(name: str, config: ModelConfig, published: pd.DataFrame) -> list[Row]:
    rows = []
    for cost in component_costs(config):
        mine = (published["image_size"] == config.image_size) & (published["component"] == cost.component)
        printed = published[mine & (name in TABLE_7_MODELS)]
        cells = [
            _magnitude(cost.parameters / 1e6),
            *(_magnitude(value) for value in printed["parameters_million"]),
            _magnitude(cost.multiply_adds / 1e9),
            *(_magnitude(value) for value in printed["multiply_adds_giga"]),
        ]
        if printed.empty:
            cells = [cells[0], "–", cells[1], "–"]
        rows.append(Row((name, cost.component, *cells), ours=True))
    return rows


def _magnitude(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def _result(files: RunFiles) -> dict[str, Any]:
    assert files.evaluation is not None
    return files.evaluation


def _training_share(result: dict[str, Any]) -> str:
    films = {name: result["splits"][name]["films"] for name in ("train", "val", "test")}
    return f"{films['train'] / max(1, sum(films.values())):.0%}"


def _notes(number: int, runs: Sequence[RunFiles]) -> list[str]:
    """What the paper's table needs said, and what our rows stand on."""
    remarks = list(notes()["tables"][number])
    for files in runs:
        result = _result(files)
        films = result["splits"]["test"]["films"]
        method = result["intervals"]["method"]
        remarks.append(
            f"{run_name(files)}: {films:,} test films; in brackets 95 % intervals, {method} "
            f"({result['intervals']['replicates']:,} replicates). Only a run on the NIH release's official test split "
            f"compares with the published rows{'' if films == 25_596 else ', and this is none'}."
        )
    if number in (3, 5):
        remarks += [f"Protocol {name}: {rule.description.replace('`', '')}." for name, rule in PROTOCOLS.items()]
    return remarks


def _value(printed: Any) -> float | None:
    return None if pd.isna(printed) else float(printed)


def _text(printed: Any) -> str:
    return str(printed)
