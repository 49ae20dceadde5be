"""The backend that runs a model in process, with tiny Qwen2.5-VL and Qwen3-VL checkpoints of random weights."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from annotators.vlm.answers import Fault, FrameLabels, read_frames
from annotators.vlm.backend import Picture, Refusal, Reply, Request
from annotators.vlm.questions import label_requests
from annotators.vlm.transformers_backend import TransformersBackend
from annotators.vlm.transformers_settings import TransformersSettings
from annotators.vlm.windows import Sampling, plan
from media.frames import frames
from schemas.errors import ConfigError, MissingExtraError, WeightsError
from schemas.manifest import Part
from tests.annotators.vlm.tiny_qwen import Kind, build
from tests.clips import clip_from, shared

ABSENT = [name for name in ("transformers", "torchvision", "qwen_vl_utils", "llguidance") if find_spec(name) is None]
needs_extra = pytest.mark.skipif(bool(ABSENT), reason=f"the extra vlm is not installed: {', '.join(ABSENT)}")
KINDS: tuple[Kind, ...] = ("qwen2_5", "qwen3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The checkpoints. So small a model is fastest on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {kind: build(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}
    torch.set_num_threads(threads)


@pytest.fixture
def broken(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a checkpoint, to be damaged."""
    return Path(shutil.copytree(folders["qwen3"], tmp_path / "broken"))


def backend(folder: Path, **settings: Any) -> TransformersBackend:
    return TransformersBackend(TransformersSettings(model=str(folder), **settings))


def asked(key: str, pictures: int = 2, *, size: tuple[int, int] = (56, 84), seed: int = 0, **fields: Any) -> Request:
    noise = np.random.default_rng(seed).integers(0, 255, (pictures, *size, 3), dtype=np.uint8)
    shown = tuple(Picture(image, number / 4) for number, image in enumerate(noise))
    fields = {
        "system": "You label frames.",
        "text": "Which?",
        "max_tokens": 400,
        "schema": schema(key, pictures),
    } | fields
    return Request(key=key, pictures=shown, **fields)


def schema(key: str, frames: int) -> dict[str, Any]:
    frame = [
        closed({"frame": {"const": number}, "interactive": {"type": "boolean"}}) for number in range(1, frames + 1)
    ]
    array = {"type": "array", "prefixItems": frame, "items": False, "minItems": frames, "maxItems": frames}
    return closed({"id": {"const": key}, "frames": array})


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def replies(model: TransformersBackend, *requests: Request) -> dict[str, Reply]:
    answers = list(model.ask(requests))
    assert sorted(answer.key for answer in answers) == sorted(request.key for request in requests)
    assert all(isinstance(answer, Reply) for answer in answers), answers
    return {answer.key: answer for answer in answers if isinstance(answer, Reply)}


def likelihoods(reply: Reply) -> list[dict[str, float]]:
    """At each place where the model had a choice: text → probability."""
    return [
        {text: math.exp(logprob) for text, logprob in token.others.items()}
        for token in reply.tokens
        if token.logprob < -1e-3
    ]


# ---- answers


@needs_extra
@pytest.mark.parametrize("kind", KINDS)
def test_each_request_is_answered_once_in_the_form_of_its_schema(folders: dict[str, Path], kind: Kind) -> None:
    requests = [asked(f"clip é漢{number}#0", number) for number in (3, 1, 0, 2, 2 + 2)]
    for key, reply in replies(backend(folders[kind], batch=3), *requests).items():
        count = next(len(request.pictures) for request in requests if request.key == key)
        answer = json.loads(reply.text)
        assert answer["id"] == key
        assert [frame["frame"] for frame in answer["frames"]] == [*range(1, count + 1)]
        assert "".join(token.text for token in reply.tokens) == reply.text
        assert reply.ended == "stop"
        assert reply.completion_tokens == len(reply.tokens) + 1  # the last one ends the answer
        choices = [place for place in likelihoods(reply) if {text[0] for text in place} == {"t", "f"}]
        assert len(choices) == count
        assert all(sum(place.values()) == pytest.approx(1, abs=1e-4) for place in choices)


