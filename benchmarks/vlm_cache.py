"""Windows a second that are labelled from the cache of answers: hash of the question, file, answer read strictly.

    python -m benchmarks.vlm_cache --windows 1000 --repeats 5

Answers come with the probabilities of 5 tokens at each place. Pictures were decoded, and hashed, before: their hashes
take 0.7 ms a megabyte, once a picture, when windows with the same pictures are sought. The file system's cache is warm.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time

import numpy as np

from annotators.vlm.answers import read_frames
from annotators.vlm.asking import Asker, Question
from annotators.vlm.backend import Reply, Request, Token
from annotators.vlm.cache import Cache, content_hash
from annotators.vlm.openai_backend import OpenAIBackend
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.questions import label_requests
from annotators.vlm.windows import Sampling, plan
from schemas.manifest import Part

NOBODY = OpenAISettings(base_url="http://127.0.0.1:9/v1", model="not asked", tries=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    sampling = Sampling()
    count = sampling.window + sampling.stride * (options.windows - 1)
    images = np.random.default_rng(0).integers(0, 256, (count, 60, 40, 3), dtype=np.uint8)
    made = plan(images, np.arange(count) / sampling.rate, sampling)
    questions = [Question(request, read_frames) for request in label_requests("clip", made, part=Part.UPPER)]
    with tempfile.TemporaryDirectory() as folder:
        fill(Cache(folder), [question.request for question in questions])
        rates = []
        for _ in range(options.repeats):
            asker = Asker(OpenAIBackend(NOBODY), Cache(folder), language="en")
            started = time.perf_counter()
            answers = asker.ask(questions)
            rates.append(len(answers) / (time.perf_counter() - started))
    print(f"{statistics.median(rates):,.0f} windows a second ({min(rates):,.0f} to {max(rates):,.0f})")


def fill(cache: Cache, requests: list[Request]) -> None:
    """Answers as a server gives them."""
    for request in requests:
        labels = {str(number): number % 2 == 0 for number in range(1, len(request.pictures) + 1)}
        text = json.dumps({"id": request.schema["properties"]["id"]["const"], "interactive": labels})
        tokens = tuple(
            Token(text=word, logprob=-0.0123456, others={word: -0.0123456} | {f"{i}": -4.56789 - i for i in range(4)})
            for word in re.findall(r"\w+|\W", text)
        )
        cache.put(content_hash(request, NOBODY.identity), Reply(key=request.key, text=text, tokens=tokens))
    cache.flush()


if __name__ == "__main__":
    main()
