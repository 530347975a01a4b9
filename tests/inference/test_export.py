"""An exported model says what its checkpoint says, with torch and in an environment that has none."""

import json
import os
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import clarity_cxr
from clarity_cxr.calibration import Calibration
from clarity_cxr.cli.predict import predict
from clarity_cxr.errors import CheckpointError, ClarityError
from clarity_cxr.files import file_digest
from clarity_cxr.findings import FINDINGS
from clarity_cxr.inference.export import export_onnx
from clarity_cxr.inference.loading import load_predictor
from clarity_cxr.inference.prediction import FilmPrediction
from clarity_cxr.inference.runner import OnnxPredictor, main
from clarity_cxr.localization.heatmaps import scale_maps
from clarity_cxr.models import create_model, save_checkpoint
from tests.inference.conftest import THRESHOLDS, make_film

TOLERANCE = 1e-4
CALIBRATION = Calibration(
    method="platt",
    scale={name: 0.5 + 0.1 * k for k, name in enumerate(FINDINGS)},
    offset={name: -1 + 0.2 * k for k, name in enumerate(FINDINGS)},
    operating_points={
        "half": dict.fromkeys(FINDINGS, 0.4),
        "youden": dict.fromkeys(FINDINGS, 0.3),
        "sensitive": dict.fromkeys(FINDINGS, 0.1),
    },
    fitted_on={"split": "val"},
)
ENVIRONMENT_PACKAGES = ("numpy", "numpy.libs", "onnxruntime")
PREDICT_WITHOUT_TORCH = """
import importlib.util, json, sys
import numpy as np
from clarity_cxr.inference.runner import OnnxPredictor
missing = [name for name in ("torch", "scipy", "PIL", "pandas") if importlib.util.find_spec(name)]
predictions = OnnxPredictor(sys.argv[1], decision_threshold=0.0, threads=1).predict_batch(list(np.load(sys.argv[2])))
print(json.dumps({"present": missing, "predictions": [prediction.to_json() for prediction in predictions]}))
"""


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibrated") / "tiny.safetensors"
    save_small(path, provenance={"epoch": 3}, calibration=CALIBRATION)
    return path


def save_small(path: Path, segment_cam: bool = True, **header: Any) -> None:
    """A model of two blocks, which is quick to export."""
    blocks = {"depth": 2, "attention_blocks": 1, "token_blocks": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("clarity_t8_64", segment_cam=segment_cam, **blocks)
        save_checkpoint(path, model, thresholds=THRESHOLDS, **header)


@pytest.fixture(scope="module")
def exported(calibrated: Path) -> Path:
    path = calibrated.with_suffix(".onnx")
    export_onnx(calibrated, path)
    return path


def assert_same(ours: FilmPrediction, torchs: FilmPrediction) -> None:
    assert ours.probabilities == pytest.approx(torchs.probabilities, abs=TOLERANCE)
    assert ours.decisions == torchs.decisions
    np.testing.assert_allclose(ours.heatmaps, torchs.heatmaps, atol=TOLERANCE)
    np.testing.assert_allclose(ours.attention, torchs.attention, atol=TOLERANCE)
    np.testing.assert_array_equal(ours.masks, torchs.masks)
    assert [(box.finding, box.x0, box.y0, box.x1, box.y1) for box in ours.boxes] == [
        (box.finding, box.x0, box.y0, box.x1, box.y1) for box in torchs.boxes
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_batches_of_any_size_predict_as_torch_does(calibrated, exported, count):
    films = [make_film(seed, 150, 120) for seed in range(count)]
    expected = clarity_cxr.load(calibrated, decision_threshold=0.0).predict_batch(films)
    assert any(prediction.boxes for prediction in expected)
    for ours, torchs in zip(
        OnnxPredictor(exported, decision_threshold=0.0).predict_batch(films), expected, strict=True
    ):
        assert_same(ours, torchs)


def test_films_of_several_sizes_keep_their_order(calibrated, exported):
    films = [make_film(0), make_film(1, 400, 330), make_film(2), make_film(3, 64, 64)]
    expected = clarity_cxr.load(calibrated, operating_point="youden").predict_batch(films)
    predictor = OnnxPredictor(exported, operating_point="youden")
    assert predictor.predict_batch([]) == []
    for ours, torchs in zip(predictor.predict_batch(films), expected, strict=True):
        assert_same(ours, torchs)
        assert ours.rule == torchs.rule


def test_the_file_alone_gives_calibrated_probabilities(calibrated, exported):
    film = make_film(4)
    session = onnxruntime.InferenceSession(str(exported))
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {"films": film[None]}), strict=True))
    expected = clarity_cxr.load(calibrated).predict(film)
    assert outputs["probabilities"][0] == pytest.approx(list(expected.probabilities.values()), abs=TOLERANCE)
    assert np.abs(outputs["probabilities"] - outputs["own_probabilities"]).max() > 0.01


