"""Windows of a clip, encoded as training would on the fly.

Shape legend: N windows of T = 4n + 1 frames of H×W pixels.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from schemas.annotation import Annotation
from schemas.artifacts import artifact
from schemas.clip import Clip
from schemas.conditions import POSE_POINTS
from schemas.latents import Latents, caption_texts
from schemas.record import as_artifacts
from schemas.tables import META_MEMBER, Meta
from training.clip_window import ClipWindow
from training.decoding import decode_garment, decode_window
from training.fit import Fit
from training.sample import Batch, collate
from training.stored import StoredSample
from training.survey import nearest_size, speed_of
from training.windows import Frames, interactive_shares, offsets, tilt_for

if TYPE_CHECKING:
    from training.conditioning import Conditioner
    from training.latents import WanLatents


def encode_windows(clip: Clip, settings: WanLatents, conditioner: Conditioner) -> Latents:
    """Windows of `clip`, drawn by the seed and the clip's key, and its captions.

    Raises:
        DatasetError: an artifact does not fit the others.
        ArtifactError: the networks gave something that is not finite.

    """
    stored = _as_stored(clip, (*settings.needs, *settings.uses))
    annotation: Annotation = stored.artifact("annotation")
    random = np.random.default_rng((settings.seed, zlib.crc32(clip.key.encode())))
    shown = _windows(annotation, settings, fps=float(clip.span.fps), random=random)
    batches = [_pictures(stored, annotation, window, settings, random=random) for window in shown]
    pictures = [conditioner.condition_latents(batch) for batch in batches]
    tokens = conditioner.text.encode(caption_texts(annotation))
    return Latents(
        frames=np.stack(shown).astype(np.int32),
        video=_float16([conditioner.video_latents(batch) for batch in batches]),
        inactive=_float16([each.inactive for each in pictures]),
        reactive=_float16([each.reactive for each in pictures]),
        hands=_float16([each.hands for each in pictures]),
        garment=_float16([pictures[0].garment])[0],
        mask=np.concatenate([np.packbits(batch["mask"][:, :, 0].numpy(), axis=-1) for batch in batches]),
        tokens=_float16(tokens),
        lengths=np.array([len(each) for each in tokens], np.int32),
        pose_everywhere=np.asarray(conditioner.pose == "everywhere"),
    )


def _windows(annotation: Annotation, settings: WanLatents, *, fps: float, random: np.random.Generator) -> list[Frames]:
    """At most `settings.windows` different ones, (T,) each, spread over what windows there are."""
    window = offsets(len(annotation.labels), frames=settings.frames, speed=speed_of(fps, settings))
    shares = interactive_shares(np.array(annotation.labels), window)
    tilt = tilt_for(settings.interactive_share, [shares], [len(window)])
    quantiles = (np.arange(settings.windows) + random.random(settings.windows)) / settings.windows
    return [window + start for start in sorted({tilt.start(shares, quantile) for quantile in quantiles})]


def _pictures(
    stored: StoredSample, annotation: Annotation, frames: Frames, settings: WanLatents, *, random: np.random.Generator
) -> Batch:
    window = ClipWindow(stored, annotation, frames)
    target = nearest_size(settings.buckets, window.source)
    sample = decode_window(
        window,
        key=stored.where,
        fit=Fit.around(window.person_box(), target, window.source),
        garment=decode_garment(stored, target),
        pictures=("pose", "hands"),
        absent=random.random((len(frames), POSE_POINTS)) < settings.pose_dropout,
    )
    return collate([sample])


def _as_stored(clip: Clip, names: tuple[str, ...]) -> StoredSample:
    """`clip` as readers of shards take it."""
    meta = Meta(
        key=clip.key, pair=clip.pair, source=clip.source, span=clip.span, garment_source="", stages={}, metrics={}
    )
    artifacts = as_artifacts(clip.artifacts)
    members = {artifact(name).member: artifacts.encoded(name) for name in names if name in artifacts}
    return StoredSample({**members, META_MEMBER: meta.model_dump_json().encode()}, clip.key)


def _float16(parts: list[Tensor]) -> np.ndarray[Any, Any]:
    return torch.cat(parts).to("cpu", torch.float16).numpy()
