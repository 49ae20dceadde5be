"""Every artifact by name: its type, how it is checked, and its one codec.

An artifact is stored as one member, `KEY.<member>`, in the clip store and, if `shared`, in the shards. Encoding is
deterministic: the same value always gives the same bytes.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.annotation import Annotation
from schemas.clip import Clip
from schemas.conditions import Contact, HandMesh, Hands, PersonTrack, Pose, check_array
from schemas.errors import ArtifactError
from schemas.latents import Latents, caption_texts

Decoded = Any
NPZ_MAX_BYTES = 4 << 30
"""Arrays of one member, unpacked: 500 frames of labels in 4K."""
_NPZ_LOCK = threading.Lock()  # numpy reads headers by `ast`, which in Python 3.11 fails now and then among threads


@dataclass(frozen=True)
class Artifact:
    """How one artifact is named, encoded and checked.

    Attributes:
        member: file name in a sample after the key, e.g. "pose.npz".
        shared: whether shards hold it; the others stay in the clip store, but for sidecars.
        required: whether every sample of a shard has it.
        encode, decode: to and from the member's bytes.
        check: raises `ArtifactError` if a value does not fit its clip.
        about: what it is, for the docs.
        sidecar: whether shards of its own hold it, beside the others: `schemas.tables.beside`.

    """

    member: str
    shared: bool
    required: bool
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    check: Callable[[Any, Clip], None]
    about: str
    sidecar: bool = False


def encode_npz(**arrays: np.ndarray) -> bytes:
    """Compressed npz. numpy stamps members with 1980-01-01, so equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def encode_npz_of_floats(**arrays: np.ndarray) -> bytes:
    """The same with floats as they are: compressing latents takes seconds and saves next to nothing."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # of 1980-01-01
            member.compress_type = zipfile.ZIP_STORED if array.dtype.kind == "f" else zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def decode_npz(data: bytes) -> dict[str, np.ndarray]:
    """Arrays of an npz, never unpickling anything.

    Raises:
        ArtifactError: they would take more than `NPZ_MAX_BYTES`.

    """
    with _NPZ_LOCK, np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        size = sum(member.file_size for member in arrays.zip.infolist())
        if size > NPZ_MAX_BYTES:  # a few MB of zip can hold terabytes of zeros
            raise ArtifactError(f"the arrays take {size:,} bytes", allowed=f"{NPZ_MAX_BYTES:,} bytes")
        return {name: arrays[name] for name in arrays.files}


def encode_png(image: np.ndarray) -> bytes:
    """Lossless PNG of an (H, W, 3) uint8 RGB image, or of an (H, W) bool mask as 0 and 255."""
    from PIL import Image

    pixels = image.astype(np.uint8) * 255 if image.dtype == bool else image
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """(H, W, 3) or (H, W) uint8, as `encode_png` took it (masks as 0 and 255). Pillow refuses 180 megapixels."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)))


def encode_mask_video(mask: np.ndarray) -> bytes:
    """(T, H, W) bool → npz of `bits` (T, H, ceil(W/8)) uint8, most significant bit first, and `width`."""
    return encode_npz(bits=np.packbits(mask, axis=2), width=np.asarray(mask.shape[2], np.int32))


def decode_mask_video(data: bytes) -> np.ndarray:
    """Inverse of `encode_mask_video`."""
    arrays = decode_npz(data)
    return np.unpackbits(arrays["bits"], axis=2, count=int(arrays["width"])).view(np.bool_)


def encode_windows(maps: np.ndarray) -> bytes:
    """(T, H, W) uint8, mostly zero → npz of `boxes` (T, 4) int32, x0 y0 x1 y1 around what is not zero in each frame,
    `pixels` of these windows one after the other, and `size` (H, W).
    """
    boxes = np.zeros((len(maps), 4), np.int32)
    for box, frame in zip(boxes, maps, strict=True):
        rows, columns = frame.any(1).nonzero()[0], frame.any(0).nonzero()[0]
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    windows = [frame[y0:y1, x0:x1].ravel() for frame, (x0, y0, x1, y1) in zip(maps, boxes, strict=True)]
    pixels = np.concatenate([np.zeros(0, np.uint8), *windows])
    return encode_npz(boxes=boxes, pixels=pixels, size=np.asarray(maps.shape[1:], np.int32))


