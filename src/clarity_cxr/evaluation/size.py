"""How many true boxes are found, by their size."""

from typing import Any

import numpy as np
import pandas as pd

from clarity_cxr.data.store import patient_ids
from clarity_cxr.evaluation.intervals import PatientDraws, bootstrap_share, percentile_interval

COUNTS = tuple((protocol, level) for protocol in ("all", "top") for level in (0.1, 0.3, 0.5))
"""Protocol and T(IoU) of each figure."""


def recall_by_size(boxes: pd.DataFrame, draws: PatientDraws) -> list[dict[str, Any]]:
    """Share of boxes found, in three bands of equally many boxes by their share of the film's area.

    Args:
        boxes: content of `evaluation_boxes.csv`; empty where localisation is not scored.
        draws: bootstrap replicates that contain the boxes' patients.

    Returns:
        From small to large: `name` (the band's limits), `boxes`, and `found`: "PROTOCOL LEVEL" -> `share`, `interval`.
    """
    if boxes.empty:
        return []
    area = ((boxes["x1"] - boxes["x0"]) * (boxes["y1"] - boxes["y0"])).to_numpy()
    bands = []
    for members in np.array_split(np.argsort(area, kind="stable"), 3):
        if not len(members):
            continue
        mine = boxes.iloc[members]
        patients = patient_ids(mine)
        hits = np.stack([mine[f"iou_{protocol}"].to_numpy() > level for protocol, level in COUNTS], axis=1)
        replicates = bootstrap_share(hits, patients, draws)
        found = {
            f"{protocol} {level:g}": {
                "share": float(hits[:, at].mean()),
                "interval": percentile_interval(replicates[:, at]),
            }
            for at, (protocol, level) in enumerate(COUNTS)
        }
        name = f"{area[members[0]]:.1%} to {area[members[-1]]:.1%}"
        bands.append({"name": name, "boxes": len(members), "found": found})
    return bands
