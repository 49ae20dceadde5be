"""Builds of recordings and garments behind HTTP: over a bad line, and while the server is away."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from media.http import is_public
from pipelines.build import build
from schemas.config import BuildConfig
from schemas.errors import ManifestError
from tests.pipelines.conftest import Job, write_video
from tests.web import Site, served

GARMENT = {
    "stages": {
        "garment_image": {"use": "curation.filters.garment_image:GarmentImage", "bounds": {"garment_blur": [None, 1]}}
    }
}
ALLOWED = {"allow_private_addresses": True, "stall_seconds": 2.0}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((300, 300)).convert("RGB").save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    video = write_video(tmp_path / "source.mp4", seconds=3.0).read_bytes()
    with served(Site({"/a.mp4": video, "/a.png": png()})) as site:
        yield site


def on_the_web(job: Job, site: Site, **values: object) -> BuildConfig:
    job.rows = []
    job.add("a", f"{site.address}/a.mp4", garment=f"{site.address}/a.png")
    return job.config(sources=ALLOWED, **GARMENT, **values)


def test_what_is_known_stays_while_the_server_is_away(job: Job, site: Site) -> None:
    site.cut_after, site.cuts = 10_000, 2
    config = on_the_web(job, site)
    assert build(config).kept.total() == 1
    shards, requests = job.shards(), len(site.requests)
    assert (requests > 3, site.cuts) == (True, 0)
    site.statuses = [500] * 1000
    again = build(config)
    assert (again.unchanged, again.recordings_read) == (True, 0)
    assert job.shards() == shards
    site.statuses = []
    assert build(config).unchanged
    site.etag = '"2"'  # now it is another file
    assert build(config).recordings_read == 1


def test_a_name_that_leads_to_a_private_address_fails_in_the_worker(job: Job) -> None:
    name = socket.gethostname()  # not known for private without looking it up
    if is_public(socket.gethostbyname(name)):
        pytest.skip("this machine's name leads to a public address")
    job.record("b")
    job.add("a", f"http://{name}:1/a.mp4")
    assert job.build().kept.total() == 1
    (row,) = [row for row in job.decisions() if row["verdict"] == "failed"]
    assert (row["pair_id"], row["error_code"]) == ("a", "refused")
    assert "sources.allow_private_addresses" in row["error"]


def test_a_manifest_on_the_web_names_its_neighbours(job: Job, site: Site) -> None:
    row = {"pair_id": "a", "video": "a.mp4", "garment": "/etc/passwd", "part": "upper"}
    site.files["/list/m.jsonl"] = json.dumps(row).encode()
    site.files["/list/a.mp4"] = site.files["/a.mp4"]
    config = job.config(sources=ALLOWED).model_copy(update={"manifest": f"{site.address}/list/m.jsonl"})
    with pytest.raises(ManifestError, match=r"sources\.allow_local_files"):
        build(config)
    site.files["/list/m.jsonl"] = json.dumps({**row, "garment": None}).encode()
    assert build(config).kept.total() == 1
