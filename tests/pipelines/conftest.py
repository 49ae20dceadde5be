"""One small Ray cluster for the tests of the pipelines, small recordings, and builds of them."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.build import Summary, build, ray_cluster
from pipelines.configure import merge_config
from schemas.config import BuildConfig, RunConfig
from tests.clips import SAME_BYTES


@pytest.fixture(scope="session")
def aws_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration file of AWS's clients, which the cluster's workers read too: a test may write it later."""
    path = tmp_path_factory.mktemp("aws") / "config"
    os.environ |= {"AWS_CONFIG_FILE": str(path), "AWS_EC2_METADATA_DISABLED": "true"}
    return path


@pytest.fixture(scope="session")
def cluster(aws_config: Path) -> Iterator[None]:
    os.environ.setdefault("RAY_metrics_report_interval_ms", "500")  # nobody waits ten seconds for a metric
    with ray_cluster(RunConfig(address="local")):  # not one that somebody started on this machine
        yield


def write_video(path: Path, *, seconds: float = 2.0, brightness: int = 120, fps: int = 24) -> Path:
    """A moving pattern around a mean `brightness`, 160x120."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps), options={"crf": "18", "preset": "ultrafast", **SAME_BYTES}
        )
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        y, x = np.mgrid[0:120, 0:160]
        for index in range(round(seconds * fps)):
            wave = 60 * np.sin((x + 2 * index) / 9) * np.cos(y / 11)
            gray = np.clip(brightness + wave, 0, 255).astype(np.uint8)
            picture = av.VideoFrame.from_ndarray(np.repeat(gray[:, :, None], 3, axis=2), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def shard_digests(out: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of each shard and of each member in it: bytes themselves would take pytest hours to compare in words."""
    digests = {}
    for path in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member) for member in tar}
            digests[path.name] = {name: sha256(file.read()).hexdigest() for name, file in members.items() if file}
        digests[path.name]["the whole tar"] = sha256(path.read_bytes()).hexdigest()
    return digests


class Job:
    """A folder with recordings, a manifest over them, and builds of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []

    def add(self, pair_id: str, video: str | None = None, **fields: Any) -> None:
        self.rows.append(
            {"pair_id": pair_id, "video": video or f"{pair_id}.mp4", "garment": None, "part": "upper", **fields}
        )

    def record(self, pair_id: str, *, brightness: int = 120, seconds: float = 2.0, **fields: Any) -> None:
        write_video(self.folder / f"{pair_id}.mp4", brightness=brightness, seconds=seconds)
        self.add(pair_id, **fields)

    def config(self, out: str = "out", **values: Any) -> BuildConfig:
        (self.folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        given = {
            "manifest": str(self.folder / "manifest.jsonl"),
            "output": str(self.folder / out),
            "tier": "none",
            "ingest": {"detector": "pyscenedetect", "min_seconds": 1.0, "max_seconds": 4.0},
            **values,
        }
        return merge_config(given, (), where="test")

    def build(self, out: str = "out", **values: Any) -> Summary:
        return build(self.config(out, **values))

    def decisions(self, out: str = "out") -> list[dict[str, Any]]:
        return pq.read_table(self.folder / out / "decisions.parquet").to_pylist()

    def verdicts(self, out: str = "out") -> dict[str, str]:
        return {row["key"]: row["verdict"] for row in self.decisions(out)}

    def shards(self, out: str = "out") -> dict[str, dict[str, str]]:
        return shard_digests(self.folder / out)


@pytest.fixture
def job(tmp_path: Path, cluster: None) -> Job:
    return Job(tmp_path)