@needs_extra
@pytest.mark.parametrize("kind", KINDS)
def test_free_answers_are_the_likeliest_tokens_of_a_plain_forward_pass(folders: dict[str, Path], kind: Kind) -> None:
    """And the words around the pictures are those that servers are sent."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    request = asked("a#0", 2, max_tokens=12)
    reply = replies(backend(folders[kind], structured=False), request)["a#0"]
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    prompt = (
        "<|im_start|>system\nYou label frames.<|im_end|>\n<|im_start|>user\n"
        f"Frame 1 at 0.000 s:{mark}Frame 2 at 0.250 s:{mark}Which?<|im_end|>\n<|im_start|>assistant\n"
    )
    processor = AutoProcessor.from_pretrained(folders[kind])
    model = AutoModelForImageTextToText.from_pretrained(folders[kind])
    patch = 2 * processor.image_processor.patch_size
    size = (round(84 / patch) * patch, round(56 / patch) * patch)
    images = [Image.fromarray(picture.image).resize(size) for picture in request.pictures]
    inputs = processor(text=[prompt], images=images, do_resize=False, return_tensors="pt")
    assert reply.prompt_tokens == inputs["input_ids"].shape[1]
    expected = []
    for _ in range(reply.completion_tokens):
        with torch.inference_mode():
            logprobs = model(**inputs).logits[0, -1].log_softmax(-1)
        likeliest = int(logprobs.argmax())
        if processor.tokenizer.decode([likeliest], skip_special_tokens=True):  # else no part of the text
            expected.append(logprobs)
        for name, value in (("input_ids", likeliest), ("attention_mask", 1), ("mm_token_type_ids", 0)):
            inputs[name] = torch.cat([inputs[name], torch.tensor([[value]])], dim=1)
    for token, logprobs in zip(reply.tokens, expected, strict=True):
        assert token.logprob == max(token.others.values()) == pytest.approx(float(logprobs.max()), abs=1e-4)
        assert all(abs(logprobs - logprob).min() < 1e-4 for logprob in token.others.values())


@needs_extra
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_the_same_alone_and_beside_others(folders: dict[str, Path], kind: Kind) -> None:
    requests = [asked(f"{number}#0", number, size=(56, 28 * number), seed=number) for number in (1, 2, 4)]
    together = replies(backend(folders[kind], batch=3), *requests)
    alone = replies(backend(folders[kind], batch=1), *requests)
    for key, reply in together.items():
        first, same = likelihoods(reply)[0], likelihoods(alone[key])[0]
        assert first == pytest.approx(same, abs=1e-4)
        assert reply.prompt_tokens == alone[key].prompt_tokens


@needs_extra
@pytest.mark.parametrize("kind", KINDS)
def test_the_pictures_tell(folders: dict[str, Path], kind: Kind) -> None:
    model = backend(folders[kind])
    one, other = (likelihoods(replies(model, asked("a#0", seed=seed))["a#0"])[0] for seed in (1, 2))
    assert one != pytest.approx(other, abs=1e-5)


@needs_extra
def test_pictures_are_scaled_within_the_limits(folders: dict[str, Path]) -> None:
    """A token stands for 28 x 28 pixels. The processor's own limits (here 3136 pixels at least) do not count."""
    model = backend(folders["qwen2_5"], min_pixels=28 * 28, max_pixels=28 * 28 * 16)
    counts = [
        replies(model, asked("a#0", 1, size=size))["a#0"].prompt_tokens for size in ((1120, 1120), (56, 84), (28, 28))
    ]
    assert np.diff(counts).tolist() == [6 - 16, 1 - 6]


@needs_extra
def test_answers_end_at_their_own_limit(folders: dict[str, Path]) -> None:
    requests = [asked("short#0", max_tokens=5), asked("long#0", max_tokens=9), asked("whole#0")]
    answers = replies(backend(folders["qwen3"]), *requests)
    assert [(answers[key].ended, answers[key].completion_tokens) for key in ("short#0", "long#0")] == [
        ("length", 5),
        ("length", 9),
    ]
    assert answers["whole#0"].text.startswith('{"id":"whole#0"')
    assert answers["whole#0"].ended == "stop"


@needs_extra
def test_sampling_goes_by_temperature_and_repeats_itself(folders: dict[str, Path]) -> None:
    request = asked("a#0", schema={}, max_tokens=30)
    cold, warm, again, hot = (
        replies(backend(folders["qwen3"], temperature=temperature), request)["a#0"].text
        for temperature in (0.0, 1.0, 1.0, 2.0)
    )
    assert warm == again
    assert len({cold, warm, hot}) == 3


