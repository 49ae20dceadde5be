"""Actions in pixel frames, as segments and masks of latent frames: against values worked out by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from schemas.annotation import ActionCaption
from schemas.errors import ConfigError
from training.segments import any_frame, latent_frames, latent_mask, segments


def action(start: int, end: int, caption: str = "a") -> ActionCaption:
    return ActionCaption(category="adjusting the hem", caption=caption, start_frame=start, end_frame=end)


@pytest.mark.parametrize(("frames", "latent"), [(1, 1), (5, 2), (9, 3), (49, 13), (81, 21)])
def test_latent_frames(frames: int, latent: int) -> None:
    assert latent_frames(frames) == latent


@pytest.mark.parametrize("frames", [-3, 0, 2, 4, 80])
def test_other_lengths_are_refused(frames: int) -> None:
    with pytest.raises(ConfigError, match="4n"):
        latent_frames(frames)
    with pytest.raises(ConfigError, match="4n"):
        segments([[]], frames=frames)


@pytest.mark.parametrize(
    ("interactive", "expected"),
    [
        ([], [0, 0, 0, 0]),
        ([0], [0, 1, 0, 0]),  # latent frame 0 is pixel frame 0, behind the reference
        ([1], [0, 0, 1, 0]),  # latent frame 1 is pixel frames 1 to 4
        ([4], [0, 0, 1, 0]),
        ([5], [0, 0, 0, 1]),  # latent frame 2 is pixel frames 5 to 8
        ([0, 8], [0, 1, 0, 1]),
        ([4, 5], [0, 0, 1, 1]),
        (range(9), [0, 1, 1, 1]),
    ],
)
def test_latent_mask(interactive: list[int], expected: list[float]) -> None:
    labels = torch.zeros(2, 9, dtype=torch.bool)
    labels[1, list(interactive)] = True
    mask = latent_mask(labels)
    assert mask.dtype == torch.float32
    assert mask.tolist() == [[0, 0, 0, 0], expected]


def test_latent_mask_of_one_frame() -> None:
    assert latent_mask(torch.tensor([[True], [False]])).tolist() == [[0, 1], [0, 0]]


def test_any_frame_of_pictures() -> None:
    marks = torch.zeros(1, 9, 2, 2, dtype=torch.bool)
    marks[0, 3, 0, 1] = marks[0, 6, 1, 0] = True
    assert any_frame(marks).int().tolist() == [[[[0, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 0]]]]


def test_a_gap_an_action_a_gap() -> None:
    timed, captions = segments([[action(5, 12, "pulls the hem")]], frames=17)
    assert timed.frames.tolist() == [[-1, 0, 0, 1, 1, 2]]
    assert timed.interactive.tolist() == [[False, True, False]]
    assert timed.bounds.tolist() == [[[0, 2], [2, 4], [4, 5]]]
    assert captions == [[(1, "pulls the hem")]]


def test_no_actions_are_one_segment() -> None:
    timed, captions = segments([[]], frames=9)
    assert timed.frames.tolist() == [[-1, 0, 0, 0]]
    assert timed.interactive.tolist() == [[False]]
    assert captions == [[]]


def test_one_frame() -> None:
    timed, captions = segments([[action(0, 0, "zips")], []], frames=1)
    assert timed.frames.tolist() == [[-1, 0], [-1, 0]]
    assert timed.interactive.tolist() == [[True], [False]]
    assert captions == [[(0, "zips")], []]


@pytest.mark.parametrize(
    ("actions", "frames", "captions"),
    [
        ([action(3, 3)], [0, 1, 2], [(1, "a")]),  # one frame of four: no other action touches it
        ([action(0, 8)], [0, 0, 0], [(0, "a")]),
        ([action(0, 0)], [0, 1, 1], [(0, "a")]),
        ([action(1, 2), action(3, 8, "b")], [0, 1, 2], [(1, "a"), (2, "b")]),  # two each: the earlier
        ([action(0, 1), action(2, 8, "b")], [0, 1, 1], [(0, "a"), (1, "b")]),  # three of four: the later
        ([action(1, 1), action(2, 8, "b")], [0, 1, 1], [(1, "b")]),  # all of the first is lost
        ([action(1, 2), action(3, 4, "b")], [0, 1, 2], [(1, "a")]),  # all of the second
        ([action(0, 4), action(5, 8, "b")], [0, 0, 1], [(0, "a"), (1, "b")]),  # no gap between them
        ([action(1, 1), action(4, 4, "b")], [0, 1, 2], [(1, "a")]),  # a gap that no latent frame shows
    ],
)
def test_to_whom_a_latent_frame_belongs(
    actions: list[ActionCaption], frames: list[int], captions: list[tuple[int, str]]
) -> None:
    timed, found = segments([actions], frames=9)
    assert timed.frames.tolist() == [[-1, *frames]]
    assert found == [captions]


def test_samples_of_a_batch_have_their_own_numbers() -> None:
    timed, captions = segments([[], [action(1, 4), action(9, 12, "b")]], frames=13)
    assert timed.frames.tolist() == [[-1, 0, 0, 0, 0], [-1, 0, 1, 2, 3]]
    assert timed.interactive.tolist() == [[False] * 4, [False, True, False, True]]
    assert timed.bounds[0].tolist() == [[0, 4], [0, 0], [0, 0], [0, 0]]
    assert captions == [[], [(1, "a"), (3, "b")]]


@pytest.mark.parametrize("actions", [[action(5, 9)], [action(3, 5), action(5, 6)], [action(5, 6), action(1, 2)]])
def test_actions_that_cannot_be(actions: list[ActionCaption]) -> None:
    with pytest.raises(ConfigError, match="on frames 5 to|on frames 1 to"):
        segments([actions], frames=9)


def test_against_counting_frame_by_frame() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        frames = 4 * int(random.integers(0, 8)) + 1
        cuts = sorted(random.choice(frames + 1, size=min(frames + 1, 8), replace=False).tolist())
        actions = [action(a, b - 1, f"{a}") for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
        covering = [
            next((n for n, a in enumerate(actions) if a.start_frame <= t <= a.end_frame), None) for t in range(frames)
        ]
        owners = []
        for j in range(1 + frames // 4):
            counts = Counter(n for n in covering[max(0, 4 * j - 3) : 4 * j + 1] if n is not None)
            owners.append(min(counts, key=lambda n: (-counts[n], n)) if counts else None)
        timed, captions = segments([actions], frames=frames)
        owned = dict.fromkeys(zip(timed.frames[0, 1:].tolist(), owners, strict=True))
        assert [number for number, _ in owned] == list(range(len(owned)))  # one owner a number, in order
        assert captions[0] == [(number, actions[n].caption) for number, n in owned if n is not None]
        assert timed.interactive[0, : len(owned)].tolist() == [n is not None for _, n in owned]
        for number, (first, end) in enumerate(timed.bounds[0, : len(owned)].tolist()):
            assert np.flatnonzero(timed.frames[0, 1:].numpy() == number).tolist() == list(range(int(first), int(end)))
