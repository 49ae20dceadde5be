"""Broken recordings and garment images in a real build: each has its row, and the sound ones do not notice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from PIL import Image

from benchmarks.mutations import make_images, make_videos, mutate
from schemas.errors import MEDIA_ERROR_CODES
from tests.pipelines.conftest import Job, write_video

RECORDINGS, GARMENTS = 48, 12
STAGES = {
    "garment_image": {"use": "curation.filters.garment_image:GarmentImage", "bounds": {"garment_short_side": None}}
}


def test_every_broken_file_is_accounted_for(job: Job, tmp_path: Path) -> None:
    videos = make_videos(tmp_path, write_video(tmp_path / "sound.mp4", seconds=1.5), seconds=1.5)
    images = make_images(Image.effect_mandelbrot((320, 240), (-2, -1.5, 1, 1.5), 50))
    for name, data in images.items():
        (tmp_path / name).write_bytes(data)
    for number, mutation in enumerate(mutate(videos, RECORDINGS)):
        (tmp_path / mutation.name).write_bytes(mutation.data)
        job.add(f"video-{number}", mutation.name)
    for number, mutation in enumerate(mutate(images, GARMENTS)):
        (tmp_path / mutation.name).write_bytes(mutation.data)
        job.add(f"garment-{number}", "sound.mp4", garment=mutation.name)
    job.add("sound-1", "sound.mp4", garment="plain.png")
    job.add("sound-2", "h264.ts")
    ingest = {"detector": "pyscenedetect", "min_seconds": 0.5, "max_seconds": 4.0}
    job.build(ingest=ingest, stages=STAGES)
    rows = job.decisions()
    assert {row["pair_id"] for row in rows} == {row["pair_id"] for row in job.rows}
    assert max(Counter(row["key"] for row in rows).values()) == 1
    codes = Counter(row["error_code"] for row in rows if row["verdict"] == "failed")
    assert not set(codes) & {"error", "crashed", "time_limit", "memory"}
    assert set(codes) & set(MEDIA_ERROR_CODES)
    verdicts = {row["pair_id"]: row["verdict"] for row in rows}
    assert verdicts["sound-1"] == verdicts["sound-2"] == "kept"
    garments = [row for row in rows if row["pair_id"].startswith("garment-")]
    assert {row["verdict"] for row in garments} == {"kept", "dropped"}
    assert {row["metric"] for row in garments if row["verdict"] == "dropped"} <= set(garments[0]["metrics"])
    assert not list(tmp_path.rglob("*.part"))
