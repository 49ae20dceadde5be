"""A small dataset in the layout that `vvt build` writes, with real encoded video, for tests."""

from __future__ import annotations

import hashlib
import io
import tarfile
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.annotation import DEFAULT_CATEGORIES, ActionCaption, Annotation
from schemas.artifacts import ARTIFACTS
from schemas.clip import Source, Span
from schemas.conditions import HandMesh, Hands, Pose
from schemas.manifest import Pair
from schemas.tables import META_MEMBER, Meta, index_schema
from tests.clips import SAME_BYTES

FPS = 24
_SCHEMA = index_schema(())
_TYPES = dict(zip(_SCHEMA.names, _SCHEMA.types, strict=True))


def mp4(images: np.ndarray, *, fps: int = FPS, gop: int = 12) -> bytes:
    """(T, H, W, 3) uint8 RGB → H.264 in mp4, with a key frame every `gop`."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps), options={"crf": "12", "threads": "1", **SAME_BYTES}
        )
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        stream.codec_context.gop_size = gop
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def full_tier(*, frames: int, height: int, width: int) -> dict[str, Any]:
    """What only the full tier gives: no hands, and a body of one part."""
    parts = np.eye(height, width, dtype=np.uint8)[None].repeat(frames, 0)
    return {
        "densepose": parts,
        "densepose_uv": parts[:, None].repeat(2, 1),
        "hand_mesh": HandMesh(
            present=np.zeros((frames, 2), bool),
            global_orient=np.zeros((frames, 2, 3, 3), np.float32),
            hand_pose=np.zeros((frames, 2, 15, 3, 3), np.float32),
            betas=np.zeros((frames, 2, 10), np.float32),
            translation=np.zeros((frames, 2, 3), np.float32),
            focal=np.asarray(900, np.float32),
        ),
        "hand_prior": parts,
    }


def artifacts(*, frames: int = 6, height: int = 64, width: int = 48, grey: int = 90) -> dict[str, Any]:
    """One sample: a grey field, a mask over its middle, arms, both hands, an action on frames 2 to 4."""
    images = np.full((frames, height, width, 3), grey, np.uint8)
    images[:, :, : width // 2] = 200
    mask = np.zeros((frames, height, width), bool)
    mask[:, height // 4 : height // 2, width // 4 : width // 2] = True
    keypoints = np.zeros((frames, 133, 2), np.float32)
    keypoints[:, 5:13] = np.linspace((8, 8), (width - 8, height - 8), 8)
    scores = np.zeros((frames, 133), np.float16)
    scores[:, 5:13] = 0.9
    fingers = np.stack([np.linspace(0, 0.08, 21), np.linspace(0, 0.09, 21), np.zeros(21)], -1)
    joints = np.broadcast_to(fingers, (frames, 2, 21, 3)).astype(np.float32)
    labels = tuple(2 <= t <= 4 for t in range(frames))
    hem, words = DEFAULT_CATEGORIES[1], "adjusts the hem with the left hand"
    actions = (
        [ActionCaption(category=hem, caption=words, start_frame=2, end_frame=min(4, frames - 1))] if frames > 2 else []
    )
    return {
        "video": mp4(images),
        "garment": np.full((40, 30, 3), grey, np.uint8),
        "garment_mask": np.tri(40, 30, dtype=bool),
        "pose": Pose(keypoints, scores),
        "hands": Hands(np.ones((frames, 2), np.float32), joints[..., :2] * 300 + 10, joints, "test"),
        "agnostic_mask": mask,
        "annotation": Annotation(
            global_caption="A person stands and adjusts the hem.",
            actions=tuple(actions),
            probabilities=tuple(0.9 if label else 0.1 for label in labels),
            labels=labels,
            labeller="test",
        ),
    }


def members(values: dict[str, Any], *, key: str) -> dict[str, bytes]:
    """Encoded members by their name after the key, with meta.json."""
    encoded = {ARTIFACTS[name].member: ARTIFACTS[name].encode(value) for name, value in values.items()}
    return {**encoded, META_MEMBER: meta(values, key=key).model_dump_json().encode()}


def meta(values: dict[str, Any], *, key: str) -> Meta:
    """Provenance as `vvt build` writes it, of a recording that is the clip itself."""
    frames, height, width = values["agnostic_mask"].shape
    size = len(values["video"])
    return Meta(
        key=key,
        pair=Pair(pair_id=key.rpartition("-")[0], video="video.mp4", garment="garment.png", part="upper"),
        source=Source(
            url="video.mp4", container="mp4", codec="h264", pixel_format="yuv420p", width=width, height=height,
            frame_rate=Fraction(FPS), duration=frames / FPS, size_bytes=size,
        ),
        span=Span(
            first_frame=0, last_frame=frames - 1, first_pts=0, last_pts=frames - 1, time_base=Fraction(1, FPS),
            fps=Fraction(FPS), frames=frames, width=width, height=height, bytes=size,
        ),
        garment_source="image",
        stages={},
        metrics={"interactive_share": sum(values["annotation"].labels) / frames},
    )  # fmt: skip


def described(content: dict[str, bytes]) -> dict[str, Any]:
    """What the index says of a sample beside its place; of damaged members nothing."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(content.items())}
    row: dict[str, Any] = {
        "members": [{"name": name, "size": len(content[name]), "sha256": hashes[name]} for name in hashes]
    }
    with suppress(KeyError, ValueError):
        about = Meta.model_validate_json(content[META_MEMBER])
        row |= {"pair_id": about.pair.pair_id, "part": about.pair.part, "fps": float(about.span.fps)}
        row |= {"frames": about.span.frames, "width": about.span.width, "height": about.span.height}
    with suppress(KeyError, ValueError):
        annotation = Annotation.model_validate_json(content[ARTIFACTS["annotation"].member])
        row |= {"global_caption": annotation.global_caption, "interactive_frames": sum(annotation.labels)}
        row["actions"] = [action.model_dump() for action in annotation.actions]
    return row


