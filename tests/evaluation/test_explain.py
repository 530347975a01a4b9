import numpy as np
import pytest
import torch

from clarity_cxr.data.store import open_store
from clarity_cxr.errors import ConfigError, StoreError
from clarity_cxr.evaluation.explain import ExplainOptions, explain
from clarity_cxr.evaluation.explain_section import explanation
from clarity_cxr.evaluation.explainers import gradcam_maps, rollout_maps
from clarity_cxr.evaluation.run_files import RunFiles
from clarity_cxr.findings import FINDINGS
from clarity_cxr.localization.heatmaps import scale_maps
from clarity_cxr.models import create_model, save_checkpoint
from tests.evaluation.readable_store import make_content

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_model("clarity_t8_64", width=32, depth=2, heads=2, attention_blocks=2, token_blocks=2).eval()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_content().write(tmp_path_factory.mktemp("explain") / "store")


def test_gradcam_is_the_formula_on_the_patch_tokens(model, store):
    rows, finding = np.array([80, 81]), "Mass"
    kept = []
    layer = model.backbone.blocks[-1].norm1
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    films = model.preprocess(torch.from_numpy(store.films[rows]))
    logits = model(films).logits[:, FINDINGS.index(finding)]
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.sum(), kept[0])
    tokens, gradient = kept[0][:, 14:], gradient[:, 14:]
    expected = (tokens * gradient.mean(dim=1, keepdim=True)).sum(dim=-1).relu().unflatten(1, (8, 8))
    found = gradcam_maps(model, store, CPU)(finding, rows)
    assert found.shape == (2, 64, 64)
    upsampled = scale_maps(expected.detach(), 64).numpy()
    for mine, theirs in zip(found, upsampled, strict=True):
        if theirs.max() > 0:
            assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > 0.99


def test_rollout_multiplies_attention_and_shortcuts(model, store):
    rows = np.array([80, 95])
    tokens = model.backbone.patch_embed(model.preprocess(torch.from_numpy(store.films[rows])))
    tokens = torch.cat([model.backbone.class_tokens.expand(2, -1, -1), tokens], dim=1) + model.backbone.positions
    product = torch.eye(tokens.shape[1]).expand(2, -1, -1)
    with torch.no_grad():
        for block in model.backbone.blocks:
            x = block.norm1(tokens)
            query, key, _ = block.attn.qkv(x).reshape(2, -1, 3, 2, 16).permute(2, 0, 3, 1, 4)
            weights = (query @ key.transpose(-2, -1) / 4).softmax(-1).mean(1)
            product = (0.5 * weights + 0.5 * torch.eye(weights.shape[-1])) @ product
            tokens = block(tokens)
    expected = scale_maps(product[:, FINDINGS.index("Nodule"), 14:].unflatten(-1, (8, 8)), 64)
    found = rollout_maps(model, store, CPU)("Nodule", rows)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_whole_check(model, store, tmp_path):
    checkpoint = tmp_path / "model.safetensors"
    save_checkpoint(checkpoint, model)
    options = ExplainOptions(films=2, replicates=10)
    result = explain(checkpoint, store.path, tmp_path, options)
    assert set(result["sources"]) == {"model", "gradcam", "rollout", "random", "prior", "mean"}
    for name, source in result["sources"].items():
        assert 0 <= source["pointing_game"]["macro"] <= 1
        assert (source["curves"] is None) == (name in ("prior", "mean"))
    assert result["sources"]["model"]["curves"]["deletion"]["films"] == 8 * 2
    assert set(result["marker"]) == set(FINDINGS)
    assert result["randomisation"]["films"] == 16
    again = explain(checkpoint, store.path, tmp_path / "again", options)
    assert again["sources"] == result["sources"]
    files = RunFiles(
        folder=tmp_path,
        evaluation=None,
        predictions=None,
        boxes=None,
        explanation=result,
        ablations=None,
        sweep=None,
        metrics=None,
        predictor=None,
        store=None,
    )
    page = explanation(files)
    for words in ("Grad-CAM, same weights", "Deletion", "Randomised weights", "A painted marker"):
        assert words in page


def test_mistakes_are_named(model, tmp_path):
    content = make_content()
    content.boxes = content.boxes.iloc[:0]
    content.index["localization"] = ""
    store = content.write(tmp_path / "store")
    checkpoint = tmp_path / "model.safetensors"
    save_checkpoint(checkpoint, model)
    with pytest.raises(StoreError, match="no boxes in both localisation halves"):
        explain(checkpoint, open_store(store.path).path, tmp_path)
    with pytest.raises(ConfigError, match="films is 0"):
        ExplainOptions(films=0)
