"""The whole split + quality filters + shards job against PySceneDetect's own command line on the same files.

    python -m benchmarks.whole_job --recordings 8 --frames 850

Recordings are cut together from the demo's sample videos (`vvt models pull demo`). PySceneDetect splits them with
`detect-adaptive split-video`, one process a core; it filters nothing and writes no tars. Ours finds the shots with
TransNetV2, measures every model-free filter and packs the shards; a second line uses PySceneDetect's detector inside
ours. The sides take turns in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imageio_ffmpeg

import weights
from benchmarks.ingest import ffmpeg
from pipelines.build import Summary, build
from schemas.config import BuildConfig

QUALITY = ("resolution", "bitrate", "exposure", "borders", "motion", "freeze", "blur", "blockiness", "noise")
SAMPLES = ("walking_man", "two_in_a_park", "face_noface", "woman_hand_before_face")


def make_recordings(folder: Path, *, count: int, frames: int) -> list[Path]:
    """`count` recordings of about `frames` frames, 720p30, cut together from pieces of 2 to 4 s."""
    chosen = random.Random(0)
    videos = [weights.path(name) for name in SAMPLES]
    recordings = []
    for number in range(count):
        inputs: list[str | Path] = []
        total = pieces = 0
        while total < frames:
            seconds = chosen.uniform(2, 4)
            inputs += [
                "-ss",
                f"{chosen.uniform(0, 2):.2f}",
                "-t",
                f"{seconds:.2f}",
                "-i",
                videos[(number + pieces) % 4],
            ]
            total, pieces = total + int(30 * seconds), pieces + 1
        fill = "fps=30,scale=1280:720:force_original_aspect_ratio=increase,crop=1280:720,setsar=1"
        chains = "".join(f"[{piece}:v]{fill}[v{piece}];" for piece in range(pieces))
        joined = "".join(f"[v{piece}]" for piece in range(pieces)) + f"concat=n={pieces}:v=1[out]"
        target = folder / f"recording{number}.mp4"
        coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"]
        ffmpeg(*inputs, "-filter_complex", chains + joined, "-map", "[out]", "-frames:v", str(frames), *coding, target)
        recordings.append(target)
    return recordings


def peer(recordings: list[Path], folder: Path) -> int:
    """PySceneDetect's command line on every recording, one process a core. Returns how many clips it wrote."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    (tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    command = [str(Path(sys.executable).with_name("scenedetect")), "--quiet"]

    def split(recording: Path) -> None:
        arguments = [
            "-i",
            str(recording),
            "-o",
            str(folder / "clips"),
            "detect-adaptive",
            "split-video",
            "--rate-factor",
            "18",
        ]
        subprocess.run([*command, *arguments], check=True, env=environment, capture_output=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(split, recordings))
    return len(list((folder / "clips").glob("*.mp4")))


def ours(recordings: list[Path], folder: Path, *, detector: str) -> Summary:
    """Split, model-free filters and shards."""
    folder.mkdir(parents=True)
    rows = [{"pair_id": video.stem, "video": str(video), "garment": None, "part": "upper"} for video in recordings]
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stages: dict[str, Any] = {name: {"use": f"curation.filters.{name}:{name.capitalize()}"} for name in QUALITY}
    config = BuildConfig(
        manifest=str(manifest), output=str(folder / "out"), tier="none", stages=stages,
        ingest={"detector": detector, "min_seconds": 1.0},
    )  # fmt: skip
    return build(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--recordings", type=int, default=8)
    parser.add_argument("--frames", type=int, default=850)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"scenedetect": [], "ours": [], "ours, its detector": []}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = make_recordings(folder, count=options.recordings, frames=options.frames)
        for repeat in range(options.repeats):
            started = time.perf_counter()
            notes["scenedetect"] = f"{peer(recordings, folder / f'peer{repeat}')} clips"
            times["scenedetect"].append(time.perf_counter() - started)
            for label, detector in (("ours", "transnetv2"), ("ours, its detector", "pyscenedetect")):
                started = time.perf_counter()
                summary = ours(recordings, folder / f"{detector}{repeat}", detector=detector)
                times[label].append(time.perf_counter() - started)
                notes[label] = f"{summary.kept.total()} kept, {summary.drops.total()} dropped"
    reference = statistics.median(times["scenedetect"])
    print(f"{options.recordings} recordings of {options.frames} frames, 1280x720; median of {options.repeats}")
    print("| job | wall s | ratio to scenedetect | |\n| --- | --- | --- | --- |")
    for label, measured in times.items():
        median = statistics.median(measured)
        print(f"| {label} | {median:.1f} | {median / reference:.2f} | {notes[label]} |")


if __name__ == "__main__":
    main()