def test_metadata_is_inside(calibrated, exported):
    metadata = OnnxPredictor(exported).metadata
    assert metadata["findings"] == list(FINDINGS)
    assert metadata["thresholds"]["Mass"] == THRESHOLDS["Mass"]
    assert metadata["provenance"] == {"epoch": 3}
    assert metadata["checkpoint_sha256"] == file_digest(calibrated)
    assert metadata["config"]["name"] == "clarity_t8_64"
    assert Calibration.from_dict(metadata["calibration"]) == CALIBRATION


def test_without_segment_cam_and_calibration(tmp_path):
    save_small(tmp_path / "plain.safetensors", segment_cam=False)
    export_onnx(tmp_path / "plain.safetensors", tmp_path / "plain.onnx")
    film = make_film(5)
    ours = load_predictor(tmp_path / "plain.onnx", decision_threshold=0.0).predict(film)
    assert_same(ours, load_predictor(tmp_path / "plain.safetensors", decision_threshold=0.0).predict(film))


def test_int8_is_smaller_and_near(calibrated, exported, tmp_path):
    export_onnx(calibrated, tmp_path / "int8.onnx", "int8")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.7 * exported.stat().st_size
    film = make_film(6)
    ours, torchs = OnnxPredictor(tmp_path / "int8.onnx").predict(film), clarity_cxr.load(calibrated).predict(film)
    assert ours.probabilities == pytest.approx(torchs.probabilities, abs=0.03)
    assert ours.rule == torchs.rule
    maps = scale_maps(torch.from_numpy(ours.attention * ours.masks), ours.heatmaps.shape[-1])
    np.testing.assert_allclose(ours.heatmaps, maps, atol=1e-5)  # 8 bits are for the weights, not for interpolation


def test_openvino_says_what_torch_says(calibrated, exported):
    films = [make_film(0), make_film(1, 400, 330)]
    expected = clarity_cxr.load(calibrated, decision_threshold=0.0).predict_batch(films)
    openvino = load_predictor(exported, decision_threshold=0.0, backend="openvino")
    for ours, torchs in zip(openvino.predict_batch(films), expected, strict=True):
        assert_same(ours, torchs)
    with ThreadPoolExecutor(2) as pool:
        for ours, torchs in zip(pool.map(openvino.predict, films), expected, strict=True):
            assert_same(ours, torchs)


def test_openvino_streams_share_out_a_batch(exported):
    films = np.stack([make_film(seed) for seed in range(5)])
    one = OnnxPredictor(exported, backend="openvino", threads=2).maps(films)
    two = OnnxPredictor(exported, backend="openvino", threads=2, streams=2).maps(films)
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=1e-5)


@pytest.mark.parametrize(("file", "backend"), [("calibrated", "torch-bfloat16"), ("exported", "openvino-bfloat16")])
def test_bfloat16_is_near(file, backend, calibrated, request):
    film = make_film(6)
    ours = load_predictor(request.getfixturevalue(file), backend=backend).predict(film)
    torchs = clarity_cxr.load(calibrated).predict(film)
    assert ours.probabilities == pytest.approx(torchs.probabilities, abs=0.03)
    assert ours.probabilities != torchs.probabilities
    assert ours.heatmaps.dtype == np.float32


