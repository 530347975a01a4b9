import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clarity_cxr.errors import CheckpointError, ClarityError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.models import Clarity, create_model, load_checkpoint, read_metadata, save_checkpoint
from clarity_cxr.models.checkpoints import HEADER


@pytest.fixture
def saved(model: Clarity, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, thresholds={"Mass": 0.3}, provenance={"epoch": 4})
    return path


def rewrite_header(path: Path, **changes: object) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as handle:
        header = json.loads(handle.metadata()[HEADER])
    save_file(load_file(path), path, metadata={HEADER: json.dumps(header | changes)})


def test_round_trip(saved: Path, model: Clarity, images: torch.Tensor) -> None:
    checkpoint = load_checkpoint(saved)
    assert not checkpoint.model.training
    assert checkpoint.metadata.config == model.config
    assert checkpoint.metadata.findings == FINDINGS
    assert checkpoint.metadata.thresholds == {"Mass": 0.3}
    assert checkpoint.metadata.provenance == {"epoch": 4}
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.model(images).logits, model.eval()(images).logits, rtol=0, atol=0)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such checkpoint"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


def test_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError, match=r"not a safetensors file.*can run code"):
        load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_truncated_file(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(saved)


def test_plain_weights_are_not_a_checkpoint(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match="without a CLARiTy header"):
        read_metadata(tmp_path / "plain.safetensors")


def test_another_finding_set(tmp_path: Path) -> None:
    other = create_model("clarity_t8_64", width=32, heads=2, findings=("Mass", "Nodule"))
    save_checkpoint(tmp_path / "other.safetensors", other)
    with pytest.raises(CheckpointError, match=r"made for the findings \['Mass', 'Nodule'\]"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_later_format(saved: Path) -> None:
    rewrite_header(saved, format_version=99)
    with pytest.raises(CheckpointError, match="checkpoint format 99, this version reads 1"):
        load_checkpoint(saved)


def test_unknown_option_in_the_header(saved: Path, model: Clarity) -> None:
    rewrite_header(saved, config=model.config.to_dict() | {"gates": 3})
    with pytest.raises(CheckpointError, match=r"unknown model fields \['gates'\]"):
        load_checkpoint(saved)


def test_tensors_of_another_width(saved: Path, model: Clarity) -> None:
    rewrite_header(saved, config=model.config.to_dict() | {"width": 64})
    with pytest.raises(CheckpointError, match="tensors do not fit clarity_t8_64"):
        load_checkpoint(saved)


def test_nothing_stays_behind_when_the_disk_is_full(
    model: Clarity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ClarityError, match="the disk is full"):
        save_checkpoint(tmp_path / "model.safetensors", model)
    assert list(tmp_path.iterdir()) == []
