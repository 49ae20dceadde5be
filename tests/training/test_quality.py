"""Quality of generated videos: real videos, real shards, and networks of the published shape with random weights."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from annotators.vlm.answers import Verdict
from media.reader import open_reader
from schemas.annotation import DEFAULT_CATEGORIES, ActionCaption, Annotation
from schemas.errors import ConfigError, DatasetError, WeightsError
from tests.training.build import FPS, DatasetBuilder, artifacts, members, mp4
from training.compared import open_compared
from training.evaluate import IsrReport, main, read_interactions, read_yaml
from training.features.i3d import I3D
from training.features.lpips import LPIPS
from training.features.resnext import MEAN, ResNeXt101
from training.frechet import Moments, frechet_distance
from training.isr import Answer, EvaluationError, Judged, scores
from training.judging import Judging
from training.quality import ClipDistance, clip_distances, measure
from training.quality_report import QualityReport, rows
from training.quality_settings import QualitySettings
from training.shards import read_index

pytestmark = pytest.mark.skipif(find_spec("torchmetrics") is None, reason="the extra train is not installed")

HEIGHT, WIDTH, FRAMES = 96, 72, 12
ACTIVE = (4, 8)
"""First and last interactive frame of the samples that have some."""
BARE = QualitySettings(i3d="", resnext="", lpips="")
KEYS = ("shirt-0", "shirt-1", "shirt-2")


def film(seed: int, *, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A smooth pattern that moves."""
    chance = np.random.default_rng(seed)
    base = gaussian_filter(chance.random((height, width, 3)), (5, 5, 0))
    base = (base - base.min()) / np.ptp(base) * 255
    return np.stack([np.roll(base, 2 * t, axis=1) for t in range(frames)]).astype(np.uint8)


def sample(key: str, images: np.ndarray, *, active: tuple[int, int] | None = ACTIVE) -> dict[str, bytes]:
    frames, height, width = images.shape[:3]
    labels = tuple(active is not None and active[0] <= t <= active[1] for t in range(frames))
    actions = (
        (
            ActionCaption(
                category=DEFAULT_CATEGORIES[1], caption="<lifts> it", start_frame=active[0], end_frame=active[1]
            ),
        )
        if active
        else ()
    )
    annotation = Annotation(
        global_caption="Shows a shirt & <more>.", actions=actions, probabilities=tuple(map(float, labels)),
        labels=labels, labeller="test",
    )  # fmt: skip
    values = artifacts(frames=frames, height=height, width=width) | {"annotation": annotation, "video": mp4(images)}
    return members(values, key=key)


