"""Small real media files in many containers, and ways of breaking them. Same seed, same bytes."""

from __future__ import annotations

import io
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

VIDEOS: dict[str, tuple[str, ...]] = {
    "h264.mp4": ("-c:v", "libx264", "-bf", "2", "-c:a", "aac", "-movflags", "+faststart"),
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-an"),
    "fragmented.mp4": ("-c:v", "libx264", "-g", "12", "-movflags", "+frag_keyframe+empty_moov", "-c:a", "aac"),
    "prores.mov": ("-c:v", "prores_ks", "-profile:v", "0", "-an"),
    "h264.mkv": ("-c:v", "libx264", "-bf", "2", "-c:a", "aac"),
    "h264.ts": ("-c:v", "libx264", "-g", "12", "-c:a", "aac"),
    "h264.flv": ("-c:v", "libx264", "-g", "12", "-c:a", "aac"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-q:v", "5", "-c:a", "mp2"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", "8", "-an"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "200k", "-an"),
    "av1.webm": ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-b:v", "200k", "-an"),
}
"""File name → how ffmpeg encodes it."""
IMAGES = ("plain.png", "plain.jpg", "turned.jpg", "cmyk.jpg", "deep.png", "animated.gif", "plain.webp", "plain.tiff")

INTERESTING = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x10000000)


@dataclass(frozen=True)
class Mutation:
    """A broken file: which one, how, and its bytes."""

    file: str
    kind: str
    seed: int
    data: bytes

    @property
    def name(self) -> str:
        """A file name with the same suffix as the sound file."""
        stem, _, suffix = self.file.rpartition(".")
        return f"{stem}-{self.kind}-{self.seed}.{suffix}"


def make_videos(folder: Path, recording: Path, *, seconds: float = 2.0, width: int = 160) -> dict[str, bytes]:
    """The beginning of `recording`, small, in each container of `VIDEOS`."""
    import imageio_ffmpeg

    made = {}
    for name, options in VIDEOS.items():
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(recording), "-f", "lavfi", "-i", "sine",
            "-map", "0:v", "-map", "1:a", "-t", str(seconds), "-vf", f"scale={width}:-2,fps=24",
            *(() if "prores" in name else ("-pix_fmt", "yuvj420p" if "mjpeg" in name else "yuv420p")),
            "-threads", "1", *options, str(folder / name),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        made[name] = (folder / name).read_bytes()
    return made


def make_images(picture: object) -> dict[str, bytes]:
    """`picture`, a PIL image, in each form of `IMAGES`."""
    from PIL import Image

    assert isinstance(picture, Image.Image)
    small = picture.convert("RGB").resize((160, 120))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    forms: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "plain.png": (small, "PNG", {}),
        "plain.jpg": (small, "JPEG", {}),
        "turned.jpg": (small, "JPEG", {"exif": exif}),
        "cmyk.jpg": (small.convert("CMYK"), "JPEG", {}),
        "deep.png": (small.convert("I;16"), "PNG", {}),
        "animated.gif": (small, "GIF", {"save_all": True, "append_images": [small.rotate(9)] * 3}),
        "plain.webp": (small, "WEBP", {}),
        "plain.tiff": (small, "TIFF", {"compression": "tiff_lzw"}),
    }
    made = {}
    for name in IMAGES:
        image, form, options = forms[name]
        buffer = io.BytesIO()
        image.save(buffer, format=form, **options)
        made[name] = buffer.getvalue()
    return made