@dataclass
class DatasetBuilder:
    """Writes shards of given samples and `index.parquet` to `out`."""

    out: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)

    def shard(self, samples: dict[str, dict[str, bytes]], *, split: str = "train", **columns: Any) -> Path:
        """Write one shard of key → members, and note their rows of the index, in which `columns` override."""
        number = sum(name.startswith(f"shards/{split}-") for name in self.shards)
        name = f"shards/{split}-{number:06d}.tar"
        self.shards.append(name)
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, content in sorted(samples.items()):
                place = {"key": key, "shard": name, "offset": tar.offset, "split": split}
                self.rows.append({**place, **described(content), **columns})
                for member, data in sorted(content.items()):
                    info = tarfile.TarInfo(f"{key}.{member}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return path

    def index(self) -> Path:
        """Write the index of all shards so far."""
        columns = {name: None for row in self.rows for name in row}
        table = {name: pa.array([row.get(name) for row in self.rows], _TYPES.get(name)) for name in columns}
        pq.write_table(pa.table(table), self.out / "index.parquet")
        return self.out


def write_dataset(out: Path, counts: list[int], *, test: int = 0, frames: int = 6) -> list[str]:
    """`counts` samples per train shard, and `test` samples in one test shard; the keys in order, train first.

    The samples share their bytes but for the key, so that many are made fast.
    """
    shared = artifacts(frames=frames)
    builder = DatasetBuilder(out)
    keys = [f"pair{number:03d}-{number * 7:08d}" for number in range(sum(counts) + test)]
    left = list(keys)
    for split, count in [*(("train", count) for count in counts), *((("test", test),) if test else ())]:
        chosen, left = left[:count], left[count:]
        builder.shard(
            {key: members(shared, key=key) for key in chosen},
            split=split,
            global_caption="A person stands.",
        )
    builder.index()
    return keys
