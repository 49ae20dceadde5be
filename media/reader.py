"""Random access to the frames of a video, by one of three decoders behind one protocol."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from media.decoding import decode
from media.inputs import Input
from media.normalised import Layout, check_normalised
from media.recording import Recording
from media.sources import open_source
from schemas.errors import ConfigError, MediaError, MissingExtraError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Backend = Literal["pyav", "decord", "torchcodec"]
Image = NDArray[np.uint8]


class FrameReader(Protocol):
    """The frames of one video.

    Attributes:
        width: of the images, in pixels.
        height: of the images, in pixels.
        fps: frames a second; the average, where the video is raw and its rate varies.
        timestamps: (N,) float64, seconds from the first frame to each.

    """

    width: int
    height: int
    fps: Fraction
    timestamps: NDArray[np.float64]

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Image]:
        """Every frame in order, as (H, W, 3) uint8 RGB."""
        ...

    def get(self, indices: Sequence[int]) -> Image:
        """(N, H, W, 3) uint8 RGB of these frames, in the order asked for; raises IndexError."""
        ...


def open_reader(video: bytes | str | Path, *, backend: Backend = "pyav") -> FrameReader:
    """Open a video for reading by frame number.

    Args:
        video: path or fsspec URL, or the file's bytes.
        backend: "pyav" reads everything that `Recording` reads, raw recordings sequentially. "decord" and
            "torchcodec" are for normalised clips only: on raw recordings they number frames wrongly.

    Raises:
        MediaError: as `media.probe`; unsupported, where decord or torchcodec is given a raw recording.
        MissingExtraError: the backend's package is not installed.
        ConfigError: no such backend.

    """
    if backend not in _READERS:
        raise ConfigError(f"there is no backend {backend!r}", allowed=", ".join(_READERS))
    if backend == "pyav":
        return open_pyav(video)
    return _READERS[backend](_read(video), check_normalised(video))


def open_pyav(video: bytes | str | Path) -> PyAvReader | RecordingReader:
    """As `open_reader` with PyAV."""
    try:
        layout = check_normalised(video)
    except MediaError as error:
        if error.code != "unsupported":
            raise
        return RecordingReader(video)
    return PyAvReader(_read(video), layout)


class _ClipReader:
    """What the readers of normalised clips share: a known layout, and indices that are checked."""

    def __init__(self, layout: Layout) -> None:
        self.width, self.height, self.fps = layout.width, layout.height, layout.fps
        self.timestamps = np.arange(layout.frames) / float(layout.fps)

    def __len__(self) -> int:
        return len(self.timestamps)

    def __iter__(self) -> Iterator[Image]:
        for index in range(len(self)):
            yield self.get([index])[0]

    def get(self, indices: Sequence[int]) -> Image:
        """See `FrameReader.get`."""
        _check_indices(indices, len(self))
        if not len(indices):
            return np.empty((0, self.height, self.width, 3), dtype=np.uint8)
        return self._read(indices)

    def _read(self, indices: Sequence[int]) -> Image:
        raise NotImplementedError


class PyAvReader(_ClipReader):
    """Reads a normalised clip with PyAV, from the key frame before the first frame asked for."""

    def __init__(self, video: bytes, layout: Layout) -> None:
        super().__init__(layout)
        self._video = video

    def __iter__(self) -> Iterator[Image]:
        return (image for _, image in self.images(range(len(self))))

    def images(self, indices: Sequence[int], *, size: tuple[int, int] | None = None) -> Iterator[tuple[int, Image]]:
        """Frames of the rising `indices`, each with its number, as RGB of `size` (width, height), in one pass."""
        wanted, position = list(indices), 0
        if not wanted:
            return
        with Input(self._video) as clip:
            ticks = 1 / (self.fps * Fraction(clip.stream.time_base or 1))
            if wanted[0]:
                clip.container.seek(int(wanted[0] * ticks), stream=clip.stream)
            for decoded in decode(clip):
                index = round((decoded.frame.pts or 0) / ticks)
                if index > wanted[position]:
                    break  # it did not decode
                if index == wanted[position]:
                    yield index, to_rgb(decoded.frame, size)
                    position += 1
                    if position == len(wanted):
                        return
        raise MediaError(f"frame {wanted[position]} does not decode", code="undecodable", where="clip")

    def _read(self, indices: Sequence[int]) -> Image:
        images = dict(self.images(sorted(set(indices))))
        return np.stack([images[index] for index in indices])


class RecordingReader(_ClipReader):
    """Reads a raw recording, in one pass from its start for each call. Frames are in the form of `Recording`."""

    def __init__(self, video: bytes | str | Path) -> None:
        self._video = video
        with Recording(video) as recording:
            pts = np.array([frame.pts for frame in recording], dtype=np.int64)
            super().__init__(Layout(recording.width, recording.height, recording.source.frame_rate, len(pts)))
            self.timestamps = ((pts - pts[:1]) * float(recording.time_base)).astype(np.float64)

    def __iter__(self) -> Iterator[Image]:
        return (image for _, image in self.images(range(len(self))))

    def images(self, indices: Sequence[int], *, size: tuple[int, int] | None = None) -> Iterator[tuple[int, Image]]:
        """As `PyAvReader.images`."""
        wanted = set(indices)
        with Recording(self._video) as recording:
            for index, frame in enumerate(recording):
                if index in wanted:
                    yield index, to_rgb(frame.picture, size)

    def _read(self, indices: Sequence[int]) -> Image:
        images = dict(self.images(sorted(set(indices))))
        return np.stack([images[index] for index in indices])


class DecordReader(_ClipReader):
    """Reads a normalised clip with decord."""

    def __init__(self, video: bytes, layout: Layout) -> None:
        super().__init__(layout)
        decord = _import("decord", purpose="The decord backend")
        self._reader = decord.VideoReader(io.BytesIO(video), ctx=decord.cpu(0))

    def _read(self, indices: Sequence[int]) -> Image:
        return self._reader.get_batch(list(indices)).asnumpy()


class TorchCodecReader(_ClipReader):
    """Reads a normalised clip with torchcodec."""

    def __init__(self, video: bytes, layout: Layout) -> None:
        super().__init__(layout)
        decoders = _import("torchcodec.decoders", purpose="The torchcodec backend")
        self._decoder = decoders.VideoDecoder(video, dimension_order="NHWC", seek_mode="exact")

    def _read(self, indices: Sequence[int]) -> Image:
        return self._decoder.get_frames_at(list(indices)).data.numpy()


_READERS: dict[str, Callable[[bytes, Layout], FrameReader]] = {
    "pyav": PyAvReader,
    "decord": DecordReader,
    "torchcodec": TorchCodecReader,
}


def to_rgb(frame: VideoFrame, size: tuple[int, int] | None = None) -> Image:
    """(H, W, 3) uint8 RGB of a decoded picture, scaled to `size` (width, height) where given."""
    width, height = size or (frame.width, frame.height)
    smaller = width * height < frame.width * frame.height
    image: Any = frame.to_ndarray(
        format="rgb24", width=width, height=height, interpolation="AREA" if smaller else "BILINEAR"
    )
    return image


def _check_indices(indices: Sequence[int], frames: int) -> None:
    for index in indices:
        if not 0 <= index < frames:
            raise IndexError(f"frame {index} of a video with {frames} frames")


def _import(module: str, *, purpose: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], "train", purpose=purpose) from error
    except (RuntimeError, OSError) as error:  # torchcodec is there, FFmpeg's shared libraries are not
        raise ConfigError(
            f"{module.partition('.')[0]} cannot load FFmpeg's shared libraries",
            allowed="FFmpeg 4 to 8, installed so that the system's loader finds it",
            remedy="Install it (`apt install ffmpeg`), or use the backend 'pyav'",
        ) from error


def _read(video: bytes | str | Path) -> bytes:
    if isinstance(video, bytes):
        return video
    _, file = open_source(str(video))
    with file:
        data: bytes = file.read()
    return data
