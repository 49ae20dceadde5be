"""The OpenAI backend against `transformers serve` with tiny random weights, which looks at real pictures.

Needs `transformers[serving]` and torchvision beside it; the server has neither schemas nor probabilities.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from annotators.vlm.backend import Picture, Reply, Request
from annotators.vlm.openai_backend import OpenAIBackend
from annotators.vlm.openai_settings import OpenAISettings
from schemas.errors import ConfigError
from tests.annotators.vlm.asking import free_port
from tests.clips import shared

SERVE = """
import io, sys
_, examples, model, port = sys.argv
sys.path.insert(0, examples)
import numpy as np, PIL.Image, torch, torchvision_ops, torchvision.io
import tiny_qwen_vl
from transformers.cli.transformers import main

def decode_image(data, *args, **kwargs):  # torchvision's own is not there beside a CPU torch
    image = PIL.Image.open(io.BytesIO(data.numpy().tobytes())).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)

torchvision.io.decode_image = decode_image
torch.set_num_threads(2)
tiny_qwen_vl.build("qwen3", model)
sys.argv[1:] = ["serve", model, "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
main()
"""


@contextmanager
def serving(model: Path, port: int) -> Iterator[None]:
    examples = shared("examples/tiny_qwen_vl.py").parent
    model.mkdir()
    with (model / "log").open("wb") as log:
        command = [sys.executable, "-c", SERVE, str(examples), str(model), str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_transformers_serve_looks_at_the_pictures(tmp_path: Path) -> None:
    needed = ("fastapi", "uvicorn", "openai", "torchvision")
    if missing := [name for name in needed if not importlib.util.find_spec(name)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    chance, port, model = np.random.default_rng(0), free_port(), tmp_path / "tiny"
    pictures = tuple(Picture(chance.integers(0, 255, (56, 84, 3), np.uint8), index / 4) for index in range(3))
    requests = [
        Request(key=f"clip#{count}", system="You label.", text="What?", pictures=pictures[:count], max_tokens=8)
        for count in range(4)
    ]
    # The first tries come before it is up.
    settings = OpenAISettings(
        base_url=f"http://127.0.0.1:{port}/v1", model=str(model), tries=400, longest_wait=0.5, logprobs=False,
        structured="none",
    )  # fmt: skip
    with serving(model, port):
        with closing(OpenAIBackend(settings)) as backend:
            answers = {answer.key: answer for answer in backend.ask(requests)}
        wrong = settings.model_copy(update={"base_url": settings.base_url.replace("/v1", "/v2")})
        with closing(OpenAIBackend(wrong)) as backend, pytest.raises(ConfigError, match="404"):
            list(backend.ask(requests[:1]))
    assert sorted(answers) == [request.key for request in requests]
    # Random weights may end at once, which is no answer.
    costs = [answer.prompt_tokens for _, answer in sorted(answers.items()) if isinstance(answer, Reply)]
    assert len(costs) >= 2
    assert costs == sorted(set(costs))  # each picture adds tokens
