"""Labels by a vision-language model through real builds: recordings in, actions in shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from annotators.smoothing import segments
from pipelines.cli import app
from schemas.annotation import Annotation
from tests.annotators.vlm import server as servers
from tests.annotators.vlm.filmed import truth_of
from tests.annotators.vlm.server import Asked, Labeller, labeller, perfect
from tests.annotators.vlm.tiny_qwen import Kind
from tests.clips import SAME_BYTES, shared
from tests.pipelines.conftest import Job

MARK = 32
"""Pixels of the white square in the corner that is there while the garment is handled."""
RATES = {"r30": Fraction(30), "r29": Fraction(30000, 1001), "r25": Fraction(25), "r24": Fraction(24), "uneven": None}


def film(path: Path, fps: Fraction | None, *, seconds: float = 5.0, seed: int = 0, level: int = 110) -> None:
    """A pattern that moves, and the mark of what is true. Without `fps`, frames are shown 0.02 to 0.08 s each."""
    steps = np.random.default_rng(seed).uniform(0.02, 0.08, 1000) if fps is None else np.full(1000, 1 / float(fps))
    times = np.cumsum(steps) - steps[0]
    times = times[times < seconds]
    truth = truth_of(int(seconds * 1000) + 1, 1000, seed=seed)
    y, x = np.mgrid[0:120, 0:160]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=fps or 30, options={"crf": "18", "preset": "ultrafast", **SAME_BYTES}
        )
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.time_base = Fraction(1, 90_000)
        stream.codec_context.time_base = Fraction(1, 90_000)
        for number, shown_at in enumerate(times):
            gray = (level + 60 * np.sin((x + 6 * number) / 9) * np.cos(y / 11)).astype(np.uint8)
            if truth[int(shown_at * 1000)]:
                gray[:MARK, :MARK] = 255
            picture = av.VideoFrame.from_ndarray(np.repeat(gray[:, :, None], 3, axis=2), format="rgb24")
            picture.pts, picture.time_base = round(shown_at * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def marked(image: np.ndarray) -> bool:
    scale = image.shape[1] / 160
    corner = image[: int((MARK - 8) * scale), : int((MARK - 8) * scale)]
    return bool(corner.mean() > 215)


def sees_marks(asked: Asked) -> str:
    """Labels each picture by its mark."""
    if "interactive" not in asked.schema["properties"]:
        return str(perfect(lambda _: False)(asked))
    labels = {str(number): marked(picture) for number, picture in enumerate(asked.pictures, 1)}
    return json.dumps({"id": asked.id, "interactive": labels})


@pytest.fixture
def server() -> Iterator[Labeller]:
    with labeller(sees_marks) as running:
        yield running


def labels(server: Labeller, **fields: Any) -> dict[str, Any]:
    backend = {"kind": "openai", "base_url": server.address, "model": "labeller", "tries": 3, "longest_wait": 0.1}
    return {"use": "annotators.vlm.stage:VlmLabels", "backend": backend, **fields}


def samples(out: Path) -> dict[str, dict[str, bytes]]:
    """Key → member → bytes, of all shards."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                content = tar.extractfile(member)
                assert content
                found.setdefault(key, {})[name] = content.read()
    return found


def annotation_of(sample: dict[str, bytes]) -> Annotation:
    return Annotation.model_validate_json(sample["annotation.json"])


def truth_shown(sample: dict[str, bytes]) -> np.ndarray:
    """(T,) bool: frames of the sample's video that bear the mark."""
    with av.open(io.BytesIO(sample["video.mp4"])) as container:
        return np.array([marked(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)])


def test_actions_in_the_shards_are_what_the_frames_show(job: Job, server: Labeller) -> None:
    for seed, (name, fps) in enumerate(RATES.items()):
        film(job.folder / f"{name}.mp4", fps, seed=seed)
        job.add(name)
    ingest = {"detector": "pyscenedetect", "min_seconds": 1.0, "max_seconds": 10.0}
    summary = job.build(ingest=ingest, stages={"labels": labels(server)})
    assert summary.kept.total() == len(RATES)
    for key, sample in samples(job.folder / "out").items():
        annotation, truth = annotation_of(sample), truth_shown(sample)
        found = [(action.start_frame, action.end_frame) for action in annotation.actions]
        assert found == segments(truth) != [], key
        assert annotation.labels == tuple(truth.tolist())
        assert annotation.labeller.startswith("labeller, prompts en ")
        assert json.loads(sample["meta.json"])["source"]["variable_rate"] == key.startswith("uneven")


