"""Sharing a checkpoint: what lies in the folder or goes to the hub, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml

from clarity_cxr.cli.pull import pull
from clarity_cxr.cli.push import push
from clarity_cxr.errors import CheckpointError, ClarityError
from clarity_cxr.files import file_digest
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference import sharing


def write_evaluation(path: Path, digest: str) -> Path:
    per_finding = {name: {"auc": 0.8, "auc_interval": [0.7, 0.9]} for name in FINDINGS}
    per_finding["Hernia"] = {"auc": None, "auc_interval": None}
    content = {
        "checkpoint": {"sha256": digest},
        "store": {"fingerprint": "f" * 64, "manifest": {"splits": {"test": 2262}}},
        "macro_auc": 0.8125,
        "msli": {"all": 0.25},
        "intervals": {"macro_auc": [0.75, 0.875], "msli": {"all": None}},
        "per_finding": per_finding,
    }
    path.write_text(json.dumps(content))
    return path


def test_a_folder_takes_and_gives_the_checkpoint(checkpoint, tmp_path):
    push(checkpoint=checkpoint, folder=tmp_path / "shared")
    pull(folder=tmp_path / "shared", out=tmp_path / "fetched")
    assert {path.name for path in (tmp_path / "fetched").iterdir()} == {"model.safetensors", "README.md"}
    assert file_digest(tmp_path / "fetched" / "model.safetensors") == file_digest(checkpoint)
    push(checkpoint=tmp_path / "shared" / "model.safetensors", folder=tmp_path / "shared")


def test_the_card_says_what_header_and_evaluation_say(checkpoint, tmp_path):
    digest = file_digest(checkpoint)
    evaluation = write_evaluation(tmp_path / "evaluation.json", digest)
    push(checkpoint=checkpoint, folder=tmp_path, evaluation=evaluation, license="apache-2.0")
    card = (tmp_path / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "apache-2.0"
    results = metadata["model-index"][0]["results"][0]["metrics"]
    assert {result["name"]: result["value"] for result in results} == {
        "macro AUC": 0.8125,
        "MSLI, protocol `all`": 0.25,
    }
    assert "64 x 64 pixels" in text
    assert digest in text
    assert "0.812 (0.750 to 0.875)" in text
    assert "| Hernia | – | |" in text.replace("|  |", "| |")
    assert "research use only" in text
    assert str(tmp_path) not in card


def test_a_card_without_evaluation_says_so(checkpoint, tmp_path):
    push(checkpoint=checkpoint, folder=tmp_path)
    assert "None was given" in (tmp_path / "README.md").read_text()


def test_the_hub_gets_weights_and_card(checkpoint, tmp_path, monkeypatch, capsys):
    uploaded = {}

    class Hub:
        def create_repo(self, repo: str, private: bool, exist_ok: bool) -> str:
            assert (repo, private, exist_ok) == ("lab/clarity", True, True)
            return "address of lab/clarity"

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
            uploaded.update({path.name: path.read_bytes() for path in folder_path.iterdir()})

    def download(repo: str, name: str, revision: str | None) -> str:
        assert (repo, revision) == ("lab/clarity", "v1")
        path = tmp_path / "cache" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(uploaded[name])
        return str(path)

    monkeypatch.setattr(sharing, "HfApi", Hub)
    monkeypatch.setattr(sharing, "hf_hub_download", download)
    push(checkpoint=checkpoint, repo="lab/clarity", private=True)
    assert "address of lab/clarity" in capsys.readouterr().out
    assert set(uploaded) == {"model.safetensors", "README.md"}
    pull(repo="lab/clarity", revision="v1", out=tmp_path / "fetched")
    assert (tmp_path / "fetched" / "model.safetensors").read_bytes() == checkpoint.read_bytes()


def test_mistakes_are_named(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ClarityError, match="either --repo OWNER/NAME"):
        push(checkpoint=checkpoint)
    with pytest.raises(ClarityError, match="either --repo OWNER/NAME"):
        pull(out=tmp_path, repo="lab/clarity", folder=tmp_path)
    other = write_evaluation(tmp_path / "evaluation.json", "0" * 64)
    with pytest.raises(ClarityError, match="of other weights"):
        push(checkpoint=checkpoint, folder=tmp_path / "shared", evaluation=other)
    assert not (tmp_path / "shared").exists()
    with pytest.raises(ClarityError, match=r"model\.safetensors: no such file"):
        pull(folder=tmp_path / "empty", out=tmp_path / "fetched")
    (tmp_path / "foreign").mkdir()
    for name in ("model.safetensors", "README.md"):
        (tmp_path / "foreign" / name).write_text("not weights")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        pull(folder=tmp_path / "foreign", out=tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_an_unreachable_hub_is_one_sentence(checkpoint, tmp_path, monkeypatch):
    def unreachable(*_: object, **__: object) -> str:
        raise sharing.OfflineModeIsEnabled("no network here\nand more lines")

    monkeypatch.setattr(sharing, "hf_hub_download", unreachable)
    with pytest.raises(ClarityError, match=r"lab/clarity: the hub cannot be used \(no network here\); check the name"):
        pull(repo="lab/clarity", out=tmp_path)