def write(folder: Path, samples: dict[str, dict[str, bytes]]) -> str:
    builder = DatasetBuilder(folder)
    builder.shard(samples, split="test")
    return str(builder.index())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three test samples, of which the last has no interaction."""
    made = {key: sample(key, film(n), active=ACTIVE if n < 2 else None) for n, key in enumerate(KEYS)}
    return write(tmp_path_factory.mktemp("dataset"), made)


@pytest.fixture
def generated(dataset: str, tmp_path: Path) -> Path:
    """The real videos themselves, as if generated."""
    folder = tmp_path / "generated"
    folder.mkdir()
    for n, key in enumerate(KEYS):
        (folder / f"{key}.mp4").write_bytes(mp4(film(n)))
    return folder


def measured(dataset: str, generated: Path, settings: QualitySettings = BARE, **options: Any) -> QualityReport:
    return measure(dataset, str(generated), settings=settings, **options)


# ---- videos that cannot be compared


def test_all_that_cannot_be_compared_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    faults: dict[str, tuple[bytes | None, str]] = {
        "a-0": (None, "there is no such file"),
        "a-1": (b"", "empty"),
        "a-2": (b"no video at all", "no recording in a container"),
        "a-3": (mp4(film(0)[:-1]), "it has 11 frames, the sample 12"),
        "a-4": (mp4(film(0, frames=13)), "it has 13 frames, the sample 12"),
        "a-5": (mp4(film(0, height=48, width=36)), "36×48 px in it; a side needs 64"),
        "a-6": (mp4(film(0, height=96, width=256)), "it has 256×96 px, the sample 72×96: another shape"),
        "a-7": (mp4(film(0)[:1]), "1 frames"),
    }
    dataset = write(tmp_path / "dataset", {key: sample(key, film(0)) for key in (*faults, "b-0")})
    folder = tmp_path / "generated"
    folder.mkdir()
    (folder / "b-0.mp4").write_bytes(mp4(film(0)))
    for key, (data, _) in faults.items():
        if data is not None:
            (folder / f"{key}.mp4").write_bytes(data)
    with pytest.raises(EvaluationError, match=r"8 generated video\(s\) cannot be compared") as caught:
        measured(dataset, folder)
    told = {key: str(caught.value).partition(f"{key} (")[2].partition(")")[0] for key in faults}
    assert all(why in told[key] for key, (_, why) in faults.items()), told


def test_frames_that_break_only_when_they_are_decoded_are_an_error_too(dataset: str, generated: Path) -> None:
    file = generated / "shirt-1.mp4"
    data = bytearray(file.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    file.write_bytes(data)
    with pytest.raises(EvaluationError, match="shirt-1"):
        measured(dataset, generated)


def test_a_damaged_sample_is_not_blamed_on_the_generated_video(generated: Path, tmp_path: Path) -> None:
    short = sample("shirt-0", film(0)) | {"video.mp4": mp4(film(0)[:5])}
    with pytest.raises(DatasetError, match=r"shirt-0: the video has 5 frames, the annotation 12"):
        measured(write(tmp_path / "short", {"shirt-0": short}), generated)
    broken = sample("shirt-0", film(0)) | {"video.mp4": b"\0" * 500}
    with pytest.raises(DatasetError, match="shirt-0"):
        measured(write(tmp_path / "broken", {"shirt-0": broken}), generated)


def test_a_split_without_samples_is_an_error(dataset: str, generated: Path) -> None:
    with pytest.raises(DatasetError, match="no sample in split 'train'"):
        measured(dataset, generated, split="train")


@pytest.mark.parametrize("name", ["i3d", "resnext", "lpips"])
def test_weights_that_are_not_there_are_an_error_before_anything_is_read(name: str, tmp_path: Path) -> None:
    settings = BARE.model_copy(update={name: str(tmp_path / "absent.pth")})
    with pytest.raises(WeightsError, match="not there"):
        measured("no/dataset", tmp_path, settings)


def test_a_gpu_that_is_not_there_is_an_error(dataset: str, generated: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="sees no GPU"):
        measured(dataset, generated, BARE.model_copy(update={"device": "cuda:1"}))


# ---- SSIM


def ssim_by_hand(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al. 2004 on (H, W, 3) 0..1: Gaussian window of radius 5, σ 1.5; mean where it lies in the picture."""

    def blurred(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, (1.5, 1.5, 0), truncate=5 / 1.5)[5:-5, 5:-5]

    mean_one, mean_other = blurred(one), blurred(other)
    var_one, var_other = blurred(one * one) - mean_one**2, blurred(other * other) - mean_other**2
    shared = blurred(one * other) - mean_one * mean_other
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_one * mean_other + c1) * (2 * shared + c2)
    return float((top / ((mean_one**2 + mean_other**2 + c1) * (var_one + var_other + c2))).mean())


def test_ssim_is_that_of_the_paper_frame_by_frame(dataset: str, generated: Path) -> None:
    chance = np.random.default_rng(1)
    noisy = np.clip(film(0) + chance.normal(0, 25, film(0).shape), 0, 255).astype(np.uint8)
    (generated / "shirt-0.mp4").write_bytes(mp4(noisy))
    entry = next(iter(read_index(dataset)))
    ((shown, made, labels),) = open_compared(entry, str(generated)).pictures(100)
    by_hand = np.array([ssim_by_hand(*pair) for pair in zip(shown / 255, made / 255, strict=True)])
    first = measured(dataset, generated).samples[0]
    assert first.ssim
    assert 0.2 < by_hand.mean() < 0.9
    assert first.ssim["all"] == pytest.approx(by_hand.mean(), abs=1e-4)
    assert first.ssim["interactive"] == pytest.approx(by_hand[labels].mean(), abs=1e-4)


