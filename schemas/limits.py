"""How far a recording is trusted: what it may cost to open and decode, whatever its bytes claim."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

CONTAINERS = (
    "mp4", "matroska", "mpegts", "mpeg", "flv", "live_flv", "kux", "avi", "asf", "ogg", "rm", "mxf", "gxf", "nut",
    "ivf", "dv", "wtv", "dhav", "yuv4mpegpipe", "gif", "apng",
    "h264", "hevc", "obu", "av1", "m4v", "mpegvideo", "mjpeg",  # bare streams
    "mp3", "aac", "wav", "flac",  # sound alone: opened, so that the error can say so
)  # fmt: skip


class Limits(BaseModel):
    """Limits on one recording. Beyond one of them reading ends with a `MediaError` that names it.

    They are far above what recordings of people need, and change no clip: they end what would never have ended.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    containers: tuple[str, ...] = Field(
        default=CONTAINERS,
        min_length=1,
        description="Container formats that may be opened, by FFmpeg's names. Leave out playlists and session "
        "descriptions, which have FFmpeg open other files and addresses.",
    )
    max_pixels: int = Field(
        default=8192 * 4320,
        ge=16,
        le=2**31 - 1,
        description="Pixels of one frame, before it is scaled down; a decoder holds up to some 20 frames.",
    )
    max_hours: float = Field(
        default=48.0, gt=0, description="Length of what is read, in hours, by the frames' times and not the header."
    )
    max_frames: int = Field(
        default=20_000_000,
        ge=1,
        description="Frames of what is read; 48 hours at 115 a second. A few bytes can be one.",
    )
    max_streams: int = Field(default=64, ge=1, description="Streams: video, sound, subtitles, attachments.")
    max_stalled_mb: int = Field(
        default=512, ge=8, description="Data read in a row without a video packet in it: an index, sound, garbage."
    )
    max_stalled_seconds: float = Field(
        default=300.0, gt=0, description="Opening a recording, or reading from one video packet to the next."
    )
    max_stalled_packets: int = Field(
        default=50_000, ge=100, description="Video packets in a row that give no frame; half an hour at 30 a second."
    )
