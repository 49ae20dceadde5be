"""Opens recordings: local paths and fsspec URLs, with every failure as a typed error."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from schemas.errors import MediaError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Playlists name further files and addresses to open: a hostile one could make us read anything.
_PLAYLISTS = {"hls", "concat", "dash", "sdp", "rtsp", "imf"}
_FORMATS_WITH_CLOCK_JUMPS = {"mpegts", "mpeg", "flv", "live_flv", "rtp_mpegts"}


class Input:
    """An open recording: FFmpeg's container and the video stream in it that a player would show.

    Args:
        url: path or fsspec URL of a video file.

    Raises:
        MediaError: missing, empty, not_media, no_video, unreadable.
    """

    container: InputContainer
    stream: VideoStream

    def __init__(self, url: str) -> None:
        self.url = url
        self.size_bytes, self._file = _open_bytes(url)
        try:
            self.container = _open_container(url, self._file)
            self.stream = self._shown_stream()
        except BaseException:
            self.close()
            raise
        self.stream.thread_type = "AUTO"

    @property
    def clock_may_jump(self) -> bool:
        """Whether the container is of a kind whose clock is known to jump and wrap (broadcast streams)."""
        return self.container.format.name in _FORMATS_WITH_CLOCK_JUMPS

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

    def _shown_stream(self) -> VideoStream:
        import av

        candidates = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None
        ]
        if not candidates:
            kinds = sorted({stream.type for stream in self.container.streams}) or ["none"]
            raise MediaError(
                f"there is no video stream, only: {', '.join(kinds)}",
                code="no_video",
                where=self.url,
                remedy="Give a recording with pictures",
            )
        best = self.container.streams.best("video")
        return best if best in candidates else candidates[0]


def _open_bytes(url: str) -> tuple[int | None, Any]:
    """Size and open binary file of `url`. A file object, never a name: so FFmpeg's own protocols stay out."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        if filesystem.isdir(path) and not filesystem.isfile(path):
            raise MediaError("this is a folder, not a video", code="missing", where=url, remedy="Name one file")
        file = filesystem.open(path, "rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError(
            "there is no such file", code="missing", where=url, remedy="Check the path in the manifest"
        ) from error
    except (OSError, ValueError, ImportError) as error:  # ImportError: the protocol's package is not installed
        raise MediaError(f"cannot be opened: {error}", code="unreadable", where=url) from error
    size = getattr(file, "size", None)
    if size is None and file.seekable():
        size = file.seek(0, 2)
        file.seek(0)
    if size == 0:
        file.close()
        raise MediaError("the file is empty", code="empty", where=url, remedy="Fetch or record it again")
    return size, file


def _open_container(url: str, file: Any) -> InputContainer:
    import av

    try:
        container = av.open(file, "r", metadata_errors="ignore", buffer_size=1 << 18)
    except (av.error.FFmpegError, ValueError) as error:
        if truncated := _lacks_index(file):
            raise MediaError(
                "the mp4 ends before its index (moov)", code="truncated", where=url, remedy="Fetch or record it again"
            ) from error
        raise MediaError(
            f"no video container that FFmpeg knows ({error.__class__.__name__})" if not truncated else "",
            code="not_media",
            where=url,
            allowed="any container that FFmpeg reads",
        ) from error
    names = set(container.format.name.split(","))
    if names & _PLAYLISTS or container.format.name.endswith("_pipe") or "image2" in names:
        container.close()
        raise MediaError(
            f"a {container.format.long_name}, not a recording", code="not_media", where=url, allowed="a video file"
        )
    return container


def _lacks_index(file: Any) -> bool:
    """Whether the file begins as an mp4 does; asked only when its index was not found."""
    file.seek(0)
    return file.read(12)[4:8] == b"ftyp"


def is_local(url: str) -> bool:
    """Whether `url` is a path of this machine."""
    return "://" not in url or url.startswith("file://")


def local_path(url: str) -> Path:
    """`url` as a path, for a URL that `is_local`."""
    return Path(url.removeprefix("file://"))