def test_ssim_is_scikit_images_too() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    one, other = film(0)[0] / 255, film(1)[0] / 255
    theirs = metrics.structural_similarity(
        one, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=-1
    )
    assert ssim_by_hand(one, other) == pytest.approx(theirs, abs=1e-6)


def test_interactive_frames_are_scored_alone_and_samples_without_them_left_out(dataset: str, generated: Path) -> None:
    spoiled = film(0)
    spoiled[ACTIVE[0] : ACTIVE[1] + 1] = 128
    (generated / "shirt-0.mp4").write_bytes(mp4(spoiled))
    (generated / "shirt-2.mp4").write_bytes(mp4(255 - film(2)))
    report = measured(dataset, generated)
    first, second, third = (each.ssim for each in report.samples)
    assert first
    assert second
    assert third
    assert first["interactive"] < 0.6 < first["all"]  # type: ignore[operator]
    assert second["all"] == pytest.approx(1, abs=0.01)
    assert third["interactive"] is None
    everything, active = report.scores["all"], report.scores["interactive"]
    assert (everything.samples, everything.frames) == (3, 36)
    assert (active.samples, active.frames) == (2, 10)
    assert everything.ssim
    assert active.ssim
    assert everything.ssim.value == pytest.approx((first["all"] + second["all"] + third["all"]) / 3)  # type: ignore[operator]
    assert active.ssim.value == pytest.approx((first["interactive"] + second["interactive"]) / 2)  # type: ignore[operator]
    assert active.ssim.low == pytest.approx(first["interactive"])
    assert active.ssim.high == pytest.approx(second["interactive"])


def test_borders_of_the_fit_count_nothing(dataset: str, generated: Path) -> None:
    """Of another shape: the sample's picture is fitted into it as the model was shown it, and only that is compared."""
    for key in KEYS:
        wide = np.random.default_rng(0).integers(0, 255, (FRAMES, HEIGHT, 96, 3), dtype=np.uint8)
        wide[:, :, 12:84] = film(KEYS.index(key))
        (generated / f"{key}.mp4").write_bytes(mp4(wide))
    report = measured(dataset, generated)
    assert all(each.ssim and each.ssim["all"] > 0.97 for each in report.samples)  # type: ignore[operator]
    assert {(each.height, each.width) for each in report.samples} == {(HEIGHT, 96)}


def test_the_first_frames_alone_may_be_compared(dataset: str, generated: Path) -> None:
    for n, key in enumerate(KEYS):
        (generated / f"{key}.mp4").write_bytes(mp4(film(n)[:5]))
    report = measured(dataset, generated, BARE.model_copy(update={"frames": 5}))
    assert [each.frames for each in report.samples] == [5, 5, 5]
    assert [each.interactive_frames for each in report.samples] == [1, 1, 0]
    assert report.scores["all"].ssim.value > 0.97  # type: ignore[union-attr]


def test_memory_does_not_grow_with_the_length_of_videos(tmp_path: Path) -> None:
    peaks = []
    for frames in (24, 96):
        dataset = write(tmp_path / f"dataset-{frames}", {"a-0": sample("a-0", film(0, frames=frames))})
        folder = tmp_path / str(frames)
        folder.mkdir()
        (folder / "a-0.mp4").write_bytes(mp4(film(0, frames=frames)))
        compared = open_compared(next(iter(read_index(dataset))), str(folder))
        tracemalloc.start()
        assert sum(len(shown) for shown, _, _ in compared.pictures(8)) == frames
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# ---- clips


class Colour(nn.Module):
    """Mean and spread of each channel, as features."""

    width = 6

    def forward(self, clips: Tensor) -> Tensor:
        return torch.cat([clips.mean((2, 3, 4)), clips.std((2, 3, 4))], 1)


