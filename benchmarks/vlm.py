"""Requests a second through `OpenAIBackend`, beside a bare aiohttp client that asks the same of the same server.

    python -m benchmarks.vlm --repeats 15

The server, in a process of its own, reads each request and answers after `--seconds`. Making the JSON body with its
JPEGs counts on both sides: the bare client makes the same bytes, then posts them and parses the answer, with as many
requests in flight, but tries nothing again, reads no probabilities and hands nothing to another thread. The two take
turns; the median of the ratios is reported.
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
from multiprocessing.connection import Connection

import aiohttp
import numpy as np
from aiohttp import web

from annotators.vlm.backend import Picture, Reply, Request
from annotators.vlm.openai_backend import OpenAIBackend
from annotators.vlm.openai_messages import body_of
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
    """Questions about noise with some structure, whose JPEGs are about as large as a photograph's."""
    chance = np.random.default_rng(0)
    coarse = chance.integers(0, 255, (frames, side // 8, side // 8, 3), dtype=np.uint8)
    pictures = tuple(Picture(image, index / 4) for index, image in enumerate(coarse.repeat(8, 1).repeat(8, 2)))
    return [
        Request(key=f"clip#{number}", system="You label frames.", text="Which?", pictures=pictures)
        for number in range(count)
    ]


async def ask_bare(settings: OpenAISettings, requests: list[Request]) -> int:
    """How many answers a client without any of our care gets."""
    pending, answers = iter(requests), 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal answers
        for request in pending:
            body = body_of(request, settings=settings)
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{settings.base_url}/chat/completions", data=body, headers=headers) as response:
                answers += bool((await response.json())["choices"][0]["message"]["content"])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(work(session) for _ in range(settings.in_flight)))
    return answers


def seconds_of(ask: Callable[[], int], wanted: int) -> float:
    """How long `ask` takes to get all answers."""
    started = time.perf_counter()
    if (got := ask()) != wanted:
        raise SystemExit(f"{got} answers to {wanted} requests")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--frames", type=int, default=8, help="pictures of a request")
    parser.add_argument("--side", type=int, default=64, help="of a picture, in pixels")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.0, help="that the server takes to answer")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    requests = requests_of(options.requests, frames=options.frames, side=options.side)
    with serving(options.seconds) as address:
        settings = OpenAISettings(base_url=address, model="any", in_flight=options.in_flight)
        with closing(OpenAIBackend(settings)) as backend:
            ways: dict[str, Callable[[], int]] = {
                "bare aiohttp client": lambda: asyncio.run(ask_bare(settings, requests)),
                "OpenAIBackend": lambda: sum(isinstance(answer, Reply) for answer in backend.ask(requests)),
            }
            times: dict[str, list[float]] = {name: [] for name in ways}
            for repeat in range(options.repeats + 1):
                for name, ask in ways.items():
                    spent = seconds_of(ask, len(requests))
                    times[name] += [spent] if repeat else []  # the first of each warms up
    ratios = sorted(bare / ours for bare, ours in zip(*times.values(), strict=True))
    kilobytes = len(body_of(requests[0], settings=settings)) / 1000
    print(
        f"\n{len(requests)} requests of {kilobytes:.0f} kB, {options.in_flight} in flight, {options.seconds:g} s each\n"
    )
    print("| client | requests a second |\n| --- | --- |")
    for name, values in times.items():
        print(f"| {name} | {len(requests) / statistics.median(values):.0f} |")
    print(f"\nOpenAIBackend ÷ bare: {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
