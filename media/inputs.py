"""Opens recordings: what container and which video stream, with every failure as a typed error."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from media.sources import open_bytes, open_source
from media.watch import Watch
from schemas.errors import MediaError, OutageError
from schemas.limits import Limits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

DEFAULT_LIMITS = Limits()
_MANY_STREAMS = 1000  # where FFmpeg itself stops; below, they are opened and counted
_FORMATS_WITH_CLOCK_JUMPS = {"mpegts", "mpeg", "flv", "live_flv", "rtp_mpegts"}


class Input:
    """An open recording: FFmpeg's container and the video stream in it that a player would show.

    Args:
        video: path or fsspec URL of a video file, or its bytes.
        limits: what opening and reading it may cost.

    Raises:
        MediaError: missing, empty, refused, not_media, no_video, unreadable, too_large, too_many_streams, stalled.

    """

    container: InputContainer
    stream: VideoStream

    def __init__(self, video: str | Path | bytes, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.url = f"<{len(video)} bytes>" if isinstance(video, bytes) else str(video)
        self.limits = limits
        # FFmpeg gets a file object, never a name, so that its own protocols stay out.
        self.size_bytes, file = open_bytes(video) if isinstance(video, bytes) else open_source(self.url)
        self._file = self.watch = Watch(file, url=self.url, limits=limits)
        try:
            self.container = _open_container(self.url, self._file, limits)
            self._check_streams()
            self.stream = self._shown_stream()
            self._limit_decoder()
        except BaseException:  # Ctrl-C too: nobody else knows of the open file yet
            self.close()
            raise
        self.stream.thread_type = "AUTO"

    @property
    def codec_name(self) -> str:
        """The codec's own name, whichever decoder reads it."""
        return self.stream.codec_context.codec.canonical_name

    @property
    def clock_may_jump(self) -> bool:
        """Whether the container is of a kind whose clock is known to jump and wrap (broadcast streams)."""
        return self.container.format.name in _FORMATS_WITH_CLOCK_JUMPS

    @property
    def shows_in_decoding_order(self) -> bool:
        """Whether the container stores no presentation times, so that FFmpeg's are guesses (AVI)."""
        return self.container.format.name == "avi"

    def close(self) -> None:
        """Close the container and the file below it. May be called twice."""
        if (container := getattr(self, "container", None)) is not None:
            container.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_streams(self) -> None:
        if (count := len(self.container.streams)) > self.limits.max_streams:
            raise MediaError(
                f"it has {count} streams",
                code="too_many_streams",
                where=self.url,
                allowed=f"{self.limits.max_streams}",
                remedy="Copy those that are needed to a file of their own, or raise `ingest.limits.max_streams`",
            )

    def _shown_stream(self) -> VideoStream:
        import av

        candidates = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None
        ]
        if not candidates:
            kinds = sorted({str(stream.type) for stream in self.container.streams}) or ["none"]
            raise MediaError(
                f"there is no video stream, only: {', '.join(kinds)}",
                code="no_video",
                where=self.url,
                remedy="Give a recording with pictures",
            )
        best = self.container.streams.best("video")
        return best if best in candidates else candidates[0]

    def _limit_decoder(self) -> None:
        width, height = self.stream.width, self.stream.height
        if width * height > self.limits.max_pixels:
            raise MediaError(
                f"its pictures have {width}×{height} pixels",
                code="too_large",
                where=self.url,
                allowed=f"{self.limits.max_pixels:,} pixels",
                remedy="If it is sound, raise `ingest.limits.max_pixels`",
            )
        # Pictures may be larger than the container says, and grow on the way: the decoder refuses them one by one.
        self.stream.codec_context.options = {"max_pixels": str(self.limits.max_pixels)}


def _open_container(url: str, file: Watch, limits: Limits) -> InputContainer:
    import av

    options = {
        "format_whitelist": ",".join(limits.containers),
        "protocol_whitelist": "none",  # session descriptions would have FFmpeg open sockets of its own
        "max_pixels": str(limits.max_pixels),
        "max_streams": str(max(_MANY_STREAMS, limits.max_streams + 1)),
    }
    try:
        container = av.open(
            file, "r", metadata_errors="ignore", buffer_size=1 << 18, io_open=_refuse,
            options=options, timeout=(limits.max_stalled_seconds, None),
        )  # fmt: skip
    except (MediaError, OutageError):
        raise
    except av.error.ExitError as error:  # FFmpeg asked whether to go on, in the middle of probing
        raise file.stalled(f"{limits.max_stalled_seconds:g} s went by", "max_stalled_seconds") from error
    except (av.error.FFmpegError, ValueError, _AnotherFile) as error:
        if _begins_as_mp4(file):
            raise MediaError(
                "the mp4 holds no readable index (moov), so it is cut off or damaged",
                code="truncated",
                where=url,
                remedy="Fetch or record it again",
            ) from error
        raise MediaError(
            f"this is no recording in a container that may be opened ({type(error).__name__})",
            code="not_media",
            where=url,
            allowed=f"{', '.join(limits.containers)} (`ingest.limits.containers`)",
        ) from error
    except Exception as error:  # raised by the file object: every file system has error types of its own
        raise MediaError(f"reading failed: {error}", code="unreadable", where=url) from error
    return container


class _AnotherFile(Exception):  # noqa: N818 -- never leaves this file
    pass


def _refuse(url: str, *_: object) -> Any:
    """Playlists name further files and addresses to open: a hostile one could make us read anything."""
    raise _AnotherFile(url)


def _begins_as_mp4(file: Watch) -> bool:
    file.progress()
    file.seek(0)
    return file.read(12)[4:8] == b"ftyp"
