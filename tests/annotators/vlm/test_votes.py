"""From answers to frames: votes joined, carried over by time, and the truth to the frame with a perfect labeller."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from annotators.smoothing import Smoothing, segments, smooth
from annotators.vlm.answers import FrameLabels, read_frames
from annotators.vlm.backend import Picture, Reply, Request
from annotators.vlm.questions import label_requests
from annotators.vlm.votes import FrameEvidence, edge_distance, join, upsample
from annotators.vlm.windows import Plan, Sampling, Window, plan
from schemas.manifest import Part
from tests.annotators.vlm.pictures import RATES, noise, times_of

NAN = float("nan")


def plan_of(*runs: range) -> Plan:
    """A plan of these windows over as many pictures as they span."""
    count = max(run.stop for run in runs)
    pictures = tuple(Picture(np.zeros((1, 1, 3), np.uint8), float(index)) for index in range(count))
    index = np.arange(count)
    return Plan(index, index.astype(float), index, pictures, tuple(Window((run,)) for run in runs))


def carried(
    probabilities: Sequence[float], *, times: Sequence[float], longest: float = 0.0, **more: float
) -> FrameEvidence:
    """`upsample` of labels a second apart."""
    labelled = np.arange(len(probabilities))
    return upsample(times, labelled=labelled, probabilities=probabilities, longest_unknown=longest, **more)


# ---- votes


def test_where_windows_overlap_the_one_that_sees_more_around_weighs_more() -> None:
    votes = join(plan_of(range(4), range(2, 6)), [[1, 1, 1, 1], [0, 0, 0, 0]])
    assert edge_distance(4).tolist() == [1, 2, 2, 1]
    assert votes.tolist() == pytest.approx([1, 1, 2 / 3, 1 / 3, 0, 0])


def test_windows_of_one_mind_leave_no_doubt() -> None:
    votes = join(plan_of(range(5), range(3, 8)), [[1] * 5, [1] * 5])
    assert votes.tolist() == [1.0] * 8


def test_an_unlabelled_window_leaves_its_frames_to_others_or_unknown() -> None:
    votes = join(plan_of(range(4), range(2, 6), range(4, 8)), [[1] * 4, None, None])
    assert votes[:4].tolist() == [1, 1, 1, 1]
    assert np.isnan(votes[4:]).all()
    assert np.isnan(join(plan_of(range(3)), [None])).all()


def test_an_answer_holds_for_every_place_with_the_same_pictures() -> None:
    made = plan_of(range(2), range(2, 4))
    once = Plan(made.frames, made.times, made.picture, made.pictures, (Window((range(2), range(2, 4))),))
    assert join(once, [[0.25, 0.75]]).tolist() == [0.25, 0.75, 0.25, 0.75]


def test_frames_that_repeat_one_have_its_label() -> None:
    made = plan_of(range(3))
    still = Plan(np.arange(5), np.arange(5.0), np.array([0, 0, 1, 2, 2]), made.pictures, made.windows)
    assert join(still, [[0.1, 0.2, 0.3]]).tolist() == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.3])


@pytest.mark.parametrize("answers", [[], [[1, 1]], [[1, 1, 1], [1, 1, 1]]])
def test_answers_have_to_match_the_windows(answers: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="probabilities for a window|shorter|longer"):
        join(plan_of(range(3)), answers)


# ---- over to all frames


def test_between_labels_of_one_kind_the_probability_is_linear_in_time() -> None:
    found = carried([0.6, 1.0, 0.8], times=[0.0, 0.25, 1.0, 1.9])
    assert found.probability.tolist() == pytest.approx([0.6, 0.7, 1.0, 0.82])
    assert found.known.all()


def test_between_labels_of_different_kinds_the_change_is_halfway_and_sudden() -> None:
    found = carried([0.1, 0.6, 0.0], times=[0.49, 0.5, 0.9, 1.49, 1.5])
    assert found.probability.tolist() == [0.1, 0.6, 0.6, 0.6, 0.0]


def test_the_change_is_where_it_is_told_to_be() -> None:
    assert carried([0, 1], times=[0.79, 0.8], turn=0.8).probability.tolist() == [0, 1]


def test_the_first_and_last_label_hold_to_the_ends() -> None:
    assert carried([0.75, 1.0], times=[-0.5, -0.1, 1.0, 1.4], longest=0.0).known.all()
    assert carried([0.75, 1.0], times=[-0.5, -0.1, 1.0, 1.4]).probability.tolist() == [0.75, 0.75, 1, 1]


def test_a_short_gap_is_bridged_as_if_nothing_had_been_asked() -> None:
    found = carried([1, NAN, 1], times=[0, 0.5, 1, 1.5, 2], longest=2)
    assert found.probability.tolist() == [1] * 5
    assert found.unknown_share == 0
    assert carried([1, NAN, 0], times=[0, 0.9, 1.1, 2], longest=2).probability.tolist() == [1, 1, 0, 0]


def test_a_long_gap_is_unknown_never_interactive_and_counted() -> None:
    found = carried([1, NAN, NAN, 1], times=[0, 0.4, 0.6, 1, 1.5, 2.4, 2.6, 3], longest=2.9)
    assert found.known.tolist() == [True, True, False, False, False, False, True, True]
    assert found.probability.tolist() == [1, 1, 0, 0, 0, 0, 1, 1]
    assert found.unknown_share == 0.5


def test_beside_a_long_gap_a_label_holds_for_the_frames_nearest_to_it() -> None:
    found = carried([1, NAN, NAN, 0.6], times=[0, 0.4, 2.6, 3], longest=1)
    assert found.probability.tolist() == [1, 1, 0.6, 0.6]


def test_gaps_at_the_ends_count_from_the_end() -> None:
    times = [0, 1, 2, 3]
    assert carried([NAN, NAN, 1, 1], times=times, longest=1.9).known.tolist() == [False, False, True, True]
    assert carried([NAN, NAN, 1, 1], times=times, longest=2).probability.tolist() == [1, 1, 1, 1]
    assert carried([0, 1, NAN, NAN], times=times, longest=1).known.tolist() == [True, True, False, False]
    assert carried([0, 1, NAN, NAN], times=times, longest=2).probability.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("labels", [[NAN], [NAN] * 4, []])
def test_where_nothing_is_labelled_nothing_is_known(labels: list[float]) -> None:
    found = carried(labels, times=[0.0, 1.0], longest=100)
    assert found.unknown_share == 1
    assert found.probability.tolist() == [0, 0]


def test_a_clip_of_one_frame() -> None:
    found = carried([0.9], times=[0.0])
    assert (found.probability.tolist(), found.known.tolist()) == ([0.9], [True])


# ---- a perfect labeller


def replies(requests: Sequence[Request], truth: Callable[[float], bool]) -> list[FrameLabels]:
    """Right answers to `requests`, as a model writes them."""
    read = []
    for request in requests:
        labels = {str(number): truth(picture.seconds) for number, picture in enumerate(request.pictures, 1)}
        said = json.dumps({"id": request.schema["properties"]["id"]["const"], "interactive": labels})
        labelled = read_frames(request, Reply(key=request.key, text=said))
        assert isinstance(labelled, FrameLabels)
        read.append(labelled)
    return read


def found_segments(
    images: np.ndarray, times: np.ndarray, truth: np.ndarray, sampling: Sampling
) -> list[tuple[int, int]]:
    """Segments that come of asking a labeller who knows the truth of each frame, (T,) bool."""
    made = plan(images, times, sampling)
    requests = label_requests("clip-00000000", made, part=Part.UPPER)
    answers = replies(requests, lambda seconds: bool(truth[np.abs(times - seconds).argmin()]))
    votes = join(made, [answer.probabilities for answer in answers])
    found = upsample(times, labelled=made.times, probabilities=votes, longest_unknown=0.5)
    assert found.known.all()
    return smooth(found.probability, fps=(len(times) - 1) / times[-1], smoothing=Smoothing())


def some_truth(frames: int, fps: float, *, seed: int) -> np.ndarray:
    """(T,) bool: true for 0.8 to 2 s, false for 0.8 to 2 s, in turn."""
    lengths = np.random.default_rng(seed).uniform(0.8, 2.0, 100)
    turns = np.searchsorted(np.cumsum(lengths), np.arange(frames) / fps, side="right")
    truth = (turns + seed) % 2 == 0
    truth[-int(0.8 * fps) :] = truth[-int(0.8 * fps)]  # nothing that ends as soon as it begins
    return truth


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("seed", range(4))
def test_with_a_label_for_every_frame_the_segments_are_the_truth(name: str, seed: int) -> None:
    frames, fps = 260 + 17 * seed, RATES[name]
    truth = some_truth(frames, float(fps), seed=seed)
    sampling = Sampling(rate=float(fps), window=16, stride=(3, 8, 11, 16)[seed])
    assert segments(truth)
    assert found_segments(noise(frames), times_of(frames, fps), truth, sampling) == segments(truth)


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("rate", [4.0, 6.0, 8.0, 12.5])
def test_with_fewer_labels_boundaries_are_off_by_half_a_step_at_most(name: str, rate: float) -> None:
    fps = RATES[name]
    worst = 0
    for seed in range(3):
        truth = some_truth(300, float(fps), seed=seed)
        found = found_segments(noise(300), times_of(300, fps), truth, Sampling(rate=rate))
        wanted = segments(truth)
        assert len(found) == len(wanted)
        worst = max(worst, int(np.abs(np.array(found) - np.array(wanted)).max()))
    assert worst <= np.ceil(float(fps) / rate) / 2  # frames; a step is a whole number of them


@pytest.mark.parametrize("rate", [5.0, 10.0])
def test_boundaries_at_labelling_times_are_exact(rate: float) -> None:
    """A frame at the turn has the later label, so a truth that changes halfway between labels is met."""
    step = int(30 / rate)
    truth = np.zeros(300, bool)
    truth[60 - step // 2 : 120 - step // 2] = True
    found = found_segments(noise(300), times_of(300, 30), truth, Sampling(rate=rate))
    assert found == segments(truth)


@pytest.mark.parametrize("seed", range(4))
def test_a_recording_of_varying_rate_has_the_truth_of_the_frames_shown(seed: int) -> None:
    """Its clip repeats some frames, which are then not asked about, and leaves out others."""
    random = np.random.default_rng(seed)
    fps = [*RATES.values()][seed]
    shown_at = np.cumsum(random.uniform(0.005, 0.12, 400))
    source_truth = some_truth(400, 400 / shown_at[-1], seed=seed)
    times = times_of(int(shown_at[-1] * fps), fps)
    source = np.searchsorted(shown_at, times, side="right").clip(0, 399)
    truth = source_truth[source]
    images = noise(400, size=(48, 36))[source]
    sampling = Sampling(rate=float(fps))
    assert len(plan(images, times, sampling).pictures) < len(times)
    assert found_segments(images, times, truth, sampling) == segments(truth)


def test_cost_of_an_unlabelled_window_is_its_own_frames_only() -> None:
    images, times = noise(64), times_of(64, 8)
    made = plan(images, times, Sampling(rate=8, window=16, stride=16))
    answers = [[1.0] * 16, None, [0.0] * 16, [1.0] * 16]
    found = upsample(times, labelled=made.times, probabilities=join(made, answers), longest_unknown=1.0)
    assert found.unknown_share == 0.25
    assert segments(found.probability > 0.5) == [(0, 15), (48, 63)]
