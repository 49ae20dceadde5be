"""Requests a second of `VlmLabels` in the pipeline, beside a bare client that posts the same bodies to the same server.

    python -m benchmarks.vlm_stage --seconds 1 --slots 32 --workers 2 --repeats 3

The server, in a process of its own, works like vLLM under load: it takes up `--slots` requests at a time, the others
wait; each takes a time drawn from a log-normal distribution (`--spread` 0: always the same) whose mean is `--seconds`.
So `--slots` ÷ `--seconds` is the most it can answer. It knows the truth: clips go through all rounds of questions.

The pipeline is the engine with workers in Ray, over clips in the store: read, decode, windows, JPEG, questions,
answers read strictly and cached on disk, annotations stored. The bare client posts bodies that the pipeline sent
before, with as many requests in flight, and only parses the answers. Both are timed by the server: the whole run, and
without its first and last tenth. They take turns; the median of the ratios is reported.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import av
import numpy as np
from aiohttp import web

from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.stage import VlmLabels
from curation.ingest import Ingest
from pipelines.build import ray_cluster
from pipelines.chain import INGEST, Chain
from pipelines.engine import Engine
from pipelines.jobs import ClipJob
from pipelines.store import ClipStore
from pipelines.tally import Tally
from pipelines.worker import INPUTS, RECORDING, Row
from schemas.clip import Clip
from schemas.config import RunConfig
from schemas.stage import Resources
from tests.annotators.vlm.server import Asked, completion, perfect
from tests.clips import clip_from

FPS, FRAMES = 30, 150
RECORDED = 200
"""Bodies that the server keeps for the bare client, which sends them in turn."""


@dataclass(frozen=True)
class Load:
    """How the server takes its time."""

    slots: int
    seconds: float
    spread: float


@dataclass
class Seen:
    """What the server saw.

    Attributes:
        begun: when the first request came, in seconds; `inf` before.
        answered: when each answer left.
        bodies: of the first requests.

    """

    begun: float = math.inf
    answered: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second, from the first request to the last answer."""
        return len(self.answered) / (self.answered[-1] - self.begun)

    @property
    def steady_rate(self) -> float:
        """Answers a second without the first and the last tenth: as in a run of many hours."""
        tenth = len(self.answered) // 10
        return (len(self.answered) - 2 * tenth) / (self.answered[-tenth - 1] - self.answered[tenth - 1])


def handled(seconds: float) -> bool:
    """The truth of all clips."""
    return int(seconds / 1.3) % 2 == 1


def serve(told: Connection, load: Load) -> None:
    """Answer until somebody wants to know what was seen."""
    seen, behave, chance = Seen(), perfect(handled), random.Random(0)

    async def answer(slots: asyncio.Semaphore, request: web.Request) -> web.Response:
        seen.begun = min(seen.begun, time.monotonic())
        body = await request.read()
        if len(seen.bodies) < RECORDED:
            seen.bodies.append(body)
        asked = Asked(request, json.loads(body))
        async with slots:
            await asyncio.sleep(load.seconds * chance.lognormvariate(-(load.spread**2) / 2, load.spread))
        text = behave(asked)
        assert isinstance(text, str)
        seen.answered.append(time.monotonic())
        return completion(text, asked)

    async def run() -> None:
        slots = asyncio.Semaphore(load.slots)
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/chat/completions", lambda request: answer(slots, request))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        told.send(runner.addresses[0][1])
        await asyncio.to_thread(told.recv)
        told.send(seen)

    asyncio.run(run())


