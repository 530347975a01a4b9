import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarity_cxr.cli.main import main
from clarity_cxr.data.augmentation import AugmentationConfig, augment
from clarity_cxr.data.store import FilmStore
from clarity_cxr.distill.store import LogitStore
from clarity_cxr.distill.verify import steps_apart


def test_steps() -> None:
    ones = np.ones(3, np.float16)
    assert steps_apart(ones, np.array([1, 1 + 2**-10, 1 + 2**-9], np.float16)).tolist() == [0, 1, 2]
    assert steps_apart(np.zeros(1, np.float16), np.array([2.0**-14], np.float16)).tolist() == [1]


def test_a_sound_store_passes(logits: LogitStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "verify", str(logits.path), "--samples", "20"]) == 0
    text = capsys.readouterr().out
    assert "float16 steps (1 allowed)" in text
    assert "sound" in text


def test_a_bfloat16_store_is_checked_in_bfloat16_and_kept_apart(
    teacher_file: Path, phantom_store: FilmStore, logits: LogitStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["distill", "dump", "--teacher", str(teacher_file), "--store", str(phantom_store.path), "--epochs", "2"]
    words += ["--seed", "7", "--precision", "bfloat16", "--out"]
    assert main([*words, str(logits.path)]) == 2
    assert "precision is 'float32' in the store, 'bfloat16' here" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "bfloat16")]) == 0
    assert main(["distill", "verify", str(tmp_path / "bfloat16"), "--samples", "20"]) == 0
    assert "(16 allowed)" in capsys.readouterr().out
    near = np.load(LogitStore(tmp_path / "bfloat16").array_path(0)).astype(np.float32)
    exact = np.load(logits.array_path(0)).astype(np.float32)
    assert 0 < np.abs(near - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("damage", ["byte", "cut", "gone", "record"])
def test_damage_is_found_and_repaired(
    damage: str, logits: LogitStore, undisturbed: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = logits.array_path(1)
    content = bytearray(path.read_bytes())
    content[300] ^= 4
    if damage == "byte":
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:-2])
    elif damage == "gone":
        path.unlink()
    else:
        logits.record_path(1).write_text("{")
    words = ["distill", "verify", str(logits.path), "--samples", "2"]
    assert main(words) == 1
    assert "damaged epochs: 1\n" in capsys.readouterr().out
    assert main([*words, "--repair"]) == 0
    assert "repaired epochs 1\n" in capsys.readouterr().out
    assert LogitStore(logits.path).digest() == undisturbed.digest()


def test_wrong_logits_with_a_right_digest_are_found(
    logits: LogitStore, undisturbed: LogitStore, capsys: pytest.CaptureFixture[str]
) -> None:
    logits.write(0, undisturbed.epoch(0) + np.float16(0.25), {})
    words = ["distill", "verify", str(logits.path), "--samples", "12"]
    assert main(words) == 1
    text = capsys.readouterr().out
    assert "wrong epochs: 0\n" in text
    assert "largest difference 0.25" in text
    assert main([*words, "--repair"]) == 0
    assert LogitStore(logits.path).digest() == undisturbed.digest()


def test_another_teacher_is_not_taken_for_the_stores(
    logits: LogitStore, teacher_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from clarity_cxr.models.teacher import create_teacher, save_teacher

    other = tmp_path / "other.safetensors"
    save_teacher(other, create_teacher("test_convnext", image_size=64), {})
    assert main(["distill", "verify", str(logits.path), "--teacher", str(other)]) == 2
    assert "not made of these: teacher is " in capsys.readouterr().err
    shutil.copy(teacher_file, other)
    assert main(["distill", "verify", str(logits.path), "--teacher", str(other), "--samples", "1"]) == 0


def test_info_says_what_and_how_much(logits: LogitStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "info", str(logits.path)]) == 0
    text = capsys.readouterr().out
    assert f"complete, digest {logits.digest()}" in text
    assert "augmentation.rotation_degrees: 10.0" in text
    assert "weights_licence: licence of timm's weights: test" in text
    logits.record_path(2).unlink()
    assert main(["distill", "info", str(logits.path)]) == 0
    text = capsys.readouterr().out
    assert "epochs: 2 of 3" in text
    assert "missing epochs: 2\n" in text


def test_show_writes_the_pixels_and_the_probabilities(
    logits: LogitStore, phantom_store: FilmStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    row = phantom_store.rows("train")[3]
    image_id = phantom_store.index["image_id"].iloc[row]
    words = ["distill", "show", str(logits.path), "--image", image_id, "--out", str(tmp_path)]
    assert main([*words, "--epoch", "1"]) == 0
    stem = image_id.removesuffix(".png")
    content = json.loads((tmp_path / f"{stem}_epoch_0001.json").read_text())
    stored = torch.from_numpy(logits.epoch(1)[3].copy()).float().sigmoid().tolist()
    assert list(content["probabilities"].values()) == pytest.approx(stored, abs=1e-6)
    assert list(content["labels"].values()) == phantom_store.labels[row].tolist()
    film, key = torch.from_numpy(phantom_store.films[[row]]), torch.from_numpy(phantom_store.keys[[row]])
    expected = augment(film, key, 1, 7, AugmentationConfig())[0][0, 0].mul(255).round().numpy()
    assert np.array_equal(np.asarray(Image.open(tmp_path / f"{stem}_epoch_0001.png")), expected)
    capsys.readouterr()
    assert main([*words, "--epoch", "9"]) == 2
    assert "epoch 9 is not one of 0-2" in capsys.readouterr().err