def fed(videos: Sequence[np.ndarray], labels: Sequence[Sequence[bool]], *, frames: int, batch: int) -> ClipDistance:
    """Videos beside their negatives."""
    network: Any = Colour()
    distance = ClipDistance(network, frames, lambda clip: clip / 255, torch.device("cpu"))
    for video, label in zip(videos, labels, strict=True):
        distance.start()
        for start in range(0, len(video), batch):
            part = video[start : start + batch]
            distance.add(part, 255 - part, np.array(label[start : start + batch]))
    return distance


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_clips_follow_each_other_and_never_span_two_videos(batch: int) -> None:
    videos = [film(n, frames=11 + n, height=8, width=8) for n in range(3)]
    labels = [[t == 6 for t in range(11)], [t == 11 for t in range(12)], [t >= 12 for t in range(13)]]
    distance = fed(videos, labels, frames=5, batch=batch)
    clips = [video[start : start + 5] for video in videos for start in (0, 5)]

    def expected(chosen: Sequence[np.ndarray]) -> float:
        sides = []
        for negative in (False, True):
            given = torch.stack([torch.from_numpy(255 - clip if negative else clip) for clip in chosen]).float() / 255
            sides.append(Moments(6))
            sides[-1].add(Colour()(given.movedim(-1, 1)).numpy())
        return frechet_distance(*sides)

    everything = distance.distance("all")
    assert (everything.clips, everything.note[:14]) == (6, "no more clips ")
    assert everything.value == pytest.approx(expected(clips), rel=1e-4)
    assert distance.distance("interactive").clips == 1  # frame 6 of the first; the others lie in what is left over
    assert distance.distance("interactive").value is None


def test_enough_clips_need_no_note() -> None:
    videos = [film(n, frames=4, height=8, width=8) for n in range(7)]
    distance = fed(videos, [[n < 3] * 4 for n in range(7)], frames=4, batch=4)
    assert distance.distance("all").note == ""
    interactive = distance.distance("interactive")
    assert interactive.clips == 3
    assert interactive.value
    assert "same clips" in interactive.note


# ---- with all networks


