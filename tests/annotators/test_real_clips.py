"""Labels on real clips against what eyes saw (clips.json)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotators.contact import ContactEvidence
from annotators.label import ContactLabels
from media import frames
from preprocess.mediapipe_body import MediaPipeBody
from preprocess.parsing import SelfieParsing
from schemas.annotation import Annotation
from schemas.clip import Clip
from tests.clips import clip_from, shared, truth
from tests.curation.degrade import from_pictures
from tests.preprocess.worn import need_models, prepared


def labelled(clip: Clip) -> Annotation:
    for stage in (ContactEvidence(), ContactLabels()):
        stage.process(clip)
    return clip.artifacts["annotation"]


def cut(name: str, part: str, wanted: range, target: Path, *, shrink: int = 1) -> Clip:
    """Frames of a shared clip, made smaller and encoded again at the clip's own rate, with all conditions."""
    need_models()
    whole = clip_from(shared(f"clips/{name}"))
    images = frames(whole).images[wanted.start : wanted.stop]
    clip = from_pictures(images[:, ::shrink, ::shrink], target, fps=round(whole.span.fps))
    clip.pair = clip.pair.model_copy(update={"part": part})
    for stage in (MediaPipeBody(), SelfieParsing()):
        stage.process(clip)
    return clip


def test_hand_that_goes_into_the_pocket() -> None:
    annotation = labelled(prepared("lower1"))
    seen = truth()["clips"]["vivid/videos/lower1.mp4"]
    labels = np.array(annotation.labels)
    right = [labels[start : end + 1] == (kind == "touch") for kind in ("touch", "apart") for start, end in seen[kind]]
    assert np.concatenate(right).mean() >= 0.9
    [action] = annotation.actions
    assert action.category == "hand in or at a pocket or waistband"
    assert "left hand" in action.caption


def test_person_who_turns_without_touching_anything() -> None:
    annotation = labelled(prepared("upper1"))
    assert annotation.actions == ()
    assert annotation.global_caption == "A person stands and turns from the side to the front."


@pytest.mark.slow
def test_hands_that_cross_the_shirt_while_dancing(tmp_path: Path) -> None:
    assert labelled(cut("dance_man.mp4", "upper", range(262, 302), tmp_path / "man.mp4")).actions == ()


@pytest.mark.slow
def test_hand_that_comes_to_rest_on_the_skirt(tmp_path: Path) -> None:
    annotation = labelled(cut("dance_woman.mp4", "lower", range(66, 110), tmp_path / "woman.mp4", shrink=2))
    labels = np.array(annotation.labels)
    assert not labels[:7].any()  # frames 66 to 72: apart
    assert labels[95 - 66 :].all()
    assert len(annotation.actions) == 1
