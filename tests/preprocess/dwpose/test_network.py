"""Files that are not the networks they should be, and batches that files fix or leave open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.dwpose.detector import PersonDetector
from preprocess.dwpose.estimator import PoseEstimator
from preprocess.dwpose.network import available_threads
from preprocess.dwpose.stage import DWPose
from schemas.errors import ConfigError, WeightsError
from tests.preprocess.dwpose.networks import INT64, detector_file, estimator_file


def set_up(detector: Path, estimator: Path, **fields: object) -> DWPose:
    stage = DWPose(detector=str(detector), estimator=str(estimator), **fields)
    stage.setup()
    return stage


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x08" * 40, None])
def test_what_is_no_onnx_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "broken.onnx"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.onnx: onnxruntime cannot load this file: ."):
        set_up(file, estimator_file(tmp_path / "pose.onnx"))
    with pytest.raises(WeightsError, match=r"broken\.onnx"):
        set_up(detector_file(tmp_path / "det.onnx"), file)


def test_cut_file_is_named(tmp_path: Path) -> None:
    file = detector_file(tmp_path / "det.onnx")
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(WeightsError, match=r"det\.onnx"):
        PersonDetector(file, device="cpu")


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.onnx"):
        set_up(tmp_path / "nowhere.onnx", estimator_file(tmp_path / "pose.onnx"))


def test_swapped_files_say_what_each_has_and_what_is_wanted(tmp_path: Path) -> None:
    detector, estimator = detector_file(tmp_path / "det.onnx"), estimator_file(tmp_path / "pose.onnx")
    with pytest.raises(WeightsError) as error:
        set_up(estimator, detector)
    assert "has input input float32 (N, 3, 384, 288); outputs simcc_x" in str(error.value)
    assert "Allowed: input images float32 (N, 3, 640, 640); outputs output float32 (N, 8400, 85)" in str(error.value)


def test_other_sizes_names_and_dtypes_are_refused(tmp_path: Path) -> None:
    good = estimator_file(tmp_path / "pose.onnx")
    with pytest.raises(WeightsError, match=r"images float32 \(N, 3, 416, 416\)"):
        set_up(detector_file(tmp_path / "small.onnx", side=416), good)
    with pytest.raises(WeightsError, match=r"output float32 \(N, 8400, 6\)"):
        set_up(detector_file(tmp_path / "one_class.onnx", columns=6), good)
    with pytest.raises(WeightsError, match=r"simcc_x float32 \(N, 17, 576\)"):
        PoseEstimator(estimator_file(tmp_path / "body.onnx", points=17), device="cpu")
    with pytest.raises(WeightsError, match=r"input picture float32"):
        PoseEstimator(estimator_file(tmp_path / "renamed.onnx", input_name="picture"), device="cpu")
    with pytest.raises(WeightsError):
        set_up(detector_file(tmp_path / "int.onnx", kind=INT64), good)


def test_network_that_gives_nan_is_named(tmp_path: Path) -> None:
    estimator = PoseEstimator(estimator_file(tmp_path / "nan.onnx", gain=np.nan), device="cpu")
    with pytest.raises(WeightsError, match=r"nan\.onnx: the network gave NaN or infinity as simcc_x"):
        list(estimator([np.zeros((40, 30, 3), np.uint8)], np.array([[0, 0, 30, 40.0]])))


def test_cuda_is_refused_where_there_is_none(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has CUDA here")
    with pytest.raises(ConfigError, match=r"GPU.*Allowed: auto, cpu"):
        PersonDetector(detector_file(tmp_path / "det.onnx"), device="cuda")


@pytest.mark.parametrize("form", [{"batch": "N"}, {"batch": 1}, {"batch": 3}, {"swapped": True}])
def test_batches_fixed_or_open_and_outputs_in_any_order_answer_alike(tmp_path: Path, form: dict[str, Any]) -> None:
    random = np.random.default_rng(3)
    images = list(random.integers(0, 256, (7, 96, 64, 3), np.uint8))
    boxes = random.uniform((0, 0, 32, 50), (30, 40, 64, 96), (7, 4))
    one_by_one = PoseEstimator(estimator_file(tmp_path / "one.onnx", batch=1), device="cpu")
    other = PoseEstimator(estimator_file(tmp_path / "other.onnx", **form), device="cpu")
    for (points, scores), (same_points, same_scores) in zip(
        one_by_one(images, boxes), other(images, boxes), strict=True
    ):
        np.testing.assert_allclose(points, same_points)
        np.testing.assert_allclose(scores, same_scores, atol=1e-5)


def test_threads_are_the_share_of_a_worker_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # as Ray sets it
    assert available_threads() == 3
    for unusable in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        assert available_threads() >= 1
