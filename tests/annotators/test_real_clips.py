"""Labels on real clips against what eyes saw (clips.json). Whole dances: tests/pipelines/test_real_clips.py."""

from __future__ import annotations

import numpy as np

from annotators.contact import ContactEvidence
from annotators.label import ContactLabels
from schemas.annotation import Annotation
from tests.clips import truth
from tests.preprocess.worn import prepared


def labelled(name: str) -> Annotation:
    clip = prepared(name)
    for stage in (ContactEvidence(), ContactLabels()):
        stage.process(clip)
    return clip.artifacts["annotation"]


def test_hand_that_goes_into_the_pocket() -> None:
    annotation = labelled("lower1")
    seen = truth()["clips"]["vivid/videos/lower1.mp4"]
    labels = np.array(annotation.labels)
    right = [labels[start : end + 1] == (kind == "touch") for kind in ("touch", "apart") for start, end in seen[kind]]
    assert np.concatenate(right).mean() >= 0.9
    [action] = annotation.actions
    assert action.category == "hand in or at a pocket or waistband"
    assert "left hand" in action.caption


def test_person_who_turns_without_touching_anything() -> None:
    annotation = labelled("upper1")
    assert annotation.actions == ()
    assert annotation.global_caption == "A person stands and turns from the side to the front."
