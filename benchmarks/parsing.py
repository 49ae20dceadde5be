"""Parsing and garment tracking of the full tier under random weights: frames a second, alone and in batches.

    python -m benchmarks.parsing video.mp4 --seconds 1

The networks have the sizes of SegFormer-B2, Sapiens2-0.4B and SAM 2.1 tiny; with --small SegFormer-B0's, two layers
of Sapiens2, and no SAM. A network's bare forward pass over as many pictures, in the same run, is the floor of a stage.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from media import normalise
from preprocess.garment_track import GarmentTrack
from preprocess.label_names import SAPIENS2
from preprocess.mediapipe_body import MediaPipeBody
from preprocess.parsing import SelfieParsing
from preprocess.pretrained import PREPROCESSORS
from preprocess.sam import SamTracker
from preprocess.segmentation import Segmentation
from schemas.clip import Clip, Source
from schemas.manifest import Pair
from weights.torchvision_operators import declare_missing_operators

declare_missing_operators()  # before transformers imports torchvision, where that is installed
BATCHES = (1, 8)
NAMED: dict[str, Any] = {
    "id2label": dict(enumerate(SAPIENS2)),
    "label2id": {name: index for index, name in enumerate(SAPIENS2)},
}


def segformer(*, small: bool) -> Any:
    b2: dict[str, Any] = {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768}
    return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**({} if small else b2), **NAMED))


def sapiens2(*, small: bool) -> Any:
    width = 32 if small else 768
    head = {"upsample_out_channels": [width, width], "conv_out_channels": [64, 64]}
    layers: dict[str, Any] = {"num_hidden_layers": 2} if small else {}
    config = transformers.Sapiens2Config(image_size=[1024, 768], head_config=head, **layers, **NAMED)
    return transformers.Sapiens2ForSemanticSegmentation(config)


def saved(model: Any, folder: Path, size: tuple[int, int]) -> str:
    model.save_pretrained(folder)
    (folder / PREPROCESSORS[0]).write_text(json.dumps({"size": {"height": size[0], "width": size[1]}}))
    return str(folder)


def clip_of(video: Path, *, seconds: float) -> Clip:
    """The beginning of `video`, with the embedded conditions."""
    encoded = normalise(video, end=seconds)
    span = encoded.span
    source = Source(
        url=video.name, container="mp4", codec="h264", pixel_format="yuv420p", width=span.width, height=span.height,
        frame_rate=span.fps, duration=span.seconds, size_bytes=len(encoded.video),
    )  # fmt: skip
    pair = Pair.model_validate({"pair_id": "benchmark", "video": video.name, "garment": None, "part": "upper"})
    clip = Clip(key="benchmark-0", pair=pair, source=source, span=span, artifacts={"video": encoded.video})
    MediaPipeBody().process(clip)
    SelfieParsing().process(clip)
    return clip


def seconds_of(work: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bare(model: Any, size: tuple[int, int], *, frames: int, batch: int) -> float:
    """Seconds of the network alone, over `frames` pictures."""
    pixels = torch.zeros((batch, 3, *size), device=model.device, dtype=model.dtype)

    def work() -> None:
        with torch.inference_mode():
            for start in range(0, frames, batch):
                model(pixel_values=pixels[: frames - start])

    return seconds_of(work)


def parsing_rows(clip: Clip, name: str, folder: str, size: tuple[int, int]) -> Iterator[tuple[str, ...]]:
    frames = clip.span.frames
    first = 0.0
    for batch in BATCHES:
        stage = Segmentation(model=folder, batch=batch)
        stage.setup()
        bare(stage._model, size, frames=batch, batch=batch)  # warm
        floor = bare(stage._model, size, frames=frames, batch=batch)
        spent = seconds_of(lambda stage=stage: stage.process(clip))  # type: ignore[misc]
        first = first or spent
        yield name, str(batch), f"{frames / spent:.2f}", f"{first / spent:.2f}", f"{floor / spent:.2f}"


def sam_rows(clip: Clip, folder: str) -> Iterator[tuple[str, ...]]:
    """Encoding by batches, and following."""
    span, frames = clip.span, clip.span.frames
    window, nothing = (0, 0, span.width, span.height), np.zeros((frames, span.height, span.width), bool)
    mark = nothing[0].copy()
    mark[span.height // 4 : span.height // 2, span.width // 4 : span.width // 2] = True
    first = 0.0
    for batch in BATCHES:
        tracker = SamTracker.load(folder, device="auto", precision="auto", batch=batch)
        footage: list[Any] = []
        spent = seconds_of(
            lambda tracker=tracker, footage=footage: footage.append(tracker.watch(clip, window, nothing))
        )  # type: ignore[misc]
        first = first or spent
        yield "SAM 2.1 tiny, encoding", str(batch), f"{frames / spent:.2f}", f"{first / spent:.2f}", ""
    spent = seconds_of(lambda: footage[0].track({0: mark}))
    yield "SAM 2.1 tiny, following", "", f"{frames / spent:.2f}", "", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    clip = clip_of(options.video, seconds=options.seconds)
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"\n{clip.span.frames} frames, {clip.span.width}x{clip.span.height}; {place}\n")
    print("| stage | batch | frames a second | to batch 1 | floor ÷ stage |\n|---|---|---|---|---|")

    def show(rows: Iterator[tuple[str, ...]]) -> None:
        for row in rows:
            print("|", " | ".join(row), "|", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        for make, size in ((segformer, (512, 512)), (sapiens2, (1024, 768))):
            model = saved(make(small=options.small), Path(folder, make.__name__), size)
            show(parsing_rows(clip, make.__name__, model, size))
        if not options.small:
            sam = transformers.Sam2VideoModel(transformers.Sam2VideoConfig())
            show(sam_rows(clip, saved(sam, Path(folder, "sam2"), (1024, 1024))))
    flow = GarmentTrack()
    spent = seconds_of(lambda: flow.process(clip))
    show(iter([("garment_track by flow", "", f"{clip.span.frames / spent:.2f}", "", "")]))


if __name__ == "__main__":
    main()