@contextmanager
def serving(load: Load, seen: list[Seen]) -> Iterator[str]:
    """Address of a server; what it saw is added to `seen` in the end."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there, load), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
        here.send(None)
        seen.append(here.recv())
    finally:
        process.terminate()
        process.join()


def film(path: Path, *, seed: int, width: int, height: int) -> Clip:
    """A coloured pattern that moves, another one for each seed."""
    chance, (y, x) = np.random.default_rng(seed), np.mgrid[0:height, 0:width]
    waves = np.sin((x + seed) / 13) * np.cos(y / 11) + chance.normal(0, 0.1, (height, width))
    pattern = (128 + chance.uniform(20, 60, 3) * waves[..., None]).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "20", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(FRAMES):
            picture = np.ascontiguousarray(np.roll(pattern, (index, 3 * index), (0, 1)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return clip_from(path)


def label(clips: list[Clip], address: str, folder: Path, options: argparse.Namespace) -> None:
    """Send `clips` through the engine."""
    backend = OpenAISettings(base_url=address, model="any", in_flight=options.in_flight)
    batch = {"batch_clips": options.batch_clips} if options.batch_clips else {}
    resources = Resources(cpus=0.25)
    stage = VlmLabels(name="labels", backend=backend, cache=str(folder / "answers"), resources=resources, **batch)
    chain, store = Chain(Ingest(), (stage,)), ClipStore(str(folder / "clips"))
    jobs = []
    for clip in clips:
        clip.fingerprints = {INGEST: chain.fingerprints[INGEST], RECORDING: "r", INPUTS: "i"}
        store.put(clip)
        jobs.append(ClipJob(clip.key, Row(pair=clip.pair, recording="r", inputs="i"), 0))
    tally = Tally(sources=0, clips=len(clips))
    Engine(chain, store, RunConfig(workers=options.workers), observer=tally).run([], jobs)
    if tally.kept != len(clips):
        raise SystemExit(f"not all clips were labelled: {tally.failures}")


async def post_bare(address: str, bodies: list[bytes], *, count: int, in_flight: int) -> None:
    """Post `count` requests without any of our care."""
    pending = itertools.islice(itertools.cycle(bodies), count)

    async def work(session: aiohttp.ClientSession) -> None:
        for body in pending:
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{address}/chat/completions", data=body, headers=headers) as response:
                if not (await response.json())["choices"][0]["message"]["content"]:
                    raise SystemExit("an empty answer")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(work(session) for _ in range(in_flight)))


def steady_rates(seen: list[Seen]) -> list[float]:
    return [each.steady_rate for each in seen]


def whole_rates(seen: list[Seen]) -> list[float]:
    return [each.rate for each in seen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--width", type=int, default=448, help="of a clip, in pixels")
    parser.add_argument("--height", type=int, default=256, help="of a clip, in pixels")
    parser.add_argument("--seconds", type=float, default=1.0, help="that the server takes to answer, on average")
    parser.add_argument("--spread", type=float, default=0.5, help="sigma of the log-normal distribution of that time")
    parser.add_argument("--slots", type=int, default=32, help="requests that the server works on at once")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--in-flight", type=int, default=64, help="of each worker")
    parser.add_argument("--batch-clips", type=int, help="as of the stage; its default where it is not given")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    load, pipeline, bare = Load(options.slots, options.seconds, options.spread), list[Seen](), list[Seen]()
    with tempfile.TemporaryDirectory() as name, ray_cluster(RunConfig(address="local")):
        folder = Path(name)
        size = {"width": options.width, "height": options.height}
        clips = [film(folder / f"clip{seed}.mp4", seed=seed, **size) for seed in range(options.clips)]
        for repeat in range(options.repeats):
            with serving(load, pipeline) as address:
                label(clips, address, folder / str(repeat), options)
            with serving(load, bare) as address:
                count, in_flight = len(pipeline[-1].answered), options.in_flight * options.workers
                asyncio.run(post_bare(address, pipeline[-1].bodies, count=count, in_flight=in_flight))
            print(f"{pipeline[-1].steady_rate:.1f} beside {bare[-1].steady_rate:.1f} requests a second", flush=True)
    kilobytes, count = statistics.mean(map(len, pipeline[0].bodies)) / 1000, len(pipeline[0].answered)
    print(
        f"\n{options.clips} clips, {count} requests of {kilobytes:.0f} kB; {options.workers} workers "
        f"with {options.in_flight} in flight; {options.slots} slots, {options.seconds:g} s, spread {options.spread:g}\n"
    )
    print("| requests a second | steady | whole run |\n| --- | --- | --- |")
    for who, seen in (("bare aiohttp client", bare), ("`VlmLabels` in the pipeline", pipeline)):
        steady, whole = (statistics.median(rates) for rates in (steady_rates(seen), whole_rates(seen)))
        print(f"| {who} | {steady:.1f} | {whole:.1f} |")
    for kind, rates in (("steady", steady_rates), ("whole run", whole_rates)):
        ratios = sorted(ours / theirs for ours, theirs in zip(rates(pipeline), rates(bare), strict=True))
        print(f"pipeline ÷ bare, {kind}: {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