def test_backends_that_do_not_run_a_file_are_named(calibrated, exported, monkeypatch):
    with pytest.raises(ClarityError, match=r"--backend torch runs \.safetensors checkpoints"):
        load_predictor(exported, backend="torch")
    with pytest.raises(ClarityError, match=r"--backend openvino runs \.onnx exports; make one with `clarity export"):
        load_predictor(calibrated, backend="openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ClarityError, match=r"clarity-cxr\[openvino\]"):
        load_predictor(exported, backend="openvino")


def test_runs_where_only_onnxruntime_and_numpy_are_installed(calibrated, exported, tmp_path):
    films = np.stack([make_film(seed) for seed in range(2)])
    np.save(tmp_path / "films.npy", films)
    python = make_environment(tmp_path / "environment")
    command = [str(python), "-c", PREDICT_WITHOUT_TORCH, str(exported), str(tmp_path / "films.npy")]
    source = Path(clarity_cxr.__file__).parent.parent
    result = subprocess.run(command, env={"PYTHONPATH": str(source)}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["present"] == []
    for ours, torchs in zip(
        said["predictions"],
        clarity_cxr.load(calibrated, decision_threshold=0.0).predict_batch(list(films)),
        strict=True,
    ):
        expected = torchs.to_json()
        assert ours["probabilities"] == pytest.approx(expected["probabilities"], abs=TOLERANCE)
        edges = [[box[edge] for edge in ("finding", "x0", "y0", "x1", "y1")] for box in ours["boxes"]]
        assert edges == [[box[edge] for edge in ("finding", "x0", "y0", "x1", "y1")] for box in expected["boxes"]]


def make_environment(path: Path) -> Path:
    """A virtual environment with nothing but NumPy and onnxruntime, taken from this one's files."""
    venv.create(path, with_pip=False, symlinks=True)
    here = Path(np.__file__).parent.parent
    there = next(path.glob("lib/python*/site-packages")) if os.name == "posix" else path / "Lib" / "site-packages"
    for package in ENVIRONMENT_PACKAGES:
        if (here / package).exists():
            (there / package).symlink_to(here / package)
    return path / "bin" / "python" if os.name == "posix" else path / "Scripts" / "python.exe"


def test_runner_prints_json_lines(exported, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(make_film(0)).save(tmp_path / "film.png")
    assert main([str(exported), str(tmp_path / "film.png")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["film"] == str(tmp_path / "film.png")
    assert set(said["probabilities"]) == set(FINDINGS)
    assert main([str(exported), str(tmp_path / "absent.png")]) == 2
    assert "absent.png" in capsys.readouterr().err
    assert main([]) == 2


def test_the_predict_command_takes_an_export(calibrated, exported, films, tmp_path):
    for model, out in ((calibrated, tmp_path / "torch"), (exported, tmp_path / "onnx")):
        assert predict([films / "one.png"], checkpoint=model, out=out, overlays=False, decision_threshold=0.0) == 0
    torchs, ours = (json.loads((tmp_path / name / "one.json").read_text()) for name in ("torch", "onnx"))
    assert ours["probabilities"] == pytest.approx(torchs["probabilities"], abs=TOLERANCE)
    assert len(ours["boxes"]) == len(torchs["boxes"]) > 0


def test_mistakes_are_named(checkpoint, exported, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"absent\.onnx: no such model"):
        OnnxPredictor(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(CheckpointError, match=r"text\.onnx: not a usable ONNX model"):
        OnnxPredictor(tmp_path / "text.onnx")
    with pytest.raises(ClarityError, match=r"decision threshold 1\.5"):
        OnnxPredictor(exported, decision_threshold=1.5)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ClarityError, match=r"clarity-cxr\[onnx\]"):
        export_onnx(checkpoint, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_models_of_others_are_refused(tmp_path):
    from onnx import TensorProto, helper, save

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "other", [value], [other])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "other.onnx")
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(CheckpointError, match="without a CLARiTy header"):
            OnnxPredictor(tmp_path / "other.onnx", backend=backend)
