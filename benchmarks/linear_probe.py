"""Logistic regression on frozen ViT features: what the starting weights know before any training.

    python benchmarks/linear_probe.py --store runs/nih/store --weights VIT_S.safetensors

Features are the class token and the mean patch token of timm's ViT-S/16 after its final norm, standardised on the
training films. One scikit-learn logistic regression per finding, its strength chosen by validation AUC; the
test AUC has a 95 % interval from 1,000 bootstrap replicates over patients.
"""

import argparse
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from clarity_cxr.data.store import FilmStore, open_store
from clarity_cxr.evaluation.intervals import bootstrap_auc, draw_patients, mean_defined, percentile_interval
from clarity_cxr.findings import FINDINGS
from clarity_cxr.metrics import auc_per_finding, macro_auc
from record import record

STRENGTHS = (1e-4, 1e-3, 1e-2)
"""Inverse regularisation strengths to choose from."""


def main() -> None:
    """Extract, fit, score, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    store = open_store(options.store, size=224)
    features = extract(store, options.weights)
    rows = store.rows("test")
    record("linear_probe", [score_row(store, rows, fit(features, store)[rows])])


def extract(store: FilmStore, weights: Path) -> np.ndarray:
    """(n, 768): class token and mean patch token of every film."""
    model = timm.create_model("vit_small_patch16_224", num_classes=0)
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = []
    with torch.inference_mode():
        for begin in range(0, len(store), 32):
            films = torch.from_numpy(np.array(store.films[begin : begin + 32])).float().unsqueeze(1) / 255
            tokens = model.eval().forward_features((films - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
            features.append(torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1).numpy())
    return np.concatenate(features)


def fit(features: np.ndarray, store: FilmStore) -> np.ndarray:
    """(n, 14) scores of every film; a finding that no training film has scores 0."""
    train, val = store.rows("train"), store.rows("val")
    scaled = StandardScaler().fit(features[train]).transform(features)
    scores = np.zeros((len(store), len(FINDINGS)))
    for index in range(len(FINDINGS)):
        labels = store.labels[:, index]
        if not labels[train].any():
            continue
        candidates = [
            LogisticRegression(C=strength, class_weight="balanced", max_iter=300)
            .fit(scaled[train], labels[train])
            .decision_function(scaled)
            for strength in STRENGTHS
        ]
        on_val = [auc_per_finding(candidate[val, None], labels[val, None])[0] for candidate in candidates]
        scores[:, index] = candidates[int(np.nanargmax(on_val)) if not np.isnan(on_val).all() else 1]
    return scores


def score_row(store: FilmStore, rows: np.ndarray, scores: np.ndarray) -> dict[str, object]:
    """Macro AUC on the test films with its interval."""
    labels = store.labels[rows]
    patients = store.index["patient_id"].to_numpy()[rows]
    replicates = bootstrap_auc(scores, labels, patients, draw_patients(patients, 1000, seed=0))
    low, high = percentile_interval(mean_defined(replicates)) or (float("nan"), float("nan"))
    auc = macro_auc(scores, labels)
    return {
        "what": "logistic regression on frozen ViT-S features",
        "test films": len(rows),
        "macro AUC": round(auc.value, 3),
        "95 %": f"{low:.3f}-{high:.3f}",
        "findings in the mean": auc.defined,
    }


if __name__ == "__main__":
    main()
