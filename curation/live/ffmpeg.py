"""The ffmpeg binary on a live stream: it copies the pictures into files of its own, and reports every packet."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto,rtmp,rtmps"
"""What addresses, and the playlists behind them, may have FFmpeg open: no file, no pipe, no other machine's disk."""
FORMATS = "hls,mpegts,mov,flv,live_flv,matroska,aac,ac3,eac3,mp3,webvtt"
"""What may be behind an address: streams, and what HLS playlists are made of. No scripts, no lists of files."""

# ffmpeg dies with the thread that started it, also if that is killed. `subprocess` offers this to a fork only, which
# is not safe where other threads run.
_LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_LIST = "closed.txt"
_ADDRESS = re.compile(r"\[?[\w#/]+ @ 0x[0-9a-f]+\] ")
_SKIPPED = re.compile(r"skipping \d+ segments ahead|Media sequence changed|Failed to open segment")
_UNTOLD = ("corrupt", "Last message repeated")


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of the video stream.

    Attributes:
        dts: decoding time from the begin of the connection, in seconds.
        pts: presentation time from the begin of the connection, in seconds.
        duration: in seconds; 0 where the stream does not say.
        size: in bytes.
        digest: hash of its bytes, 24 hex digits.

    """

    dts: float
    pts: float
    duration: float
    size: int
    digest: str


class Connection:
    """One run of ffmpeg on the stream at `address`, which it copies into `folder`/`name`-000000.ts and so on.

    MPEG-TS, because a file of it is good up to where it is cut, whatever killed its writer.

    Args:
        address: http(s) or rtmp(s).
        folder: where the files go.
        name: first part of their names.
        segment_seconds: length of a file; it goes on to the next keyframe.
        hls: whether to give ffmpeg what only its HLS reader takes.
        environment: of ffmpeg.

    Attributes:
        format: what the stream came in, by FFmpeg's name; "" until it is known.
        complete: whether it is an HLS playlist that said, at the begin, that nothing will be added to it.
        skipped: ffmpeg's words on the last part that it had to leave out; "" if there was none.
        trouble: what ffmpeg warned of last, since the last packet.

    """

    def __init__(
        self,
        address: str,
        *,
        folder: Path,
        name: str,
        segment_seconds: float,
        hls: bool,
        environment: Mapping[str, str],
    ) -> None:
        self._folder, self._name = folder, name
        self.format, self.complete, self.skipped = "", False, ""
        self.trouble = ""
        self._report = _Report()
        self._process = _start(_command(address, name, segment_seconds, hls), folder, environment)
        self._lines = {stream: _Lines(stream) for stream in (self._process.stdout, self._process.stderr) if stream}
        self._selector = selectors.DefaultSelector()
        for stream in self._lines:
            self._selector.register(stream, selectors.EVENT_READ)

    @property
    def running(self) -> bool:
        """Whether ffmpeg runs, or has words that were not read yet."""
        return bool(self._selector.get_map())

    @property
    def succeeded(self) -> bool:
        """Whether ffmpeg came to the end of the stream by itself."""
        return self._process.poll() == 0

    def read(self, seconds: float) -> list[Packet]:
        """Packets that have come; waits for `seconds` if there are none."""
        packets: list[Packet] = []
        ready: list[Any] = [key.fileobj for key, _ in self._selector.select(seconds)]
        for stream in sorted(ready, key=lambda stream: stream is self._process.stdout):  # what it is, before packets
            lines = self._lines[stream].read()
            if lines is None:
                self._selector.unregister(stream)
            elif stream is self._process.stdout:
                packets += filter(None, map(self._report.packet, lines))
            else:
                for line in lines:
                    self._hear(line)
        if packets:
            self.trouble = ""
        return packets

    def closed(self) -> list[Path]:
        """Files that are complete, in order."""
        try:
            lines = (self._folder / f"{self._name}-{_LIST}").read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [self._folder / line for line in lines]

    def files(self) -> list[Path]:
        """All files that it began, in order."""
        return sorted(self._folder.glob(f"{self._name}-*.ts"))

    def stop(self) -> list[Packet]:
        """End ffmpeg, and give the packets that were still to be read.

        By force: where a playlist does not go on, it is deaf to gentler signals. What it reported is in its file, which
        needs no end.
        """
        packets: list[Packet] = []
        self._process.kill()
        self._process.wait()
        while self.running:
            packets += self.read(0)
        for stream in self._lines:
            stream.close()
        (self._folder / f"{self._name}-{_LIST}").unlink(missing_ok=True)
        return packets

    def _hear(self, line: str) -> None:
        words = _ADDRESS.sub("", line)
        level, _, words = words.partition("] ")
        if words.startswith("Input #0, "):
            self.format = words.split(", ")[1]
        elif words.startswith("  Duration: ") and self.format == "hls":
            self.complete = not words.startswith("  Duration: N/A")
        if level in ("[warning", "[error", "[fatal") and not any(untold in words for untold in _UNTOLD):
            self.trouble = words[:300]
        if _SKIPPED.search(words):
            self.skipped = words[:300]


class _Report:
    """Lines of ffmpeg's `framehash`."""

    def __init__(self) -> None:
        self._time_base = Fraction(1)

    def packet(self, line: str) -> Packet | None:
        """The packet that `line` tells of."""
        if line.startswith("#tb 0: "):
            self._time_base = Fraction(line[7:])
        if line.startswith("#"):
            return None
        _, dts, pts, duration, size, digest = (field.strip() for field in line.split(",")[:6])
        decoded, shown, lasts = (float(int(value) * self._time_base) for value in (dts, pts, duration))
        return Packet(decoded, shown, lasts, int(size), digest[:24])


