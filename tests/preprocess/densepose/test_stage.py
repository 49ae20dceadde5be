"""DensePose as a stage: frames, boxes and clips go in, aligned maps come out. The weights are random."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from media.frames import frames
from preprocess.densepose.detector import Detections
from preprocess.densepose.heads import Surfaces
from preprocess.densepose.reader import SurfaceReader
from preprocess.densepose.stage import DensePose
from schemas import artifacts
from schemas.clip import Clip
from schemas.conditions import PersonTrack
from schemas.errors import ConfigError, WeightsError
from tests.clips import clip_from, shared
from tests.preprocess import worn
from tests.preprocess.densepose.networks import as_pickle, random_network, random_values

QUICK = {"min_size": 64, "device": "cpu", "margin": 0.0}


@dataclass
class Network:
    """One that finds people where it is told and has a body in all of every box: part 3, U 0.25, V 2."""

    found: tuple[tuple[float, ...], ...]
    dtype = torch.float32

    def features(self, pictures: torch.Tensor) -> int:
        return len(pictures)

    def finish(self, features: int) -> int:
        return features

    def detect(self, features: int, size: tuple[int, int]) -> list[Detections]:
        boxes = torch.tensor(self.found).reshape(-1, 4)
        return [Detections(boxes, torch.linspace(1, 0.5, len(boxes)))] * features

    def surfaces(self, features: int, boxes: torch.Tensor, of_image: torch.Tensor) -> Surfaces:
        plane = torch.zeros(len(boxes), 25, 112, 112)
        coarse, fine, u, v = plane[:, :2].clone(), plane.clone(), plane + 0.25, plane + 2
        coarse[:, 1], fine[:, 3] = 1, 1
        return Surfaces(coarse, fine, u, v)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("densepose") / "model_final.pkl"
    with file.open("wb") as opened:
        pickle.dump(as_pickle(random_values()), opened, protocol=4)
    yield file
    file.unlink()  # 250 MB


def ready(**fields: object) -> DensePose:
    """The stage on the network that `checkpoint` holds, without reading it again."""
    stage = DensePose(**{**QUICK, **fields})
    stage._reader = SurfaceReader(random_network(), min_size=stage.min_size, detect=stage.boxes == "detector")
    return stage


def drawn(count: int, *, size: tuple[int, int] = (96, 64), seed: int = 0) -> Clip:
    """A clip of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 255, (count, size[0] // 8, size[1] // 8, 3), np.uint8)
    clip = worn.encode(coarse.repeat(8, 1).repeat(8, 2))
    return replace(clip, key=f"drawn{seed}-{size[0]}x{size[1]}-{count:08d}")


def tracked(clip: Clip, boxes: object) -> Clip:
    frames_there = clip.span.frames
    whole = np.zeros((frames_there, 4), np.float32) + np.asarray(boxes, np.float32)
    there = (whole.any(1)).astype(np.float32)
    clip.artifacts["person"] = PersonTrack(whole, there, there.astype(np.uint8))
    return clip


def maps(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    for name in ("densepose", "densepose_uv"):
        artifacts.check(name, clip.artifacts[name], clip)
    return clip.artifacts["densepose"], clip.artifacts["densepose_uv"]


def test_a_real_clip_from_the_file_on(checkpoint: Path) -> None:
    clip = clip_from(shared("clips/vivid/videos/lower1.mp4"))
    boxes = np.zeros((clip.span.frames, 4), np.float32)
    boxes[6:8] = 130, -20, 400.7, 780.2
    clip = tracked(clip, boxes)
    stage = DensePose(**QUICK, checkpoint=str(checkpoint), batch=2)
    stage.setup()
    stage.process(clip)
    part, uv = maps(clip)
    height, width = 780, 270  # of the box inside the picture, truncated
    outside = np.ones(part.shape, bool)
    outside[6:8, :height, 130 : 130 + width] = False
    assert not part[outside].any()
    assert not uv[:, 0][part == 0].any()
    assert len(np.unique(part)) > 5
    reading = ready()._reader.read(
        torch.from_numpy(frames(clip).images[7:8].copy()), torch.tensor([[130.0, -20, 400.7, 780.2]])
    )[0]
    assert (reading.x, reading.y, *reading.part.shape) == (130, 0, height, width)
    same = reading.part.numpy() == part[7, :height, 130 : 130 + width]
    assert same.mean() > 0.995  # another batch, other sums


def test_nobody_gives_nothing() -> None:
    clip = tracked(drawn(3), 0)
    ready().process(clip)
    part, uv = maps(clip)
    assert not part.any()
    assert not uv.any()


@pytest.mark.parametrize("box", [(-50, -50, -10, -10), (70, 10, 90, 50), (10, 96, 30, 120), (3.2, 4.1, 3.3, 4.2)])
def test_boxes_outside_and_tiny_ones_are_survived(box: tuple[float, ...]) -> None:
    clip = tracked(drawn(1), box)
    ready().process(clip)
    part, _ = maps(clip)
    assert (part > 0).sum() <= 1


def test_frames_without_a_person_stay_empty_but_for_short_gaps() -> None:
    boxes = np.tile(np.array([8, 8, 56, 90], np.float32), (16, 1))
    boxes[[0, 1, 5, 9, 10, 11, 15]] = 0
    clip = tracked(drawn(16), boxes)
    stage = ready(fill=2 / 24)
    stage._reader = SurfaceReader(Network(()), min_size=64)
    stage.process(clip)
    part, _ = maps(clip)
    there = part.any((1, 2))
    assert np.flatnonzero(~there).tolist() == [0, 1, 9, 10, 11, 15]  # at the ends, and three in a row


def test_several_clips_of_several_sizes_at_once_are_as_one_by_one() -> None:
    def clips() -> list[Clip]:
        return [
            tracked(drawn(2, seed=1), (5, 6, 50, 80)),
            tracked(drawn(3, seed=2), 0),
            tracked(drawn(1, seed=3), (20, 10, 60, 90)),
            tracked(drawn(1, size=(64, 96), seed=4), (5, 6, 90, 60)),
        ]

    together, alone = clips(), clips()
    ready(batch=2).process_batch(together)
    for one, other in zip(together, alone, strict=True):
        ready(batch=1).process(other)
        part, uv = maps(one)
        assert (part == maps(other)[0]).mean() > 0.995
        agree = (part == maps(other)[0])[:, None].repeat(2, 1)
        assert np.abs(uv.astype(int) - maps(other)[1])[agree].max(initial=0) <= 1


BESIDE, OVERLAPS, BETTER = (0.0, 0, 10, 10), (30.0, 30, 90, 120), (22.0, 24, 98, 130)
"""In a frame twice as large as the clip's."""


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ((BESIDE, OVERLAPS, BETTER), (11, 12, 49, 65)),  # the best overlap, not the best score
        ((BESIDE,), (10, 12, 50, 66)),  # the tracked box
        ((), (10, 12, 50, 66)),
    ],
)
def test_the_detection_of_the_tracked_person_is_read(
    found: tuple[tuple[float, ...], ...], wanted: tuple[int, ...]
) -> None:
    clip = tracked(drawn(2), (10, 12, 50, 66))
    stage = ready(boxes="detector", min_size=128)
    stage._reader = SurfaceReader(Network(found), min_size=128, detect=True)
    stage.process(clip)
    part, uv = maps(clip)
    x0, y0, x1, y1 = wanted
    expected = np.zeros((2, 96, 64), np.uint8)
    expected[:, y0:y1, x0:x1] = 3
    np.testing.assert_array_equal(part, expected)
    assert set(uv[:, 0][part == 3]) == {63}
    assert set(uv[:, 1][part == 3]) == {255}
    assert not uv[np.broadcast_to(part[:, None] == 0, uv.shape)].any()


