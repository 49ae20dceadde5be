"""Memory of batches between worker and trainer: used again, but never while somebody holds a tensor in it."""

from __future__ import annotations

import os
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import psutil
import pytest
import torch

from tests.training.build import artifacts
from tests.training.test_clips import epoch, same, settings, write
from training.clips import loader
from training.shared_memory import BufferPool, SharedBatch

TENSORS = 4
"""Of a batch that lie in buffers: video, mask, pose, hands."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty clips in pairs of one grey."""
    out = tmp_path_factory.mktemp("many")
    clips = [artifacts(frames=9, height=96, width=64, grey=grey) for grey in range(50, 250, 20)]
    write(out, {f"clip{n:02d}-00000000": values for n, values in enumerate(clips * 2)})
    return out


def buffers(process: psutil.Process) -> set[int]:
    """The buffers that `process` has open, by their inode."""
    found = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if "memfd:batch" in os.readlink(link):
                found.add(link.stat().st_ino)
    return found


def test_dropped_batches_give_their_memory_back(many):
    reading = loader(settings(many, workers=1, prefetch=2))
    before = set(psutil.Process().children())
    batches, used = 0, set()
    for _ in range(3):
        for _ in reading:
            (worker,) = set(psutil.Process().children()) - before
            used |= buffers(worker)
            batches += 1

    assert batches == 30
    assert TENSORS <= len(used) <= TENSORS * 6  # read ahead, being made, on their way, held here
    assert len(buffers(psutil.Process())) == TENSORS  # of the last batch


def test_batches_that_are_held_stay_as_they_are(many):
    reading = loader(settings(many, workers=1))
    held = [*reading, *reading]

    assert same(held[:10], epoch(many))
    assert len({batch["video"].data_ptr() for batch in held}) == len(held)


def test_one_sample_of_a_batch_holds_its_memory(many):
    reading = loader(settings(many, workers=1))
    videos = [batch["video"][1, 3:5] for batch in reading]
    for _ in reading:
        pass

    assert same(videos, [batch["video"][1, 3:5] for batch in epoch(many)])


def test_buffers_are_lent_once_sent_and_grow_as_they_must():
    pool = BufferPool()
    small = pool.unused(100, but=())
    large = pool.unused(1000, but=[small])
    assert pool.unused(50, but=()) is small  # nothing was sent yet
    assert pool.unused(500, but=()) is large

    batch = SharedBatch({"video": large.tensor((2, 500), torch.uint8).fill_(7)}, {"video": large})
    grown = pool.unused(500, but=())
    assert grown not in (small, large)
    assert pool.unused(50, but=()) is grown  # the small one is gone for it

    received = ForkingPickler.loads(ForkingPickler.dumps(batch))
    assert type(received) is dict
    assert received["video"].shape == (2, 500)
    assert (received["video"] == 7).all()
    received["video"][:] = 9
    assert (batch["video"] == 9).all()  # the same memory
    part = received["video"][1]
    del received
    assert large.lent
    del part
    assert not large.lent
