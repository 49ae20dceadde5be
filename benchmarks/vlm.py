"""Requests a second through `OpenAIBackend`, beside a bare aiohttp client that asks the same of the same server.

    python -m benchmarks.vlm --repeats 15

The server, in a process of its own, reads each request and answers after `--seconds`. Making the JSON body with its
JPEGs counts on both sides: the bare client makes the same bytes, then posts them and parses the answer, with as many
requests in flight, but tries nothing again, reads no probabilities and hands nothing to another thread. The two take
turns; medians are reported, of wall time and of the client's processor time, which tells more on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import ceil
from multiprocessing.connection import Connection

import aiohttp
import numpy as np
from aiohttp import web

from annotators.vlm.backend import Picture, Reply, Request
from annotators.vlm.openai_backend import OpenAIBackend
from annotators.vlm.openai_messages import Bodies
from annotators.vlm.openai_settings import OpenAISettings

ANSWER = {"id": "clip", "interactive": {str(number): number % 2 == 0 for number in range(1, 9)}}
RESPONSE = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": json.dumps(ANSWER)}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 80},
    }
)


@contextmanager
def serving(seconds: float) -> Iterator[str]:
    """Address of a server that answers the same to everything, after so many seconds."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, seconds), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def _serve(told: Connection, seconds: float) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(seconds)
        return web.Response(text=RESPONSE, content_type="application/json")

    async def run() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def requests_of(count: int, *, frames: int, side: int) -> list[Request]:
    """Questions about overlapping windows of noise with some structure, whose JPEGs are about as large as a photo's."""
    chance, stride = np.random.default_rng(0), ceil(3 / 8 * frames)
    coarse = chance.integers(0, 255, (frames + stride * (count - 1), side // 8, side // 8, 3), dtype=np.uint8)
    pictures = [Picture(image.repeat(8, 0).repeat(8, 1), index / 4) for index, image in enumerate(coarse)]
    starts = range(0, stride * count, stride)
    return [
        Request(key=f"clip#{at}", system="You label frames.", text="Which?", pictures=(*pictures[at : at + frames],))
        for at in starts
    ]


async def ask_bare(settings: OpenAISettings, requests: list[Request]) -> int:
    """How many answers a client without any of our care gets."""
    pending, answers, bodies = iter(requests), 0, Bodies(settings)

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal answers
        for request in pending:
            body = bodies.of(request)
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{settings.base_url}/chat/completions", data=body, headers=headers) as response:
                answers += bool((await response.json())["choices"][0]["message"]["content"])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(work(session) for _ in range(settings.in_flight)))
    return answers


@dataclass(frozen=True)
class Spent:
    """Seconds that all answers took, and of processor time (all threads) that they took the client."""

    wall: float
    cpu: float


def spent_on(ask: Callable[[list[Request]], int], requests: list[Request]) -> Spent:
    """What `ask` takes to get all answers."""
    wall, cpu = time.perf_counter(), time.process_time()
    if (got := ask(requests)) != len(requests):
        raise SystemExit(f"{got} answers to {len(requests)} requests")
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def ratio(theirs: list[float], ours: list[float]) -> str:
    """Of the two, repeat by repeat."""
    ratios = sorted(one / other for one, other in zip(theirs, ours, strict=True))
    return f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--frames", type=int, default=8, help="pictures of a request")
    parser.add_argument("--side", type=int, default=64, help="of a picture, in pixels")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.0, help="that the server takes to answer")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    with serving(options.seconds) as address:
        settings = OpenAISettings(base_url=address, model="any", in_flight=options.in_flight)
        with closing(OpenAIBackend(settings)) as backend:
            ways: dict[str, Callable[[list[Request]], int]] = {
                "bare aiohttp client": lambda requests: asyncio.run(ask_bare(settings, requests)),
                "OpenAIBackend": lambda requests: sum(isinstance(answer, Reply) for answer in backend.ask(requests)),
            }
            spent: dict[str, list[Spent]] = {name: [] for name in ways}
            for repeat in range(options.repeats + 1):
                for name, ask in ways.items():
                    requests = requests_of(options.requests, frames=options.frames, side=options.side)
                    once = spent_on(ask, requests)
                    spent[name] += [once] if repeat else []  # the first of each warms up
    kilobytes = len(Bodies(settings).of(requests[0])) / 1000
    print(
        f"\n{len(requests)} requests of {kilobytes:.0f} kB, {options.in_flight} in flight, {options.seconds:g} s each\n"
    )
    print("| client | requests a second | processor time a request, µs |\n| --- | --- | --- |")
    for name, values in spent.items():
        wall = statistics.median(each.wall for each in values) / len(requests)
        cpu = statistics.median(each.cpu for each in values) / len(requests)
        print(f"| {name} | {1 / wall:.0f} | {1e6 * cpu:.0f} |")
    theirs, ours = spent.values()
    print(f"\nOpenAIBackend ÷ bare, requests a second: {ratio([s.wall for s in theirs], [s.wall for s in ours])}")
    print(f"bare ÷ OpenAIBackend, processor time: {ratio([s.cpu for s in theirs], [s.cpu for s in ours])}")


if __name__ == "__main__":
    main()