def test_tracked_boxes_are_widened_on_every_side() -> None:
    clip = tracked(drawn(1), (20, 20, 40, 60))
    stage = ready(margin=0.25)
    stage._reader = SurfaceReader(Network(()), min_size=64)
    stage.process(clip)
    rows, columns = np.nonzero(maps(clip)[0][0])
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (15, 10, 44, 69)


def test_absent_detectron2_is_told_of_with_what_to_do(checkpoint: Path) -> None:
    try:
        import detectron2  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="backend: torch"):
            DensePose(**QUICK, backend="detectron2", checkpoint=str(checkpoint)).setup()
    else:
        pytest.skip("detectron2 is installed")


def test_absent_and_wrong_files_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not there"):
        DensePose(**QUICK, checkpoint=str(tmp_path / "model.pkl")).setup()
    (tmp_path / "model.pkl").write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match="no pickle"):
        DensePose(**QUICK, checkpoint=str(tmp_path / "model.pkl")).setup()


def test_half_precision_says_nearly_the_same() -> None:
    clip, exact = tracked(drawn(1), (5, 6, 50, 80)), tracked(drawn(1), (5, 6, 50, 80))
    stage = ready()
    stage.process(exact)
    network = random_network()
    try:
        stage._reader = SurfaceReader(network.bfloat16(), min_size=64)
        stage.process(clip)
    finally:
        random_network.cache_clear()
    part, _ = maps(clip)
    assert (part == maps(exact)[0]).mean() > 0.8
