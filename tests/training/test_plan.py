"""The order of training: every sample once an epoch, the same for any number of ranks, resumed where it stood."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from schemas.errors import ConfigError
from training.plan import BatchPlan, Bucket, Draw

BUCKETS = [Bucket(81, 768, 576), Bucket(81, 576, 768), Bucket(49, 768, 576)]
BUCKET_OF = np.array([0, 1, 0, 2, -1, 0, 1, 0, 0, 1, 0, 0, 0])
KEPT = set(range(13)) - {4}


def plan(**options) -> BatchPlan:
    return BatchPlan(BUCKETS, BUCKET_OF, **{"batch": 2, "seed": 3, **options})


def rows(batches: list[list[Draw]]) -> list[int]:
    return [draw.row for batch in batches for draw in batch if not draw.repeated]


@pytest.mark.parametrize(("batch", "world_size"), [(1, 1), (2, 1), (1, 3), (4, 2), (16, 1)])
def test_every_sample_comes_once_an_epoch(batch, world_size):
    plans = [plan(batch=batch, rank=rank, world_size=world_size) for rank in range(world_size)]
    epochs = [list(each) for each in plans]

    assert [len(each) for each in epochs] == [len(each) for each in plans]
    assert len({len(each) for each in epochs}) == 1
    assert Counter(itertools.chain(*map(rows, epochs))) == Counter(KEPT)
    for step in zip(*epochs, strict=True):
        assert len({draw.bucket for one in step for draw in one}) == 1
        assert all(len(one) == batch for one in step)
    for draw in itertools.chain(*itertools.chain(*epochs)):
        assert draw.bucket == BUCKETS[BUCKET_OF[draw.row]]


def test_two_ranks_see_what_one_sees_with_the_doubled_batch():
    one, ranks = plan(batch=4), [plan(rank=rank, world_size=2) for rank in range(2)]

    for whole, *halves in zip(one, *ranks, strict=True):
        assert whole == halves[0] + halves[1]


def test_repeats_fill_the_last_batch_of_a_bucket_and_are_told():
    draws = [draw for batch in plan(batch=5) for draw in batch]

    assert sum(draw.repeated for draw in draws) == 2 + 2 + 4
    assert len({draw.seed for draw in draws}) == len(draws)  # so that repeats are other windows


def test_the_order_follows_seed_and_epoch():
    first = list(plan())
    later = plan()
    later.load_state_dict({**later.state_dict(), "epoch": 1})

    assert list(plan()) == first
    assert list(plan(seed=4)) != first
    assert rows(list(later)) != rows(first)
    assert {draw.epoch for batch in later for draw in batch} == {1}


def test_without_shuffle_rows_come_in_order():
    assert rows(list(plan(shuffle=False))) == [0, 2, 5, 7, 8, 10, 11, 12, 1, 6, 9, 3]


def test_it_goes_on_where_it_stood():
    whole = plan()
    epochs = []
    for _ in range(2):
        epochs += list(whole)
        for _ in range(len(whole)):
            whole.advance()
    assert (whole.epoch, whole.step) == (2, 0)

    first = plan()
    for _ in range(len(first) + 3):
        first.advance()
    again = plan()
    again.load_state_dict(first.state_dict())

    assert (again.epoch, again.step) == (1, 3)
    assert list(again) == epochs[len(first) + 3 :]


def test_it_goes_on_over_other_numbers_of_ranks():
    first = plan(batch=4)
    first.advance()
    ranks = [plan(rank=rank, world_size=2) for rank in range(2)]
    for each in ranks:
        each.load_state_dict(first.state_dict())

    for whole, *halves in zip(first, *ranks, strict=True):
        assert whole == halves[0] + halves[1]


def test_reading_ahead_does_not_move_it():
    ahead = plan()
    next(iter(ahead))
    assert ahead.state_dict() == plan().state_dict()


@pytest.mark.parametrize("other", [{"seed": 4}, {"batch": 3}, {"world_size": 2}])
def test_a_position_in_another_order_is_refused(other):
    with pytest.raises(ConfigError, match="another order"):
        plan(**other).load_state_dict(plan().state_dict())


def test_a_rank_beyond_the_world_is_refused():
    with pytest.raises(ConfigError, match="rank"):
        plan(rank=2, world_size=2)
