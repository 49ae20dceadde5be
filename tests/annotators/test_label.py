"""From contact to annotation, and the filter on it."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from annotators.contact import ContactEvidence
from annotators.interaction import InteractionShare
from annotators.label import ContactLabels
from schemas.annotation import Annotation
from schemas.artifacts import artifact, check
from schemas.clip import Clip
from schemas.conditions import LEFT
from tests.annotators.scenes import AT_CHEST, RESTING, nobody, scene

REACH = [RESTING[LEFT]] * 10 + [AT_CHEST] * 20 + [RESTING[LEFT]] * 10


def annotated(clip: Clip, labels: ContactLabels | None = None) -> Annotation:
    ContactEvidence().process(clip)
    (labels or ContactLabels()).process(clip)
    check("annotation", clip.artifacts["annotation"], clip)
    return clip.artifacts["annotation"]


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_nobody_and_tiny_clips_get_an_empty_annotation(frames: int) -> None:
    found = annotated(nobody(frames))
    assert found.actions == ()
    assert found.labels == (False,) * frames


def test_a_touch_becomes_one_segment_about_when_the_hand_is_there() -> None:
    found = annotated(scene({LEFT: REACH}, frames=40))
    [action] = found.actions
    assert abs(action.start_frame - 10) <= 2
    assert abs(action.end_frame - 29) <= 2
    assert "left hand" in action.caption
    assert sum(found.labels) == action.end_frame - action.start_frame + 1
    assert found.labeller == "contact"


def test_annotation_survives_its_codec() -> None:
    found = annotated(scene({LEFT: REACH}, frames=40))
    codec = artifact("annotation")
    assert codec.decode(codec.encode(found)) == found


def test_category_that_is_not_on_the_list_becomes_the_fallback() -> None:
    labels = ContactLabels(categories=("collar", "something else"), fallback="something else")
    [action] = annotated(scene({LEFT: REACH}, frames=40), labels).actions
    assert action.category == "something else"
    with pytest.raises(ValidationError, match="not one of the categories"):
        ContactLabels(categories=("collar",))


def test_share_of_interaction_keeps_and_drops() -> None:
    busy, idle = scene({LEFT: REACH}, frames=40), scene(frames=40)
    kept = InteractionShare()
    for clip in (busy, idle):
        annotated(clip)
        kept.process(clip)
    assert busy.metrics["interactive_share"] == pytest.approx(np.mean(busy.artifacts["annotation"].labels))
    assert busy.metrics["interaction_count"] == 1
    assert kept.decide(busy.metrics) is None
    drop = kept.decide(idle.metrics)
    assert drop is not None
    assert drop.metric == "interactive_share"
    assert InteractionShare(bounds={"interactive_share": None}).decide(idle.metrics) is None