def mutate(files: dict[str, bytes], count: int, *, first: int = 0) -> Iterator[Mutation]:
    """`count` mutations of the seeds from `first` on, dealt out evenly over files and kinds."""
    names = sorted(files)
    for seed in range(first, first + count):
        file = names[seed % len(names)]
        kind = list(KINDS)[seed // len(names) % len(KINDS)]
        chaos = random.Random(seed)
        others = [files[name] for name in names if name != file] or [files[file]]
        yield Mutation(file, kind, seed, KINDS[kind](files[file], chaos, chaos.choice(others)))


def _flip_bits(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    return _flipped(data, chaos, within=len(data))


def _flip_bits_of_header(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    return _flipped(data, chaos, within=2048)


def _flipped(data: bytes, chaos: random.Random, *, within: int) -> bytes:
    broken = bytearray(data)
    for _ in range(chaos.choice((1, 4, 16, 64))):
        broken[chaos.randrange(min(within, len(data)))] ^= 1 << chaos.randrange(8)
    return bytes(broken)


def _truncate(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    return data[: chaos.randrange(len(data))]


def _lose_beginning(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    return data[chaos.randrange(len(data)) :]


def _delete_chunk(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    start, end = _chunk(data, chaos)
    return data[:start] + data[end:]


def _double_chunk(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    start, end = _chunk(data, chaos)
    return data[:end] + data[start:end] * chaos.choice((1, 2, 10)) + data[end:]


def _blank_chunk(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    start, end = _chunk(data, chaos)
    filling = chaos.choice((bytes(end - start), b"\xff" * (end - start), chaos.randbytes(end - start)))
    return data[:start] + filling + data[end:]


def _splice(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    """A piece of another file in the middle of this one."""
    start, end = _chunk(other, chaos)
    at = chaos.randrange(len(data))
    return data[:at] + other[start:end] + data[at + chaos.choice((0, end - start)) :]


def _swap_chunks(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    a, b, c = sorted(chaos.randrange(len(data)) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _extreme_numbers(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    """32-bit fields of the header set to the ends of their range."""
    broken = bytearray(data)
    for _ in range(chaos.choice((1, 2, 8))):
        at = chaos.randrange(max(1, min(4096, len(data) - 4)))
        broken[at : at + 4] = struct.pack(chaos.choice("><") + "I", chaos.choice(INTERESTING))
    return bytes(broken)


def _box_fields(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    """Sizes and first fields (counts, durations, dimensions) of mp4 boxes; elsewhere as `_extreme_numbers`."""
    places = [at for name in _BOXES for at in _occurrences(data, name)]
    if not places:
        return _extreme_numbers(data, chaos, other)
    broken = bytearray(data)
    for _ in range(chaos.choice((1, 2, 4))):
        at = chaos.choice(places) + chaos.choice((-4, 4, 8, 12, 16, 20, 24))
        broken[max(0, at) : max(0, at) + 4] = struct.pack(">I", chaos.choice(INTERESTING))
    return bytes(broken[: len(data)])


def _packets(data: bytes, chaos: random.Random, other: bytes) -> bytes:
    """Packets of a transport stream deleted, doubled and swapped; elsewhere pieces of 188 bytes just the same."""
    packets = [data[start : start + 188] for start in range(0, len(data), 188)]
    for _ in range(chaos.choice((1, 5, 50))):
        at, to = chaos.randrange(len(packets)), chaos.randrange(len(packets))
        change = chaos.randrange(3)
        if change == 0 and len(packets) > 1:
            del packets[at]
        elif change == 1:
            packets.insert(to, packets[at])
        else:
            packets[at], packets[to % len(packets)] = packets[to % len(packets)], packets[at]
    return b"".join(packets)


_BOXES = (
    b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"hdlr", b"minf", b"stbl",
    b"stsd", b"avc1", b"avcC", b"hvc1", b"hvcC", b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"mdat",
    b"moof", b"traf", b"tfhd", b"trun", b"mvex", b"trex", b"sidx",
)  # fmt: skip


def _occurrences(data: bytes, name: bytes) -> Iterator[int]:
    at = data.find(name)
    while at >= 0:
        yield at
        at = data.find(name, at + 1)


def _chunk(data: bytes, chaos: random.Random) -> tuple[int, int]:
    start = chaos.randrange(len(data))
    return start, min(len(data), start + chaos.choice((1, 8, 188, 1024, len(data) // 4 + 1)))


KINDS: dict[str, Callable[[bytes, random.Random, bytes], bytes]] = {
    "flip_bits": _flip_bits,
    "flip_bits_of_header": _flip_bits_of_header,
    "truncate": _truncate,
    "lose_beginning": _lose_beginning,
    "delete_chunk": _delete_chunk,
    "double_chunk": _double_chunk,
    "blank_chunk": _blank_chunk,
    "splice": _splice,
    "swap_chunks": _swap_chunks,
    "extreme_numbers": _extreme_numbers,
    "box_fields": _box_fields,
    "packets": _packets,
}
