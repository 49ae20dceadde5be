"""Labels against contact evidence: what agrees, what does not, and what is listed for review."""

from __future__ import annotations

import numpy as np
import pytest

from annotators.agreement import Agreement, Finding, for_review
from annotators.smoothing import as_labels
from schemas.annotation import DEFAULT_CATEGORIES, ActionCaption, Annotation, Doubt
from schemas.clip import Clip
from schemas.conditions import LEFT, Contact
from tests.annotators.scenes import record

FRAMES = 100
COLLAR, HEM = "adjusting the collar", "adjusting the hem"
OTHER = DEFAULT_CATEGORIES[-1]


def labelled(
    *segments: tuple[int, int],
    contact: list[tuple[int, int]],
    category: str = OTHER,
    place: tuple[float, float] = (0.5, 0.1),
    unlabelled: tuple[tuple[int, int], ...] = (),
    doubts: tuple[Doubt, ...] = (),
    strength: float = 1.0,
) -> Clip:
    """A clip with labels on `segments`, and contact of the left hand, at this place of the garment, on others."""
    actions = tuple(
        ActionCaption(category=category, caption="touches it", start_frame=start, end_frame=end)
        for start, end in segments
    )
    probability, places = np.zeros((FRAMES, 2), np.float32), np.zeros((FRAMES, 2, 2), np.float32)
    for start, end in contact:
        probability[start : end + 1, LEFT], places[start : end + 1, LEFT] = strength, place
    annotation = Annotation(
        global_caption="A person stands.",
        actions=actions,
        probabilities=(0.0,) * FRAMES,
        labels=as_labels(list(segments), FRAMES),
        labeller="test",
        unlabelled=unlabelled,
        doubts=doubts,
    )
    return record({"annotation": annotation, "contact": Contact(probability, places)}, frames=FRAMES)


def agreement(clip: Clip) -> float:
    return Agreement().measure(clip)["label_agreement"]


def test_labels_that_contact_bears_out_score_one() -> None:
    assert agreement(labelled((20, 40), (60, 80), contact=[(20, 40), (60, 80)])) == 1


def test_labels_that_contact_contradicts_score_low() -> None:
    assert agreement(labelled((40, 60), contact=[(0, 39), (61, 99)])) == pytest.approx(0, abs=0.01)


def test_where_contact_tells_nothing_the_score_is_half() -> None:
    assert agreement(labelled((40, 60), contact=[])) == 0.5
    assert agreement(labelled((40, 60), contact=[(0, 99)])) == 0.5


def test_the_score_falls_with_every_frame_that_is_off() -> None:
    scores = [agreement(labelled((40, 60), contact=[(40 - shift, 60 - shift)])) for shift in range(0, 20, 4)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


def test_contact_without_a_label_counts_as_disagreement() -> None:
    clip = labelled((10, 30), contact=[(10, 30), (60, 80)])
    [label, missed] = Agreement().compare(clip)
    assert (label.score, missed.score) == (1, 0)
    assert (missed.start_frame, missed.end_frame, missed.category) == (60, 80, "")
    assert "no label" in missed.why
    assert "left hand" in missed.why
    assert agreement(clip) == 0.5


def test_contact_on_frames_that_are_known_to_lack_a_label_is_no_surprise() -> None:
    doubt = Doubt(start_frame=60, end_frame=80, why="none of these")
    assert agreement(labelled((10, 30), contact=[(10, 30), (60, 80)], unlabelled=((55, 62),))) == 1
    assert agreement(labelled((10, 30), contact=[(10, 30), (60, 80)], doubts=(doubt,))) == 1


def test_a_hand_elsewhere_than_the_category_says_halves_the_score() -> None:
    at_the_top = {"contact": [(20, 40)], "place": (0.5, 0.1)}
    assert agreement(labelled((20, 40), category=COLLAR, **at_the_top)) == 1  # type: ignore[arg-type]
    clip = labelled((20, 40), category=HEM, **at_the_top)  # type: ignore[arg-type]
    [finding] = Agreement().compare(clip)
    assert finding.score == 0.5
    assert "10% down the garment" in finding.why
    assert agreement(labelled((20, 40), category="of the user's own", **at_the_top)) == 1  # type: ignore[arg-type]


def test_faint_contact_tells_of_no_place() -> None:
    clip = labelled((20, 40), category=HEM, contact=[(20, 40)], strength=0.2)
    assert agreement(clip) == pytest.approx(0.6)


def test_nothing_to_compare_is_not_measured() -> None:
    assert Agreement().measure(labelled(contact=[])) == {"unlabelled_share": 0}


def test_share_without_a_label() -> None:
    assert Agreement().measure(labelled(contact=[], unlabelled=((0, 9), (50, 59))))["unlabelled_share"] == 0.2
    drop = Agreement().decide({"unlabelled_share": 0.6})
    assert drop
    assert drop.metric == "unlabelled_share"
    assert Agreement().decide({"unlabelled_share": 0.5, "label_agreement": 0.0}) is None


def test_for_review_are_doubts_bare_stretches_and_all_scores() -> None:
    doubt = Doubt(category=HEM, caption="pulls it", start_frame=60, end_frame=80, why="none of these")
    clip = labelled((10, 30), contact=[], unlabelled=((40, 45), (60, 80)), doubts=(doubt,))
    assert for_review(clip) == [
        Finding(60, 80, HEM, "pulls it", None, "none of these"),
        Finding(40, 45, "", "", None, "no label"),
        Finding(10, 30, OTHER, "touches it", 0.5, "contact 0.00 within, 0.00 around"),
    ]
    del clip.artifacts["contact"]
    assert len(for_review(clip)) == 2


# ---- the record


def annotation(**changes: object) -> Annotation:
    values = {
        "global_caption": "", "actions": (), "probabilities": (0.0,) * 10, "labels": (False,) * 10, "labeller": "x",
    }  # fmt: skip
    return Annotation.model_validate(values | changes)


def test_annotations_of_before_have_neither_doubts_nor_bare_frames() -> None:
    old = annotation().model_dump_json(exclude={"unlabelled", "doubts"})
    assert Annotation.model_validate_json(old) == annotation()


@pytest.mark.parametrize("runs", [((3, 2),), ((0, 10),), ((4, 5), (5, 6)), ((-1, 2),)])
def test_unlabelled_runs_are_in_order_and_within_the_clip(runs: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="unlabelled"):
        annotation(unlabelled=runs)


def test_no_frame_is_labelled_and_unlabelled() -> None:
    action = ActionCaption(category=HEM, caption="x", start_frame=2, end_frame=4)
    with pytest.raises(ValueError, match="on an action"):
        annotation(actions=(action,), labels=as_labels([(2, 4)], 10), unlabelled=((4, 6),))