def decode_windows(data: bytes) -> np.ndarray:
    """Inverse of `encode_windows`. Raises `ArtifactError` where the windows do not fit."""
    arrays = decode_npz(data)
    boxes, pixels, (height, width) = arrays["boxes"], arrays["pixels"], arrays["size"].tolist()
    check_array(pixels, name="pixels", shape=(None,), dtype=np.uint8)
    if len(boxes) * height * width > NPZ_MAX_BYTES or (boxes < 0).any() or (boxes > [width, height] * 2).any():
        raise ArtifactError(f"windows do not fit into {len(boxes)} frames of {width}×{height}")
    maps, start = np.zeros((len(boxes), height, width), np.uint8), 0
    for frame, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
        end = start + max(0, x1 - x0) * max(0, y1 - y0)
        frame[y0:y1, x0:x1] = pixels[start:end].reshape(max(0, y1 - y0), max(0, x1 - x0))
        start = end
    return maps


def _npz_of(
    kind: type, *, write: Callable[..., bytes] = encode_npz
) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    fields = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]

    def encode(value: Any) -> bytes:
        return write(**{name: np.asarray(getattr(value, name)) for name in fields})

    def decode(data: bytes) -> Any:
        arrays = decode_npz(data)
        missing = sorted(set(fields) - set(arrays))
        if missing:
            raise ArtifactError(f"{kind.__name__} lacks {', '.join(missing)}")
        return kind(**{name: str(arrays[name]) if arrays[name].dtype.kind == "U" else arrays[name] for name in fields})

    return encode, decode


def _npz_array(name: str) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    return lambda value: encode_npz(**{name: value}), lambda data: decode_npz(data)[name]


def _one_per_frame(field: str, kind: type) -> Callable[[Any, Clip], None]:
    def check(value: Any, clip: Clip) -> None:
        if not isinstance(value, kind):
            raise ArtifactError(f"expected {kind.__name__}, got {type(value).__name__}", where=clip.key)
        frames = len(getattr(value, field))
        if frames != clip.span.frames:
            raise ArtifactError(f"{kind.__name__} has {frames} frames, the clip {clip.span.frames}", where=clip.key)

    return check


def _check_bytes(value: Any, clip: Clip) -> None:
    if not isinstance(value, bytes) or not value:
        raise ArtifactError("video is no bytes, or empty", where=clip.key)


def _check_pts(value: Any, clip: Clip) -> None:
    check_array(value, name="source_pts", shape=(clip.span.frames,), dtype=np.int64)


def _check_rgb(value: Any, clip: Clip) -> None:
    check_array(value, name="garment", shape=(None, None, 3), dtype=np.uint8)


def _check_garment_mask(value: Any, clip: Clip) -> None:
    garment = clip.artifacts.get("garment")
    shape = (None, None) if garment is None else garment.shape[:2]
    check_array(value, name="garment_mask", shape=shape, dtype=np.bool_)


def _frame_maps(name: str, dtype: type, highest: int | None = None) -> Callable[[Any, Clip], None]:
    def check(value: Any, clip: Clip) -> None:
        check_array(value, name=name, shape=(clip.span.frames, clip.span.height, clip.span.width), dtype=dtype)
        if highest is not None and value.size and int(value.max()) > highest:
            raise ArtifactError(f"{name} holds {int(value.max())}", where=clip.key, allowed=f"0..{highest}")

    return check


def _check_uv(value: Any, clip: Clip) -> None:
    span = clip.span
    check_array(value, name="densepose_uv", shape=(span.frames, 2, span.height, span.width), dtype=np.uint8)


def _check_annotation(value: Any, clip: Clip) -> None:
    _one_per_frame("labels", Annotation)(value, clip)


def _check_latents(value: Any, clip: Clip) -> None:
    if not isinstance(value, Latents):
        raise ArtifactError(f"expected Latents, got {type(value).__name__}", where=clip.key)
    if value.frames.max() >= clip.span.frames:
        raise ArtifactError(f"Latents show frame {value.frames.max()} of {clip.span.frames}", where=clip.key)
    annotation = clip.artifacts.get("annotation")
    if annotation is not None and len(value.lengths) != len(caption_texts(annotation)):
        raise ArtifactError(
            f"Latents have {len(value.lengths)} captions, the annotation {len(caption_texts(annotation))}",
            where=clip.key,
        )