class _Lines:
    """Whole lines of a pipe."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._rest = stream, b""

    def read(self) -> list[str] | None:
        """Lines that are there, or None at the end of the pipe."""
        data = os.read(self._stream.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-(1 << 16) :]
        return [line.decode(errors="replace") for line in lines] if data else None


def cut(file: Path, *, begin: float) -> None:
    """Remove what lies before the first keyframe at or after `begin`, in seconds from the file's begin."""
    import ffmpeg

    shorter = file.with_suffix(".cut")
    source = ffmpeg.input(f"file:{file}", protocol_whitelist="file", format_whitelist="mpegts")
    target = source.output(f"file:{shorter}", ss=f"{begin:.6f}", c="copy", f="mpegts").overwrite_output()
    arguments = target.global_args("-nostdin", "-loglevel", "error").get_args()
    done = _start(arguments, file.parent, os.environ)
    done.communicate()
    shorter.replace(file) if done.returncode == 0 else shorter.unlink(missing_ok=True)


def measure(file: Path) -> list[Packet]:
    """The video packets that can be read from `file`; none if it is no video."""
    import ffmpeg

    source = ffmpeg.input(f"file:{file}", protocol_whitelist="file", format_whitelist="mpegts")
    target = source.output("pipe:1", c="copy", f="framehash", hash="md5", map="0:v:0")
    arguments = target.global_args("-nostdin", "-loglevel", "error").get_args()
    out, _ = _start(arguments, file.parent, os.environ).communicate()
    report = _Report()
    return [packet for line in out.decode().split("\n")[:-1] if (packet := report.packet(line))]


def _command(address: str, name: str, segment_seconds: float, hls: bool) -> list[str]:
    import ffmpeg

    options: dict[str, Any] = {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}
    if hls:  # by default ffmpeg takes a playlist for ended that does not go on
        options |= {"max_reload": 2**31 - 1, "m3u8_hold_counters": 2**31 - 1}
    source = ffmpeg.input(address, **options)
    pictures_only: dict[str, Any] = {"an": None, "sn": None, "dn": None, "c": "copy"}
    files = source.output(
        f"{name}-%06d.ts", **pictures_only, f="segment", segment_time=segment_seconds, reset_timestamps=1,
        segment_format="mpegts", segment_format_options="flush_packets=1",
        segment_list=f"{name}-{_LIST}", segment_list_type="flat",
    )  # fmt: skip
    report = source.output("pipe:1", **pictures_only, f="framehash", hash="md5", flush_packets=1)
    both = ffmpeg.merge_outputs(files, report)
    arguments: list[str] = both.global_args(
        "-nostdin", "-nostats", "-hide_banner", "-loglevel", "level+info"
    ).get_args()
    return arguments


def _start(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    import imageio_ffmpeg

    leash = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid())]
    return subprocess.Popen(
        [*leash, imageio_ffmpeg.get_ffmpeg_exe(), *arguments],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pipesize=1 << 20,  # some minutes of words: ffmpeg must not wait for us while we store a segment
        start_new_session=True,  # Ctrl-C on the terminal is for the driver
    )


def looks_like_hls(address: str) -> bool:
    """Whether the name of the address is that of a playlist."""
    return urlsplit(address).path.lower().endswith((".m3u8", ".m3u"))
