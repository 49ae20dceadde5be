"""The job script, submitted to a real Ray head as its users submit it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.conftest import write_video

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")
USER_FILTER = """
import media
from schemas.metrics import Metric
from schemas.stage import Filter


class Brightness(Filter):
    metrics = {"brightness": Metric("mean luma", "0..255", (0, 255), (60, None))}

    def measure(self, clip):
        return {"brightness": media.frames(clip, fps=2, height=64).images.mean()}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def head(tmp_path: Path) -> Iterator[str]:
    """Address of the dashboard of a Ray head that is this test's own, ended by its own process group."""
    port, dashboard = free_port(), free_port()
    short = tempfile.mkdtemp(prefix="ray")  # a socket's path has at most 107 bytes
    command = [
        str(RAY), "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=2",
        "--disable-usage-stats", "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1",
        f"--temp-dir={short}",
        # The agent that starts jobs listens on a fixed port by default, which another cluster here may hold.
        f"--dashboard-agent-listen-port={free_port()}", f"--dashboard-agent-grpc-port={free_port()}",
        f"--metrics-export-port={free_port()}",
    ]  # fmt: skip
    log = (tmp_path / "head.log").open("wb")
    process = subprocess.Popen(
        command, start_new_session=True, stdout=log, stderr=log, env={**os.environ, "RAY_AUTH_MODE": "disabled"}
    )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        for _ in range(120):
            assert process.poll() is None, (tmp_path / "head.log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{address}/api/jobs/", timeout=2).close()
                break
            except OSError:
                time.sleep(1)
        else:
            pytest.fail(f"the head did not come up: {(tmp_path / 'head.log').read_text()[-2000:]}")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(3)
        os.killpg(process.pid, signal.SIGKILL)  # it does not always end by itself
        process.wait(30)
        shutil.rmtree(short, ignore_errors=True)


def test_a_submitted_job_builds_the_dataset_with_a_filter_of_the_users_own(head: str, tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "my_filters.py").write_text(USER_FILTER)
    rows = []
    for name, brightness in (("bright", 150), ("dark", 20)):
        write_video(job / f"{name}.mp4", brightness=brightness)
        rows.append({"pair_id": name, "video": f"{name}.mp4", "garment": None, "part": "upper"})
    (job / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (job / "job.yaml").write_text("tier: none\nstages: {brightness: {use: 'my_filters:Brightness'}}\n")
    command = [
        str(RAY), "job", "submit", "--address", head, "--working-dir", str(job),
        "--runtime-env-json", json.dumps({"env_vars": {"PYTHONPATH": str(ROOT)}}), "--",
        sys.executable, str(ROOT / "pipelines" / "build_interact.py"), "job.yaml",
        f"manifest={job / 'manifest.jsonl'}", f"output={tmp_path / 'out'}",
        "ingest.detector=pyscenedetect", "ingest.min_seconds=1",
    ]  # fmt: skip
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)  # it would go before --address
    for _ in range(30):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=240
        )
        if "No available agent" not in done.stderr:  # the head answers a little before it can take jobs
            break
        time.sleep(1)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert described["clips"]["kept"] == 1
    assert described["clips"]["dropped"] == {"brightness.brightness": 1}