def lively(network: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = {}
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            state[name] = torch.randn_like(value) * math.sqrt(2 / value[0].numel())
        elif not name.startswith("heads"):
            state[name] = value
    return state


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    made: dict[str, nn.Module] = {"i3d": I3D(), "resnext": ResNeXt101(), "lpips": LPIPS()}
    for name, network in made.items():
        torch.save({key: value for key, value in lively(network).items() if "heads" not in key}, folder / f"{name}.pth")
    return {name: str(folder / f"{name}.pth") for name in made}


def test_networks_are_given_what_the_settings_say(networks: dict[str, str]) -> None:
    clip = torch.tensor([10.0, 100.0, 255.0])[:, None, None, None].expand(3, 4, 50, 40)
    published = clip_distances(QualitySettings.model_validate(networks), torch.device("cpu"))
    assert {name: each.frames for name, each in published.items()} == {"vfid_i": 10, "fvd": 16, "vfid_r": 10}
    bgr, rgb = (255, 100, 10), (10, 100, 255)
    for name, colour in {"vfid_i": bgr, "vfid_r": bgr, "fvd": rgb}.items():
        shown = published[name].prepare(clip)
        assert shown.shape == (3, 4, 224, 224)
        torch.testing.assert_close(shown.mean((1, 2, 3)), torch.tensor(colour) / 127.5 - 1, atol=1e-4, rtol=0)
    settings = QualitySettings.model_validate({**networks, "i3d": "", "vfid_input": "trained"})
    shown = clip_distances(settings, torch.device("cpu"))["vfid_r"].prepare(clip)
    assert shown.shape == (3, 4, 112, 112)
    torch.testing.assert_close(shown.mean((1, 2, 3)), torch.tensor(rgb) - torch.tensor(MEAN))


def test_everything_is_measured_on_two_videos(
    networks: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, with a report of `isr` beside it: one table, one JSON."""
    films = {key: film(n, frames=2) for n, key in enumerate(KEYS[:2])}
    dataset = write(tmp_path / "dataset", {key: sample(key, images, active=(1, 1)) for key, images in films.items()})
    folder = tmp_path / "generated"
    folder.mkdir()
    for key, images in films.items():
        (folder / f"{key}.mp4").write_bytes(mp4(np.roll(images, 20, axis=1)))
    (tmp_path / "isr.json").write_text(isr_report(dataset, folder).model_dump_json())
    config = {**networks, "vfid_frames": 2, "fvd_frames": 2}
    (tmp_path / "metrics.yaml").write_text(json.dumps(config))
    out = tmp_path / "out" / "quality.json"
    command = ["evaluate", "quality", "--dataset", dataset, "--generated", str(folder), "--out", str(out)]
    command += ["--config", str(tmp_path / "metrics.yaml"), "--isr", str(tmp_path / "isr.json")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    report = QualityReport.model_validate_json(out.read_bytes())
    found = report.scores["all"]
    distances = (found.vfid_i, found.vfid_r, found.fvd)
    assert all(
        each and each.clips == 2 and each.value and each.value > 0 and "same clips" in each.note for each in distances
    )
    assert found.lpips
    assert found.lpips.value > 0.01
    assert set(report.weights) == {"i3d", "resnext", "lpips"}
    assert all(len(hashed) == 64 for hashed in report.weights.values())
    assert report.interactions
    assert report.interactions.judge == {"model": "test"}
    table = rows(report)
    assert list(table) == ["VFID_I ↓", "VFID_R ↓", "SSIM ↑", "LPIPS ↓", "FVD ↓", "ISR ↑"]
    assert table["ISR ↑"] == ("0.500 [0.000, 1.000]", "–")
    assert all(cell in printed for cells in table.values() for cell in cells)
    assert "FVD of all frames: no more clips than the 400 features" in printed


def test_unpaired_videos_have_distances_only(networks: dict[str, str], dataset: str, generated: Path) -> None:
    settings = QualitySettings(
        i3d="", resnext=networks["resnext"], lpips="not/needed.pth", vfid_frames=6, frames=6, vfid_input="trained"
    )
    for n, key in enumerate(KEYS):
        (generated / f"{key}.mp4").write_bytes(mp4(film(n, frames=6)))
    report = measured(dataset, generated, settings, paired=False)
    assert set(report.weights) == {"resnext"}
    found = report.scores["all"]
    assert (found.ssim, found.lpips, found.vfid_i, found.fvd) == (None, None, None, None)
    assert found.vfid_r
    assert (found.vfid_r.clips, report.scores["interactive"].vfid_r.clips) == (3, 2)  # type: ignore[union-attr]
    assert found.vfid_r.value is not None
    assert all(each.ssim is None for each in report.samples)


# ---- files of the command


def isr_report(dataset: str, folder: Path, **changed: Any) -> IsrReport:
    judged = [Judged(key=key, number=0, video="generated", category="x", answers=()) for key in KEYS[:2]]
    judged[0] = judged[0].model_copy(update={"missing": "gone"})
    answer = Answer(category="x", verdict=Verdict.PERFORMED, category_place=0, verdict_place=0)
    judged[1] = judged[1].model_copy(update={"answers": (answer, answer)})
    given = {
        "dataset": dataset, "split": "test", "generated": str(folder), "samples": 2, "judge": {"model": "test"},
        "judging": Judging(), "prompts": {}, "scores": {"generated": scores(judged, categories=2, seed=0)},
        "interactions": judged,
    }  # fmt: skip
    return IsrReport.model_validate(given | changed)


def test_a_report_of_other_videos_is_not_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "isr.json"
    for changed in ({"generated": "others"}, {"split": "train"}):
        file.write_text(isr_report("d", tmp_path, **changed).model_dump_json())
        with pytest.raises(ConfigError, match="Run `isr` on the same videos"):
            read_interactions(file, split="test", generated=str(tmp_path))
    file.write_text("{}")
    for wrong in (file, tmp_path / "absent.json"):
        with pytest.raises(ConfigError, match="no report of `isr`"):
            read_interactions(wrong, split="test", generated=str(tmp_path))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("vfid: 3", "vfid"),
        ("vfid_frames: 1", "vfid_frames"),
        ("device: tpu", "device"),
        ("[", "no YAML"),
        ("- 1", "config"),
    ],
)
def test_a_config_that_cannot_be_is_refused(words: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.yaml").write_text(words)
    with pytest.raises(ConfigError, match=told):
        read_yaml(tmp_path / "metrics.yaml", QualitySettings)


def test_fps_is_of_no_matter(dataset: str, generated: Path) -> None:
    (generated / "shirt-0.mp4").write_bytes(mp4(film(0), fps=FPS // 2))
    assert open_reader(str(generated / "shirt-0.mp4")).fps == FPS // 2
    assert measured(dataset, generated).samples[0].ssim["all"] > 0.97  # type: ignore[index,operator]
