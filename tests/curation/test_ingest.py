"""Recordings become normalised clips of one shot each; bad rows and bad files become typed errors."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

import weights
from curation.ingest import Ingest
from schemas import artifacts
from schemas.clip import Clip
from schemas.errors import MediaError, WeightsError
from schemas.manifest import Pair
from tests.clips import shared
from tests.curation.reels import FPS, Reel, ffmpeg, pattern_reel, real_reel

FAST = Ingest(min_seconds=2.0, detector="pyscenedetect", preset="ultrafast")


def pair_of(path: Path, *, start: float | None = None, end: float | None = None) -> Pair:
    return Pair(pair_id="pair", video=str(path), garment=None, part="upper", start=start, end=end)


def clips_of(ingest: Ingest, pair: Pair) -> list[Clip]:
    return [item.clip for item in ingest.clips(pair) if item.clip is not None]


def frames_of(clips: list[Clip]) -> list[tuple[int, int]]:
    return [(clip.span.first_frame, clip.span.last_frame) for clip in clips]


def pictures_of(data: bytes | Path) -> np.ndarray:
    source = io.BytesIO(data) if isinstance(data, bytes) else str(data)
    with av.open(source) as container:
        return np.stack([frame.to_ndarray(format="gray8") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Reel:
    """Shots of 3, 1, 4, 15 seconds."""
    return pattern_reel(tmp_path_factory.mktemp("patterns") / "reel.mp4", seconds=(3, 1, 4, 15))


def test_hopeless_files_are_typed_errors(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    for path, code in ((text, "not_media"), (tmp_path / "absent.mp4", "missing")):
        with pytest.raises(MediaError) as error:
            clips_of(FAST, pair_of(path))
        assert error.value.code == code


def test_a_row_that_starts_behind_the_end_says_so(reel: Reel) -> None:
    with pytest.raises(MediaError, match="no frame between") as error:
        clips_of(FAST, pair_of(reel.path, start=1000))
    assert error.value.code == "too_short"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_seconds": 3, "max_seconds": 5}, "less than twice min_seconds"),
        ({"threshold": 1.5}, "probability"),
        ({"min_second": 1}, "Extra inputs"),
        ({"detector": "psychic"}, "transnetv2"),
        ({"crf": 60}, "less than or equal to 51"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Ingest(**settings)


def test_every_frame_of_a_reel_has_its_row(reel: Reel) -> None:
    clips = clips_of(FAST, pair_of(reel.path))
    assert frames_of(clips) == [(0, 89), (90, 119), (120, 239), (240, 539), (540, 689)]
    assert [clip.key for clip in clips] == [f"pair-{first:08d}" for first, _ in frames_of(clips)]
    kept = [clip for clip in clips if clip.drop is None]
    assert [clip.metrics["shot_seconds"] for clip in kept] == pytest.approx([3, 4, 10, 5])
    short = clips[1]
    assert short.drop is not None
    assert (short.drop.stage, short.drop.metric, short.drop.bound) == ("shots", "shot_seconds", (2.0, 10.0))
    assert short.drop.value == pytest.approx(1.0)
    assert not short.artifacts
    assert all(clip.span.bytes > 0 for clip in clips)


def test_clips_show_the_frames_that_their_spans_say(reel: Reel) -> None:
    recording = pictures_of(reel.path).astype(int)
    for clip in clips_of(FAST, pair_of(reel.path)):
        if clip.drop:
            continue
        artifacts.check("video", clip.artifacts["video"], clip)
        artifacts.check("source_pts", clip.artifacts["source_pts"], clip)
        pictures = pictures_of(clip.artifacts["video"])
        source = recording[clip.span.first_frame : clip.span.last_frame + 1]
        assert len(pictures) == clip.span.frames == len(source)
        assert np.abs(pictures - source).mean() < 4


def test_a_row_uses_its_part_of_the_recording_only(reel: Reel) -> None:
    clips = clips_of(FAST, pair_of(reel.path, start=4.5, end=10.5))
    assert frames_of(clips) == [(135, 239), (240, 314)]


def test_clips_come_while_the_recording_is_still_being_read(reel: Reel) -> None:
    items = list(FAST.clips(pair_of(reel.path)))
    first = items[0]
    assert first.clip is not None
    assert first.position_seconds < 6 < 22 < (first.duration_seconds or 0)
    positions = [item.position_seconds for item in items]
    assert positions == sorted(positions)
    assert max(after - before for before, after in itertools.pairwise(positions)) <= 6


def test_a_pass_can_be_left_at_any_item(reel: Reel) -> None:
    passing = Ingest(preset="ultrafast").clips(pair_of(reel.path))
    next(passing)
    passing.close()
    assert next(passing, None) is None


def test_two_passes_give_the_same_bytes(reel: Reel) -> None:
    first, second = ([clip.artifacts.get("video") for clip in clips_of(FAST, pair_of(reel.path))] for _ in range(2))
    assert any(first)
    assert first == second


def test_known_clips_come_without_artifacts_and_change_no_other(reel: Reel) -> None:
    whole = clips_of(FAST, pair_of(reel.path))
    known = {clip.key for clip in whole[1::2] if clip.artifacts}
    assert known
    again = [item.clip for item in FAST.clips(pair_of(reel.path), known=known) if item.clip]
    assert [clip.key for clip in again] == [clip.key for clip in whole]
    for one, other in zip(whole, again, strict=True):
        assert other.key in known or other.artifacts.get("video") == one.artifacts.get("video"), one.key
        assert not (other.key in known and other.artifacts), one.key


def test_a_long_black_stretch_is_a_row_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "black.mp4"
    ffmpeg(
        "-f", "lavfi", "-t", "3", "-i", "testsrc2=size=160x120:rate=30", "-f", "lavfi", "-t", "4", "-i",
        "color=black:size=160x120:rate=30", "-filter_complex", "[0:v][1:v]concat=n=2", "-pix_fmt", "yuv420p", path,
    )  # fmt: skip
    kept, black = clips_of(FAST, pair_of(path))
    assert kept.drop is None
    assert black.drop is not None
    assert black.drop.metric == "transition_seconds"
    assert black.drop.value == pytest.approx(4, abs=0.2)


def test_memory_stays_flat_however_long_the_recording(tmp_path: Path) -> None:
    reel = pattern_reel(tmp_path / "long.mp4", seconds=(180,), size="320x180", rate=10)
    settings = FAST.model_copy(update={"min_seconds": 0.5, "max_seconds": 2.0})
    resident = []
    for item in settings.clips(pair_of(reel.path)):
        statm = Path("/proc/self/statm")
        if not statm.exists():
            pytest.skip("reads memory use from /proc")
        resident.append((item.position_seconds, int(statm.read_text().split()[1]) * 4096 / 1e6))
    early = max(used for position, used in resident if position < 60)
    late = max(used for position, used in resident if position > 120)
    assert late - early < 30  # 1200 frames of 320x180 would be 104 MB


def test_fingerprint_follows_what_changes_clips() -> None:
    base = Ingest().fingerprint()
    assert Ingest(threads=2, device="cuda").fingerprint() == base
    changed = [Ingest(crf=20), Ingest(detector="pyscenedetect"), Ingest(threshold=0.6), Ingest(trim=False)]
    assert len({base, *(ingest.fingerprint() for ingest in changed)}) == 5


def test_cuts_dissolves_and_fades_of_a_real_reel(tmp_path: Path) -> None:
    sources = (shared(f"clips/{name}.mp4") for name in ("dance_man", "open_hand", "dance_woman"))
    reel = real_reel(*sources, target=tmp_path / "reel.mp4")
    clips = clips_of(Ingest(preset="ultrafast"), pair_of(reel.path))
    found = frames_of([clip for clip in clips if clip.drop is None])
    assert len(found) == len(reel.shots)
    assert [clip.drop.metric for clip in clips if clip.drop] == ["transition_seconds"]  # the fade lasts longer than 1 s
    assert abs(found[0][1] - 119) <= 1
    assert abs(found[1][0] - 120) <= 1
    for (first, last), (start, end) in zip(found, reel.shots, strict=True):
        assert start <= first <= start + 4
        assert end - 4 <= last <= end


def test_cut_of_a_real_recording() -> None:
    try:
        path = weights.path("face_noface")
    except WeightsError as error:
        pytest.skip(f"{error}")
    (first, first_end), (second, second_end) = frames_of(clips_of(Ingest(preset="ultrafast"), pair_of(path)))
    assert (first, second_end) == (0, 168)
    assert abs(first_end - 71) <= 1
    assert abs(second - 72) <= 1


def test_clips_are_no_larger_and_no_faster_than_asked(tmp_path: Path) -> None:
    reel = pattern_reel(tmp_path / "large.mp4", seconds=(3,), size="480x270", rate=50)
    (clip,) = clips_of(FAST.model_copy(update={"max_short_side": 96, "max_fps": 30}), pair_of(reel.path))
    assert min(clip.span.width, clip.span.height) == 96
    assert clip.span.fps == FPS - 5
    assert clip.span.frames == 75
