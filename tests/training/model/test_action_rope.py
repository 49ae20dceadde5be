"""Positions, rotations and the hard mask against values worked out by hand.

One sample of 7 latent frames after the reference: nothing for 2, an action for 3, nothing for 1, an action for 1, so
segments 0 0 1 1 1 2 3. Text: 2 tokens of the global caption, 2 of segment 1, 1 of segment 3, 1 of padding.
"""

from __future__ import annotations

import math

import pytest
import torch

from training.model import action_rope
from training.model.inputs import Captions, Segments

SEGMENTS = Segments(
    frames=torch.tensor([[-1, 0, 0, 1, 1, 1, 2, 3]]),
    interactive=torch.tensor([[False, True, False, True]]),
    bounds=torch.tensor([[[0.0, 2.0], [2.0, 5.0], [5.0, 6.0], [6.0, 7.0]]]),
)
CAPTIONS = Captions(
    tokens=torch.zeros(1, 6, 4),
    mask=torch.tensor([[True, True, True, True, True, False]]),
    segments=torch.tensor([[-1, -1, 1, 1, 3, 3]]),  # whatever padding is said to belong to
)
STILL = Segments(
    frames=torch.tensor([[-1, 0, 0]]), interactive=torch.tensor([[False]]), bounds=torch.tensor([[[0.0, 2.0]]])
)
GLOBAL_ONLY = Captions(
    tokens=torch.zeros(1, 2, 4), mask=torch.ones(1, 2, dtype=torch.bool), segments=torch.tensor([[-1, -1]])
)


def test_a_rope_puts_all_frames_but_only_the_captions_of_actions_at_i_times_k():
    positions = action_rope.a_rope(SEGMENTS, CAPTIONS, spacing=4.0)

    assert positions.queries.tolist() == [[0, 0, 0, 4, 4, 4, 8, 12]]
    assert positions.keys.tolist() == [[0, 0, 4, 4, 12, 0]]


def test_a_caption_of_a_segment_without_action_has_no_position():
    captions = Captions(tokens=CAPTIONS.tokens, mask=CAPTIONS.mask, segments=torch.tensor([[-1, 2, 2, 1, 3, 0]]))

    assert action_rope.a_rope(SEGMENTS, captions, spacing=4.0).keys.tolist() == [[0, 0, 0, 4, 12, 0]]
    assert action_rope.rerope(SEGMENTS, captions, length=8.0).keys.tolist() == [[0, 0, 0, 12, 28, 0]]


def test_rerope_makes_every_segment_as_long_and_puts_its_caption_in_the_middle():
    positions = action_rope.rerope(SEGMENTS, CAPTIONS, length=8.0)

    # Segment 0 of 2 frames: 8·0.5/2 and 8·1.5/2. Segment 1 of 3: 8 + 8·0.5/3 …. Segments 2 and 3 of 1: their middles.
    expected = [0, 2, 6, 8 + 4 / 3, 12, 8 + 20 / 3, 20, 28]
    torch.testing.assert_close(positions.queries, torch.tensor([expected]))
    assert positions.keys.tolist() == [[0, 0, 12, 12, 28, 0]]


def test_rerope_gives_frames_at_a_boundary_the_same_distance_to_both_sides():
    queries = action_rope.rerope(SEGMENTS, CAPTIONS, length=8.0).queries[0]
    before, after = queries[6], queries[7]  # of segments of one frame each, 2 and 3
    middle = (before + after) / 2

    assert middle - before == after - middle == 4.0


@pytest.mark.parametrize("scheme", ["a_rope", "rerope"])
def test_without_actions_nothing_has_a_position(scheme: str):
    positions = (
        action_rope.a_rope(STILL, GLOBAL_ONLY, spacing=4.0)
        if scheme == "a_rope"
        else action_rope.rerope(STILL, GLOBAL_ONLY, length=8.0)
    )

    assert not positions.queries.any()
    assert not positions.keys.any()


def test_rotation_turns_pairs_of_channels_by_the_angles_of_their_frequencies():
    # Width 4 and theta 100: pair 0 turns by p, pair 1 by p·100^(-2/4) = p/10.
    x = torch.tensor([[[[1.0, 0.0, 0.0, 2.0]]]])
    turned = action_rope.rotate(x, action_rope.rotation(torch.tensor([[3.0]]), width=4, theta=100.0))

    by_hand = [math.cos(3), math.sin(3), -2 * math.sin(0.3), 2 * math.cos(0.3)]
    torch.testing.assert_close(turned.flatten(), torch.tensor(by_hand))


def test_position_0_changes_no_bit():
    x = torch.randn(2, 6, 3, 8)
    turned = action_rope.rotate(x, action_rope.rotation(torch.zeros(2, 3), width=8, theta=10_000.0))

    assert torch.equal(turned, x)


def test_all_tokens_of_a_frame_turn_alike_and_heads_too():
    x = torch.randn(1, 1, 1, 8).expand(1, 6, 3, 8)
    turned = action_rope.rotate(x, action_rope.rotation(torch.tensor([[0.0, 5.0]]), width=8, theta=10_000.0))

    assert torch.equal(turned[:, :3], x[:, :3])
    assert torch.equal(turned[:, 3:], turned[:, 3:4, :1].expand(1, 3, 3, 8))
    assert not torch.allclose(turned[:, 3], x[:, 3])


def test_a_score_depends_on_the_difference_of_segments_alone():
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 16)
    scores = torch.zeros(6, 6)
    for i in range(6):
        for j in range(6):
            turned = [
                action_rope.rotate(x, action_rope.rotation(torch.tensor([[4.0 * n]]), width=16, theta=10_000.0))
                for x, n in ((query, i), (key, j))
            ]
            scores[i, j] = (turned[0] * turned[1]).sum()

    unturned = (query * key).sum()
    torch.testing.assert_close(scores.diagonal(), unturned.expand(6))
    for difference in range(1, 5):
        along = scores.diagonal(difference)
        torch.testing.assert_close(along, along[:1].expand_as(along))
        assert abs(along[0] - unturned) > 1e-3


def test_k_4_at_the_width_of_wan_is_a_soft_bias():
    # Mean cosine of all 64 pairs at a distance of one segment and of two, as `papers.md` has measured them.
    for segments, expected in ((1, 0.76), (2, 0.71)):
        cosines = action_rope.rotation(torch.tensor([[4.0 * segments]]), width=128, theta=10_000.0).cos
        assert float(cosines.mean()) == pytest.approx(expected, abs=0.01)


def test_hard_mask_shows_frames_their_own_caption_and_the_global_one():
    captions = Captions(tokens=CAPTIONS.tokens, mask=CAPTIONS.mask, segments=torch.tensor([[-1, -1, 1, 1, 3, -1]]))
    visible = action_rope.visible(SEGMENTS, captions)[0]

    rows = {-1: [1, 1, 0, 0, 0, 1], 0: [1, 1, 0, 0, 0, 1], 1: [1, 1, 1, 1, 0, 1], 2: [1, 1, 0, 0, 0, 1]}
    rows[3] = [1, 1, 0, 0, 1, 1]
    assert visible.int().tolist() == [rows[number] for number in SEGMENTS.frames[0].tolist()]