@needs_extra
def test_memory_running_out_halves_the_batch(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = memory_for(2, monkeypatch)
    assert len(replies(backend(folders["qwen2_5"], batch=8), *(asked(f"{number}#0") for number in range(7)))) == 7
    assert sizes == [7, 3, *[1] * 7]


@needs_extra
def test_memory_for_no_request_at_all_is_an_error(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    memory_for(0, monkeypatch)
    with pytest.raises(ConfigError, match="does not hold one request with 2 pictures"):
        list(backend(folders["qwen2_5"]).ask([asked("a#0"), asked("b#0")]))


def memory_for(requests: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As if the device held so many requests at once. Gives the sizes of the batches that are tried."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration as Network

    tried: list[int] = []
    forward: Callable[..., Any] = Network.forward

    @wraps(forward)
    def limited(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs["input_ids"].shape[1] > 1:  # not one more token, but a batch's prompts
            tried.append(len(kwargs["input_ids"]))
        if len(kwargs["input_ids"]) > requests:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Network, "forward", limited)
    return tried


@needs_extra
def test_what_the_model_cannot_take_is_refused_and_the_rest_answered(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 300
    (broken / "config.json").write_text(json.dumps(config))
    model = backend(broken)
    requests = [asked("good#0", max_tokens=150), asked("long#0", text="?" * 300, max_tokens=150)]
    requests += [asked("strip#0", 1, size=(1, 300), max_tokens=150)]
    refused = {answer.key: answer.why for answer in model.ask(requests) if isinstance(answer, Refusal)}
    assert sorted(refused) == ["long#0", "strip#0"]
    assert "300 tokens" in refused["long#0"]
    assert "ratio" in refused["strip#0"]
    assert [answer.key for answer in model.ask(requests[:1])] == ["good#0"]


@needs_extra
def test_nothing_is_asked_of_nobody_and_a_closed_backend_opens_again(folders: dict[str, Path]) -> None:
    model = backend(folders["qwen3"])
    assert list(model.ask([])) == []
    model.close()
    assert replies(model, asked("a#0", 0, text="Words alone?"))


# ---- settings and checkpoints


def test_identity_names_the_weights_by_content(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text("{}")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two, warm, coarse = (
        TransformersSettings(model=str(tmp_path / folder), **settings).identity
        for folder, settings in (
            ("one", {"batch": 1}),
            ("two", {}),
            ("one", {"temperature": 1}),
            ("one", {"max_pixels": 4000}),
        )
    )
    assert one == two
    assert one != warm != coarse != one
    with pytest.raises(WeightsError, match="not there"):
        _ = TransformersSettings(model=str(tmp_path / "three")).identity


@pytest.mark.parametrize("wrong", [{"model": ""}, {"batch": 0}, {"min_pixels": 5000, "max_pixels": 4000}, {"key": "x"}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TransformersSettings(**{"model": "x/y"} | wrong)


@pytest.mark.parametrize("package", ["transformers", "torchvision", "qwen_vl_utils", "llguidance"])
def test_an_absent_package_is_named_with_its_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "annotators.vlm.transformers_backend.find_spec", lambda name: None if name == package else object()
    )
    with pytest.raises(MissingExtraError, match=rf"{package}.*vvt-interact\[vlm\]"):
        backend(tmp_path)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def lose_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.visual.blocks.0.mlp.linear_fc1.weight"]
    save_file(tensors, file, metadata={"format": "pt"})


def narrow(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = config["vision_config"]["out_hidden_size"] = 32
    (folder / "config.json").write_text(json.dumps(config))


def text_only(folder: Path) -> None:
    (folder / "processor_config.json").unlink()
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"processor_class": None}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))


def add_words(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"word{number}" for number in range(50)])
    tokenizer.save_pretrained(folder)


@needs_extra
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "not there"),
        (without("config.json"), "cannot be loaded"),
        (without("model.safetensors"), "cannot be loaded"),
        (without("chat_template.jinja"), "no chat template"),
        (text_only, "no vision-language model"),
        (cut, "cannot be loaded"),
        (lose_a_weight, "1 weights are absent, e.g. .*linear_fc1.weight"),
        (narrow, "cannot be loaded"),
        (add_words, "tokenizer does not fit"),
    ],
)
def test_a_folder_without_a_whole_model_is_an_error(broken: Path, damage: Callable[[Path], Any], words: str) -> None:
    damage(broken)
    with pytest.raises(WeightsError, match=words) as told:
        backend(broken)
    assert str(broken) in str(told.value)


@needs_extra
@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"device": "abacus"}, "abacus"), ({"attention": "flash_attention_2"}, "flash_attention_2 is not there")],
)
def test_what_this_machine_cannot_do_is_an_error(folders: dict[str, Path], wrong: dict[str, str], words: str) -> None:
    if find_spec("flash_attn"):
        pytest.skip("this machine can")
    with pytest.raises(ConfigError, match=words):
        backend(folders["qwen3"], **wrong)


@needs_extra
def test_a_schema_that_is_none_is_an_error(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="JSON schema"):
        list(backend(folders["qwen3"]).ask([asked("a#0", schema={"type": "riddle"})]))


# ---- in Ray's workers


@pytest.fixture
def ray() -> Iterator[Any]:
    import ray

    if mine := not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    if mine:
        ray.shutdown()


@needs_extra
@pytest.mark.slow
def test_labels_a_real_clip_in_a_worker_of_ray(folders: dict[str, Path], ray: Any) -> None:
    """In a process that nobody has prepared: the backend itself makes torchvision fit a CPU torch."""
    video = shared("clips/open_hand.mp4")

    @ray.remote
    def label(folder: Path) -> list[tuple[int, FrameLabels | Fault]]:
        clip = clip_from(video)
        decoded = frames(clip, fps=4, height=112)
        shown = plan(decoded.images, decoded.indices / float(clip.span.fps), Sampling(rate=4, window=8, stride=4))
        requests = {request.key: request for request in label_requests(clip.key, shown, part=Part.UPPER)}
        answers = backend(folder).ask([*requests.values()])
        return [
            (len(requests[answer.key].pictures), read_frames(requests[answer.key], answer))
            for answer in answers
            if isinstance(answer, Reply)
        ]

    for windows in ray.get([label.remote(folders[kind]) for kind in KINDS], timeout=120):
        assert len(windows) > 1
        for pictures, labels in windows:
            assert isinstance(labels, FrameLabels), labels
            assert len(labels.interactive) == pictures
            assert all(0 < probability < 1 for probability in labels.probabilities)
