"""SAM 2 and SAM 3 as trackers, tiny and with random weights: shapes, places, and transformers' own results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocess.garment_track import GarmentTrack
from preprocess.sam import SamTracker
from schemas import artifacts
from schemas.clip import Clip
from schemas.errors import WeightsError
from tests.preprocess import tiny_models as tiny
from tests.preprocess import worn
from tests.preprocess.test_garment_track import garment, iou, moving
from tests.preprocess.tiny_models import one_thread  # noqa: F401

torch = pytest.importorskip("torch")
WINDOW = (20, 10, 220, 310)
MAKERS = [tiny.sam2, tiny.sam3]


def marked() -> np.ndarray:
    mask = np.zeros((300, 200), bool)
    mask[40:200, 30:110] = True
    return mask


def follow(model: str, prompts: dict[int, np.ndarray], *, batch: int = 4, clip: Clip | None = None) -> np.ndarray:
    tracker = SamTracker.load(model, device="cpu", precision="auto", batch=batch)
    clip = clip or moving(7)
    x0, y0, x1, y1 = WINDOW
    return tracker.watch(clip, WINDOW, np.zeros((clip.span.frames, y1 - y0, x1 - x0), bool)).track(prompts)


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_marked_is_found_where_it_was_marked(make: Callable[[Path], str], tmp_path: Path) -> None:
    later = np.roll(marked(), 60, axis=0)
    found = follow(make(tmp_path), {2: marked(), 5: later})
    assert found.shape == (7, 300, 200)
    assert iou(found[2], marked()) > 0.9
    assert iou(found[5], later) > 0.9


@pytest.mark.parametrize("make", MAKERS)
def test_as_transformers_itself_follows(make: Callable[[Path], str], tmp_path: Path) -> None:
    """Its own loop over pictures that it encodes one by one."""
    import transformers
    from torch.nn.functional import interpolate

    from media import frames

    folder, clip, prompts = make(tmp_path), moving(7), {3: marked(), 5: np.roll(marked(), 30, axis=1)}
    tracker = SamTracker.load(folder, device="cpu", precision="float32", batch=3)
    side, model = tracker.model.config.image_size, tracker.model
    x0, y0, x1, y1 = WINDOW
    images = torch.tensor(frames(clip).images[:, y0:y1, x0:x1])
    kind = getattr(transformers, type(model).__name__.replace("Model", "InferenceSession"))
    session = kind(
        video=tracker.prepare.ready(images, (side, side)), video_height=300, video_width=200, dtype=torch.float32
    )
    for frame, mask in prompts.items():
        square = interpolate(torch.from_numpy(mask)[None, None].float(), (side, side), mode="bilinear", antialias=True)
        session.add_mask_inputs(session.obj_id_to_idx(1), frame, (square >= 0.5).float())
        session.obj_with_new_inputs = [1]
        model(inference_session=session, frame_idx=frame)
    wanted = np.zeros((7, 300, 200), bool)
    for reverse in (False, True):
        for seen in model.propagate_in_video_iterator(session, start_frame_idx=3, reverse=reverse):
            logits = interpolate(seen.pred_masks.float(), (300, 200), mode="bilinear")
            wanted[seen.frame_idx] = logits[0, 0].numpy() > 0
    found = follow(folder, prompts, batch=3, clip=clip)
    assert {0, 1, 2, 4, 6} & {frame for frame in range(7) if wanted[frame].any()}
    assert np.mean(found == wanted) > 0.99


def test_sam3_as_published_is_the_same_tracker(tmp_path: Path) -> None:
    alone = follow(tiny.sam3(tmp_path / "alone"), {0: marked()})
    assert np.array_equal(alone, follow(tiny.sam3_as_published(tmp_path / "published"), {0: marked()}))


def test_what_follows_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"segformer, which follows nothing.*sam2_video"):
        GarmentTrack(model=tiny.segformer(tmp_path)).setup()
    with pytest.raises(WeightsError, match=r"nowhere/sam2"):
        GarmentTrack(model="nowhere/sam2").setup()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_stage_runs_with_sam(tmp_path: Path, precision: str) -> None:
    clip = moving(6)
    stage = GarmentTrack(model=tiny.sam2(tmp_path), precision=precision, device="cpu", patience=0.05)
    stage.setup()
    stage.process(clip)
    artifacts.check("garment_track", clip.artifacts["garment_track"], clip)
    overlap = [iou(*masks) for masks in zip(clip.artifacts["garment_track"], garment(clip), strict=True)]
    assert sum(one > 0.9 for one in overlap) > 1  # where it was marked, and it was marked anew


def test_one_frame(tmp_path: Path) -> None:
    clip = moving(1)
    stage = GarmentTrack(model=tiny.sam2(tmp_path), device="cpu")
    stage.setup()
    stage.process(clip)
    assert iou(clip.artifacts["garment_track"][0], garment(clip)[0]) > 0.9
    assert clip.artifacts["garment_track"].shape[1:] == worn.DRAWN
