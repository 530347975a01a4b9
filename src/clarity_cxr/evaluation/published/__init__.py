"""The figures that the paper prints in Tables 3 to 7 and names in the captions of Figures 10 and 11, as CSV files.

`table3_summary.csv` to `table7_cost.csv` hold the published values as they are printed, also where the paper
contradicts itself; `notes.yaml` says where, and what the paper itself marks.
"""

from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import yaml

_FILES = {
    3: "table3_summary.csv",
    4: "table4_auc.csv",
    5: "table5_iou_accuracy.csv",
    6: "table6_ablations.csv",
    7: "table7_cost.csv",
}


def published_table(number: int) -> pd.DataFrame:
    """Table 3, 4, 5, 6 or 7 of the paper, one row per printed row."""
    file = resources.files(__name__).joinpath(_FILES[number])
    with file.open(encoding="utf-8") as handle:
        return pd.read_csv(handle)


@cache
def notes() -> dict[str, Any]:
    """Caveats and contradictions: `tables` (number -> sentences), `figures` (number -> what its caption states)."""
    return yaml.safe_load(resources.files(__name__).joinpath("notes.yaml").read_text("utf-8"))