def test_another_threshold_and_another_run_ask_nothing(job: Job, server: Labeller) -> None:
    film(job.folder / "r25.mp4", Fraction(25))
    job.add("r25")
    cache = str(job.folder / "answers")
    job.build("one", stages={"labels": labels(server, cache=cache)})
    asked = len(server.asked)
    assert asked > 0
    job.build("one", stages={"labels": labels(server, cache=cache)})
    job.build("one", stages={"labels": labels(server, cache=cache, smoothing={"high": 0.9, "low": 0.5, "gap": 0.4})})
    job.build("two", stages={"labels": labels(server, cache=cache)})
    assert len(server.asked) == asked
    assert samples(job.folder / "two").keys() == samples(job.folder / "one").keys() != set()


def test_a_clip_that_the_model_cannot_answer_for_fails_alone_with_its_cause(job: Job, server: Labeller) -> None:
    for name, level in {"dark": 60, "light": 140}.items():
        film(job.folder / f"{name}.mp4", Fraction(25), seconds=3.0, level=level)
        job.add(name)
    server.behave = lambda asked: (
        servers.error(400, "too dark") if np.mean(asked.pictures[0]) < 100 else sees_marks(asked)
    )
    job.build(stages={"labels": labels(server)})
    rows = {row["pair_id"]: row for row in job.decisions()}
    assert rows["light"]["verdict"] == "kept"
    assert rows["dark"]["verdict"] == "failed"
    assert "windows has an answer that can be used; the first: the server refuses it" in rows["dark"]["error"]


def test_disagreement_is_measured_and_listed_for_review(job: Job, server: Labeller) -> None:
    film(job.folder / "r25.mp4", Fraction(25), seconds=3.5, seed=1)
    job.add("r25")
    agreement = {"use": "annotators.agreement:Agreement"}
    nobody = {"use": "tests.pipelines.vlm_stages:NobodySeen"}
    job.build(stages={"nobody": nobody, "labels": labels(server), "agreement": agreement})
    [row] = job.decisions()
    metrics = dict(row["metrics"])
    assert metrics["label_agreement"] == 0.5
    assert metrics["unlabelled_share"] == 0
    [sample] = samples(job.folder / "out").values()
    done = CliRunner().invoke(app, ["review", str(job.folder / "out")])
    assert done.exit_code == 0, done.output
    lines = (job.folder / "out" / "review.csv").read_text().splitlines()
    assert len(lines) == 1 + len(annotation_of(sample).actions) > 1
    assert "contact 0.00 within" in done.output
    assert CliRunner().invoke(app, ["review", str(job.folder / "out"), "--below", "0.4"]).output.startswith("0 ")


def test_a_real_clip_with_a_labeller_that_knows_the_time(job: Job, server: Labeller) -> None:
    job.add("lower1", str(shared("clips/vivid/videos/lower1.mp4")))
    server.behave = perfect(lambda seconds: 0.495 < seconds < 1.495, category="adjusting the hem")
    job.build(stages={"labels": labels(server)})
    [sample] = samples(job.folder / "out").values()
    annotation = annotation_of(sample)
    [action] = annotation.actions
    with av.open(io.BytesIO(sample["video.mp4"])) as container:
        fps = float(container.streams.video[0].average_rate)
    shown = np.flatnonzero([0.495 < frame / fps < 1.495 for frame in range(len(annotation.labels))])
    assert (action.start_frame, action.end_frame) == (shown[0], shown[-1])
    assert action.category == "adjusting the hem"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llguidance") is None, reason="the extra vlm is not installed")
@pytest.mark.parametrize("kind", ["qwen2_5", "qwen3"])
def test_a_tiny_model_labels_a_real_clip_in_a_worker_of_ray(
    kind: Kind, job: Job, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.annotators.vlm.tiny_qwen import build

    folder = build(kind, tmp_path_factory.mktemp(kind))
    job.add("lower1", str(shared("clips/vivid/videos/lower1.mp4")))
    labelling = {
        "use": "annotators.vlm.stage:VlmLabels",
        "backend": {"kind": "transformers", "model": str(folder), "device": "cpu"},
        "sampling": {"rate": 6, "window": 4, "stride": 2, "max_side": 56},
        "caption_pictures": 2,
        "segment_pictures": 2,
    }
    job.build(stages={"nobody": {"use": "tests.pipelines.vlm_stages:NobodySeen"}, "labels": labelling})
    [row] = job.decisions()
    assert row["verdict"] == "kept", row["error"]
    [sample] = samples(job.folder / "out").values()
    annotation = annotation_of(sample)
    assert annotation.labeller.startswith(folder.name)
    assert len(set(annotation.probabilities)) > 1
