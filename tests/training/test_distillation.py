"""Teacher, logits and student through the command line, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from clarity_cxr.cli.main import main
from clarity_cxr.data.augmentation import AugmentationConfig
from clarity_cxr.data.prepare import prepare
from clarity_cxr.data.store import FilmStore
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.models import create_model, load_checkpoint
from clarity_cxr.training.batches import TrainingFilms
from clarity_cxr.training.config import LossConfig, OptimizationConfig, RunConfig
from clarity_cxr.training.objective import loss_components
from clarity_cxr.training.recipe import ClarityRecipe

CONFIGS = Path(__file__).parents[2] / "configs"
RUN = {"precision": "32-true", "accelerator": "cpu", "seed": 7}
SHORT = {"epochs": 2, "batch_size": 20, "learning_rate": 1e-3, "warmup_epochs": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distillation")
    torch.set_num_threads(1)
    for name, sections in {
        "teacher": {"model": {"name": "test_convnext", "image_size": 64}},
        "student": {"model": {"name": "clarity_t8_64", "attention_blocks": 1, "token_blocks": 1}},
    }.items():
        content = sections | {"optimization": SHORT, "run": RUN}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


def train(folder: Path, name: str, store: FilmStore, out: Path, *options: str) -> int:
    words = ["train", "--config", str(folder / f"{name}.yaml"), "--store", str(store.path), "--out", str(out)]
    return main([*words, *options])


def dump(teacher: Path, store: FilmStore, out: Path, *options: str) -> int:
    words = ["distill", "dump", "--teacher", str(teacher / "best.safetensors"), "--store", str(store.path)]
    return main([*words, "--out", str(out), "--epochs", "2", "--seed", "7", *options])


@pytest.fixture(scope="module")
def teacher(folder: Path, phantom_store: FilmStore) -> Path:
    assert train(folder, "teacher", phantom_store, folder / "teacher") == 0
    return folder / "teacher"


@pytest.fixture(scope="module")
def logits(teacher: Path, folder: Path, phantom_store: FilmStore) -> LogitStore:
    assert dump(teacher, phantom_store, folder / "logits") == 0
    return LogitStore(folder / "logits")


@pytest.fixture(scope="module")
def student(logits: LogitStore, folder: Path, phantom_store: FilmStore) -> Path:
    assert train(folder, "student", phantom_store, folder / "student", "--distill", str(logits.path)) == 0
    return folder / "student"


@pytest.fixture(scope="module")
def larger_store(phantom_release: Path, folder: Path) -> FilmStore:
    """The same films at twice the side."""
    return prepare(phantom_release, folder / "larger", size=128, processes=1)


def test_a_teacher_is_chosen_by_macro_auc(teacher: Path, phantom_store: FilmStore, tmp_path: Path) -> None:
    metrics = pd.read_csv(teacher / "metrics.csv")
    assert metrics["train/L_CLS"].between(0, 10).all()
    assert metrics["val/macro_auc"].between(0, 1).all()
    assert not {"val/msli", "val/udp"} & set(metrics.columns)
    weights = str(teacher / "best.safetensors")
    words = ["evaluate", "--checkpoint", weights, "--store", str(phantom_store.path), "--out", str(tmp_path)]
    assert main([*words, "--replicates", "5"]) == 0
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert 0 <= result["macro_auc"] <= 1
    assert result["checkpoint"]["provenance"]["validation"]["macro_auc"] == pytest.approx(
        metrics["val/macro_auc"].max()
    )


def test_a_student_learns_from_the_store(
    logits: LogitStore, student: Path, folder: Path, phantom_store: FilmStore, capsys: pytest.CaptureFixture[str]
) -> None:
    provenance = load_checkpoint(student / "best.safetensors").metadata.provenance
    assert provenance["distill"] == {
        "key": logits.manifest.key,
        "teacher": logits.manifest.identity["teacher"],
    }
    assert train(folder, "student", phantom_store, student, "--distill", str(logits.path)) == 0
    assert f"the teacher's probabilities in {logits.path}" in capsys.readouterr().out
    assert train(folder, "student", phantom_store, student) == 2
    assert "distill was" in capsys.readouterr().err


def test_targets_are_the_stored_probabilities_of_each_film(logits: LogitStore, phantom_store: FilmStore) -> None:
    train_rows = phantom_store.rows("train")
    positions = np.array([7, 0, 30])
    batch = TrainingFilms(phantom_store, logits=logits)[1, train_rows[positions]]
    stored = np.load(logits.array_path(1))[positions]
    assert np.array_equal(batch["teacher_logits"].numpy(), stored.astype(np.float32))

    torch.manual_seed(0)
    options = {"width": 32, "heads": 2, "depth": 2, "attention_blocks": 1, "token_blocks": 1}
    model = create_model("clarity_t8_64", **options).train()
    recipe = ClarityRecipe(
        model, phantom_store, AugmentationConfig(), LossConfig(), OptimizationConfig(), 1, RunConfig(seed=7)
    )
    films = batch["films"].unsqueeze(1).float() / 255
    components = recipe.components(films, None, batch["labels"], batch["teacher_logits"])
    targets = torch.from_numpy(stored.astype(np.float32)).sigmoid()
    expected = loss_components(model(model.preprocess(films)), batch["labels"], targets, None, LossConfig())
    for name, value in expected.items():
        torch.testing.assert_close(components[name], value, msg=name)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--run.seed", "8", "seed is 7 in the store, 8 here"),
        ("--augmentation.brightness", "0.1", "augmentation.brightness is 0.2 in the store, 0.1 here"),
        ("--optimization.epochs", "4", "epochs 2-3 of the 4 that this run needs"),
    ],
)
def test_another_run_is_refused_before_it_starts(
    option: str,
    value: str,
    message: str,
    logits: LogitStore,
    folder: Path,
    phantom_store: FilmStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    assert train(folder, "student", phantom_store, out, "--distill", str(logits.path), option, value) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_teacher_is_not_distilled(
    logits: LogitStore, folder: Path, phantom_store: FilmStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, "teacher", phantom_store, tmp_path / "run", "--distill", str(logits.path)) == 2
    assert "learns from labels" in capsys.readouterr().err


def test_the_larger_stage_starts_from_the_smaller_student(
    folder: Path, larger_store: FilmStore, student: Path, tmp_path: Path
) -> None:
    """224 to 512 at reduced size: logits and a teacher of twice the side, positions interpolated."""
    store = larger_store
    large = ("--model.image_size", "128", "--optimization.epochs", "1", "--optimization.batch_size", "40")
    assert train(folder, "teacher", store, tmp_path / "teacher", *large) == 0
    assert dump(tmp_path / "teacher", store, tmp_path / "logits") == 0
    weights = ("--model.weights", str(student / "best.safetensors"))
    out, distill = tmp_path / "large", ("--distill", str(tmp_path / "logits"))
    assert train(folder, "student", store, out, *large, *weights, *distill) == 0
    model = load_checkpoint(out / "best.safetensors").model
    assert model.config.grid == 16
    assert model.backbone.positions.shape[1] == 14 + 16 * 16


def test_logits_of_the_smaller_size_are_refused(
    folder: Path, larger_store: FilmStore, logits: LogitStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model.image_size", "128", "--distill", str(logits.path))
    assert train(folder, "student", larger_store, tmp_path / "run", *options) == 2
    assert "image_size is 64 in the store, 128 here" in capsys.readouterr().err


def test_the_permissive_alternative_differs_in_the_backbone_alone() -> None:
    recipes = [
        yaml.safe_load((CONFIGS / f"teacher_{name}.yaml").read_text())
        for name in ("convnextv2_b_224", "convnext_b_224")
    ]
    backbones = [(recipe["model"].pop("name"), recipe["model"].pop("weights")) for recipe in recipes]
    assert backbones[0] != backbones[1]
    assert recipes[0] == recipes[1]