def _identity(value: bytes) -> bytes:
    return value


ARTIFACTS: dict[str, Artifact] = {
    "video": Artifact(
        "video.mp4", True, True, _identity, _identity, _check_bytes,
        "H.264 yuv420p, constant frame rate, closed short GOP, starts at 0, faststart",
    ),
    "source_pts": Artifact(
        "source_pts.npz", False, False,
        *_npz_array("pts"), _check_pts,
        "(T,) int64: per frame, the pts of the source frame it shows, in `span.time_base`",
    ),
    "garment": Artifact(
        "garment.png", True, True, encode_png, decode_png, _check_rgb, "(H, W, 3) uint8 RGB garment image",
    ),
    "garment_mask": Artifact(
        "garment_mask.png", True, True, encode_png, lambda data: decode_png(data) > 127, _check_garment_mask,
        "(H, W) bool, true (white) = garment",
    ),
    "person": Artifact(
        "person.npz", False, False, *_npz_of(PersonTrack), _one_per_frame("boxes", PersonTrack), "`PersonTrack`",
    ),
    "pose": Artifact("pose.npz", True, True, *_npz_of(Pose), _one_per_frame("keypoints", Pose), "`Pose`"),
    "hands": Artifact("hands.npz", True, True, *_npz_of(Hands), _one_per_frame("scores", Hands), "`Hands`"),
    "hand_mesh": Artifact(
        "hand_mesh.npz", True, False, *_npz_of(HandMesh), _one_per_frame("present", HandMesh), "`HandMesh`",
    ),
    "hand_prior": Artifact(
        "hand_prior.npz", True, False,
        encode_windows, decode_windows, _frame_maps("hand_prior", np.uint8),
        "(T, H, W) uint8: brightness of the hands' meshes as rendered, 0 where there is no hand",
    ),
    "parsing": Artifact(
        "parsing.npz", False, False,
        *_npz_array("labels"), _frame_maps("parsing", np.uint8, 23),
        "(T, H, W) uint8 labels of `schemas.conditions.Label`",
    ),
    "densepose": Artifact(
        "densepose.npz", True, False,
        *_npz_array("part"), _frame_maps("densepose", np.uint8, 24),
        "(T, H, W) uint8 DensePose part index I, 0..24",
    ),
    "densepose_uv": Artifact(
        "densepose_uv.npz", True, False,
        *_npz_array("uv"), _check_uv,
        "(T, 2, H, W) uint8: U and V on the surface of the part, times 255; 0 where `densepose` is 0",
    ),
    "garment_track": Artifact(
        "garment_track.npz", False, False, encode_mask_video, decode_mask_video, _frame_maps("garment_track", np.bool_),
        "(T, H, W) bool: the pair's garment as it is worn, followed through the clip",
    ),
    "agnostic_mask": Artifact(
        "agnostic_mask.npz", True, True, encode_mask_video, decode_mask_video, _frame_maps("agnostic_mask", np.bool_),
        "(T, H, W) bool, true = repaint; bit-packed along x",
    ),
    "contact": Artifact(
        "contact.npz", False, False, *_npz_of(Contact), _one_per_frame("probability", Contact), "`Contact`",
    ),
    "annotation": Artifact(
        "annotation.json", True, True,
        lambda value: value.model_dump_json().encode(), Annotation.model_validate_json, _check_annotation,
        "`Annotation`: global caption, action captions, per-frame probabilities and labels",
    ),
    "latents": Artifact(
        "latents.npz", False, False, *_npz_of(Latents, write=encode_npz_of_floats), _check_latents,
        "`Latents`: windows as latents of Wan's VAE, and captions as embedded by its text encoder",
        sidecar=True,
    ),
}  # fmt: skip


def artifact(name: str) -> Artifact:
    """The artifact called `name`. Raises `ArtifactError` with the known names."""
    if name not in ARTIFACTS:
        raise ArtifactError(f"there is no artifact {name!r}", allowed=", ".join(ARTIFACTS))
    return ARTIFACTS[name]


def check(name: str, value: Any, clip: Clip) -> None:
    """Raise `ArtifactError` unless `value` is a right value of artifact `name` for `clip`."""
    artifact(name).check(value, clip)
