"""Near-duplicates: how well copies of real footage are told from other moments of the same scene, and what finding them
costs on synthetic signatures. `python -m benchmarks.duplicates recall CLIP... | scale [--clips N]`.

`recall` cuts recordings into spans, makes copies of each (re-encoded, scaled, at another rate, with a logo, cropped,
letterboxed, mirrored, graded, and most of that at once; begun 0.7 s later), and counts per kind of copy how many are
found and how many hashes agree, and how many spans that share nothing are taken for copies.

`scale` searches signatures of random hashes, one in twenty of them a noisy copy of another, at N / 10 and N clips; and
a crowd: N / 10 clips, a tenth of them one clip run again and again.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

import media
from curation.duplicates.search import AGREE_BITS, AGREE_HASHES, find_matches
from curation.duplicates.signature import MIRROR, STEP_SECONDS, Duplicates, decode_signature
from tests.clips import clip_from
from tests.curation.test_duplicates import COPIES

SPAN_SECONDS, LATER_SECONDS = 4.0, 0.7
LONGEST_SECONDS = 16.0
"""Of a recording, taken into account."""

KINDS = {"as it is": ("null", "18"), **COPIES, "cropped by a tenth": ("crop=iw*0.9:ih*0.9", "23")}


@dataclass(frozen=True)
class Cut:
    """A re-encoded span of a recording and its signature."""

    recording: str
    kind: str
    start: float
    hashes: np.ndarray

    def overlap(self, other: Cut) -> float:
        """Seconds of footage in common."""
        if self.recording != other.recording:
            return 0.0
        return max(0.0, min(self.start, other.start) + SPAN_SECONDS - max(self.start, other.start))


def recall(files: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cuts = [cut for file in files for cut in cuts_of(file, Path(folder))]
    matches = find_matches(np.concatenate([cut.hashes for cut in cuts]), np.cumsum([0, *(len(c.hashes) for c in cuts)]))
    found = set(zip(matches.first.tolist(), matches.second.tolist(), strict=True))
    copies, hits, agreeing = defaultdict(int), defaultdict(int), defaultdict(list)
    unrelated, mistaken, chance = [0, 0], [0, 0], ([], [])
    for (i, one), (j, two) in combinations(enumerate(cuts), 2):
        same_scene = one.recording == two.recording
        if one.overlap(two) == 0:
            unrelated[same_scene] += 1
            mistaken[same_scene] += (i, j) in found
            chance[same_scene].append(agreement(one, two))
        elif one.overlap(two) >= SPAN_SECONDS / 2 and "as it is" in (one.kind, two.kind):
            kind = two.kind if one.kind == "as it is" else one.kind
            moving = agreement(one, two)[1] >= AGREE_HASHES
            copies[kind, moving] += 1
            hits[kind, moving] += (i, j) in found
            agreeing[kind].append(agreement(one, two))
    print("| copy | found | of | hashes that agree |\n| --- | --- | --- | --- |")
    for kind in KINDS:
        print(f"| {kind} | {hits[kind, True]} | {copies[kind, True]} | {share(agreeing[kind]):.0%} |")
    still = sum(copies[kind, False] for kind in KINDS)
    print(f"| any, too little moves in common | {sum(hits[kind, False] for kind in KINDS)} | {still} | |")
    for same_scene, name in enumerate(("other recordings", "other moments of one recording")):
        print(f"| {name} | {mistaken[same_scene]} | {unrelated[same_scene]} | {share(chance[same_scene]):.1%} |")
    true, false = sum(hits.values()), sum(mistaken)
    print(f"recall {true / sum(copies.values()):.3f}, precision {true / max(1, true + false):.3f}")


def share(agreements: list[tuple[int, int]]) -> float:
    return sum(agreed for agreed, _ in agreements) / max(1, sum(compared for _, compared in agreements))


def agreement(one: Cut, two: Cut) -> tuple[int, int]:
    """How many hashes agree, of those in which both move, at the same time of the recording; else side by side."""
    lag = round((two.start - one.start) / STEP_SECONDS) if one.overlap(two) else 0
    begin, end = max(0, -lag), min(len(two.hashes), len(one.hashes) - lag)
    first, second = one.hashes[begin + lag : end + lag], two.hashes[begin:end]
    moves = (first != 0) & (second != 0)
    near = [np.bitwise_count(first ^ second ^ turned) <= AGREE_BITS for turned in (np.uint64(0), MIRROR)]
    return max(int((moves & agrees).sum()) for agrees in near), int(moves.sum())


def cuts_of(file: Path, folder: Path) -> list[Cut]:
    with av.open(str(file)) as container:
        seconds = min(LONGEST_SECONDS, float(container.duration / av.time_base))
    cuts = []
    for start in np.arange(0, seconds - SPAN_SECONDS + 0.1, SPAN_SECONDS):
        for kind, (filters, crf) in KINDS.items():
            for later in (0.0, LATER_SECONDS):
                if start + later + SPAN_SECONDS <= seconds + 0.1 and not (kind != "as it is" and later == 0.0):
                    target = folder / "span.mp4"
                    encode(file, target, start=start + later, filters=filters, crf=crf)
                    clip = clip_from(target, pair_id="span")
                    Duplicates().process(clip)
                    media.forget(clip)
                    cuts.append(Cut(file.name, kind, start + later, decode_signature(clip.signature)))
    return cuts


def encode(source: Path, target: Path, *, start: float, filters: str, crf: str) -> None:
    picture = f"scale=-2:480,{filters},scale=trunc(iw/2)*2:trunc(ih/2)*2,setsar=1"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-ss", str(start), "-i", str(source)]
    options = ["-t", str(SPAN_SECONDS), "-an", "-vf", picture, "-pix_fmt", "yuv420p", "-fps_mode", "cfr", "-crf", crf]
    subprocess.run([*command, *options, "-preset", "veryfast", str(target)], check=True, stdin=subprocess.DEVNULL)


def scale(clips: int) -> None:
    print("| clips | hashes | copies found | wall s | CPU s | peak MB |\n| --- | --- | --- | --- | --- | --- |")
    for count in (clips // 10, clips):
        hashes, planted = synthetic(count)
        report(f"{count:,}", hashes, count, planted)
    hashes, planted = synthetic(clips // 10, crowd=clips // 100)
    report(f"{clips // 10:,}, one clip {clips // 100:,} times", hashes, clips // 10, planted)


def report(name: str, hashes: np.ndarray, clips: int, planted: dict[int, int]) -> None:
    started, busy = time.perf_counter(), time.process_time()
    matches = find_matches(hashes.ravel(), np.arange(clips + 1) * hashes.shape[1])
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    found = set(zip(matches.first.tolist(), matches.second.tolist(), strict=True))
    caught = sum((first, second) in found for second, first in planted.items()) / len(planted)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cells = [
        name,
        f"{hashes.size:,}",
        f"{caught:.2%} of {len(planted):,}",
        f"{seconds:.1f}",
        f"{busy:.1f}",
        f"{peak:,.0f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def synthetic(clips: int, *, length: int = 20, crowd: int = 0) -> tuple[np.ndarray, dict[int, int]]:
    """(clips, length) hashes, and which of them are made copies of which: noisy by as many bits as real ones are."""
    random = np.random.default_rng(0)
    hashes = random.integers(1, 2**64 - 1, (clips, length), np.uint64)
    copies = np.arange(clips - (crowd or clips // 20), clips)
    originals = np.zeros(len(copies), np.int64) if crowd else random.permutation(clips - len(copies))[: len(copies)]
    noise = np.zeros((len(copies), length), np.uint64)
    for bit in range(64):
        noise |= (random.random(noise.shape) < 0.11).astype(np.uint64) << np.uint64(bit)
    hashes[copies] = hashes[originals] ^ noise
    return hashes, dict(zip(copies.tolist(), originals.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("recall").add_argument("files", nargs="+", type=Path)
    commands.add_parser("scale").add_argument("--clips", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if arguments.command == "recall":
        recall(arguments.files)
    else:
        scale(arguments.clips)


if __name__ == "__main__":
    main()
