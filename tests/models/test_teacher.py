import dataclasses
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from clarity_cxr.errors import CheckpointError, ConfigError
from clarity_cxr.findings import FINDINGS
from clarity_cxr.models import create_model, load_checkpoint, save_checkpoint
from clarity_cxr.models.teacher import (
    create_teacher,
    is_teacher,
    load_teacher,
    read_teacher_provenance,
    save_teacher,
    weights_licence,
)


@pytest.mark.parametrize("name", ["test_convnext", "test_vit", "test_mambaout", "test_efficientnet", "test_resnet"])
def test_any_timm_classifier_gives_a_logit_per_finding(name: str) -> None:
    teacher = create_teacher(name, image_size=64, drop_path=0.0)
    films = torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8)
    assert teacher(teacher.preprocess(films)).shape == (2, len(FINDINGS))


def test_recipe_reaches_the_network() -> None:
    teacher = create_teacher("convnextv2_atto", image_size=64, head_dropout=0.25, drop_path=0.2)
    assert teacher.head[0].p == 0.25
    rates = [module.drop_prob for module in teacher.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.2)


def test_no_stochastic_depth_is_said() -> None:
    with pytest.raises(ConfigError, match=r"it has no stochastic depth; set model\.drop_path to 0"):
        create_teacher("densenet121")


def test_options_of_clarity_are_refused() -> None:
    with pytest.raises(ConfigError, match="attention_blocks is for CLARiTy models; a teacher has image_size"):
        create_teacher("test_convnext", attention_blocks=4)


def test_checkpoint_returns_the_same_teacher(tmp_path: Path) -> None:
    teacher = create_teacher("test_convnext", image_size=64).eval()
    path = tmp_path / "teacher.safetensors"
    save_teacher(path, teacher, {"epoch": 3})
    loaded = load_teacher(path)
    images = torch.randn(2, 3, 64, 64)
    assert loaded.config == teacher.config
    assert torch.equal(loaded(images), teacher(images))
    assert read_teacher_provenance(path)["epoch"] == 3
    assert torch.equal(
        create_teacher("test_convnext", weights=str(path), image_size=64).eval()(images), teacher(images)
    )


def test_a_teacher_is_not_a_clarity_and_the_other_way_round(tmp_path: Path) -> None:
    save_teacher(tmp_path / "teacher.safetensors", create_teacher("test_convnext"), {})
    small = {"width": 32, "heads": 2, "depth": 2, "attention_blocks": 1, "token_blocks": 1}
    save_checkpoint(tmp_path / "clarity.safetensors", create_model("clarity_t8_64", **small))
    assert is_teacher(tmp_path / "teacher.safetensors")
    assert not is_teacher(tmp_path / "clarity.safetensors")
    with pytest.raises(CheckpointError, match="A teacher only classifies"):
        load_checkpoint(tmp_path / "teacher.safetensors")
    with pytest.raises(CheckpointError, match="expected a teacher written by"):
        load_teacher(tmp_path / "clarity.safetensors")


def test_another_finding_set_is_refused(tmp_path: Path) -> None:
    teacher = create_teacher("test_convnext")
    teacher.config = dataclasses.replace(teacher.config, findings=(*FINDINGS[1:], FINDINGS[0]))
    save_teacher(tmp_path / "teacher.safetensors", teacher, {})
    with pytest.raises(CheckpointError, match="choose a teacher of this finding set"):
        load_teacher(tmp_path / "teacher.safetensors")


def test_weights_in_timms_layout(tmp_path: Path) -> None:
    """With its classifier of 1000 classes, which is left out; a file of another network is refused."""
    network = timm.create_model("test_convnext")
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    teacher = create_teacher("test_convnext", weights=str(tmp_path / "network.safetensors"))
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in teacher.backbone.state_dict().items())
    with pytest.raises(CheckpointError, match="does not fit this model"):
        create_teacher("test_resnet", weights=str(tmp_path / "network.safetensors"), drop_path=0.0)


def test_licences_as_timm_has_them() -> None:
    assert "cc-by-nc-4.0: no commercial use" in weights_licence("convnextv2_base", "some/file.safetensors")
    assert weights_licence("convnext_base", "convnext_base.fb_in22k_ft_in1k").endswith("apache-2.0")
