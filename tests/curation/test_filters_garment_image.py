"""Garment images as users have them: every format, and every way to be worthless."""

from __future__ import annotations

import io
import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.filters.garment_image import GarmentImage
from schemas import artifacts
from schemas.clip import Clip, Source, Span
from schemas.manifest import Pair
from tests.clips import shared


def clip_with(garment: Path | str | None) -> Clip:
    """A clip that is nothing but its pair."""
    pair = Pair(pair_id="pair", video="v.mp4", garment=None if garment is None else str(garment), part="upper")
    source = Source(
        url="v.mp4", container="mp4", codec="h264", pixel_format="yuv420p", width=2, height=2,
        frame_rate=Fraction(25), duration=None, size_bytes=None,
    )  # fmt: skip
    span = Span(
        first_frame=0, last_frame=0, first_pts=0, last_pts=0, time_base=Fraction(1, 25), fps=Fraction(25), frames=1,
        width=2, height=2, bytes=1,
    )  # fmt: skip
    return Clip(key="pair-00000000", pair=pair, source=source, span=span)


def load(garment: Path | str | None, **fields: int) -> Clip:
    clip = clip_with(garment)
    GarmentImage(**fields).process(clip)
    if "garment" in clip.artifacts:
        artifacts.check("garment", clip.artifacts["garment"], clip)
    return clip


def shirt(width: int = 300, height: int = 400) -> Image.Image:
    """Something with edges on white; its top left corner is red."""
    random = np.random.default_rng(1)
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] = random.integers(
        0, 255, (height - 2 * (height // 4), width - 2 * (width // 4), 3), np.uint8
    )
    pixels[: height // 8, : width // 8] = (255, 0, 0)
    return Image.fromarray(pixels)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims and holds as many pixels as you like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_a_pair_without_an_image_is_not_judged() -> None:
    clip = load(None)
    assert clip.metrics == {}
    assert "garment" not in clip.artifacts


@pytest.mark.parametrize(
    "content",
    [
        b"", b"not an image", b"<html>404</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", os.urandom(5000),
        png_of_size(100_000, 100_000), b"P6 9999999 9999999 255\n", b"GIF89a" + b"\xff" * 50, b"BM" + b"\0" * 60,
    ],
    ids=["empty", "text", "html", "png head", "jpeg head", "random", "bomb", "ppm bomb", "gif", "bmp"],
)  # fmt: skip
def test_what_is_no_image_is_dropped_as_unreadable(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "garment.png"
    file.write_bytes(content)
    clip = load(file)
    assert clip.metrics == {"garment_readable": 0}
    assert "garment" not in clip.artifacts
    drop = GarmentImage().decide(clip.metrics)
    assert drop
    assert drop.metric == "garment_readable"


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    assert load(tmp_path / "nowhere.png").metrics == {"garment_readable": 0}
    assert load(tmp_path).metrics == {"garment_readable": 0}


def test_half_a_jpeg_is_unreadable(tmp_path: Path) -> None:
    shirt().save(tmp_path / "whole.jpg", quality=95)
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    assert load(tmp_path / "half.jpg").metrics == {"garment_readable": 0}


def test_limits_are_settings(tmp_path: Path) -> None:
    shirt().save(tmp_path / "shirt.png")
    assert load(tmp_path / "shirt.png", max_pixels=300 * 400).metrics["garment_readable"] == 1
    assert load(tmp_path / "shirt.png", max_pixels=300 * 400 - 1).metrics["garment_readable"] == 0
    assert load(tmp_path / "shirt.png", max_bytes=1000).metrics["garment_readable"] == 0
    assert load(tmp_path / "shirt.png", max_side=200).artifacts["garment"].shape == (200, 150, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif"])
def test_every_usual_format_is_read(suffix: str, tmp_path: Path) -> None:
    image = shirt()
    image.save(tmp_path / f"shirt.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    garment = load(tmp_path / f"shirt.{suffix}").artifacts["garment"]
    assert garment.shape == (400, 300, 3)
    if suffix in ("png", "webp", "bmp", "tiff"):
        assert (garment == np.asarray(image)).all()
    else:
        assert garment[10, 10, 0] > 220 > 60 > garment[10, 10, 1]


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))])
def test_the_exif_orientation_is_applied(orientation: int, corner: tuple[int, int], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shirt().save(tmp_path / "shirt.jpg", exif=exif, quality=95)
    garment = load(tmp_path / "shirt.jpg").artifacts["garment"]
    assert garment.shape == ((400, 300, 3) if orientation in (1, 3) else (300, 400, 3))
    assert garment[corner][0] > 220 > 60 > garment[corner][1]


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    rgba = shirt().convert("RGBA")
    rgba.putalpha(Image.fromarray(np.where(np.arange(400)[:, None] < 200, 0, 255).repeat(300, 1).astype(np.uint8)))
    rgba.save(tmp_path / "rgba.png")
    garment = load(tmp_path / "rgba.png").artifacts["garment"]
    assert (garment[:200] == 255).all()
    assert (garment[200:] == np.asarray(shirt())[200:]).all()
    palette = Image.new("P", (300, 300), 0)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.paste(1, (100, 100, 200, 200))
    palette.save(tmp_path / "palette.png", transparency=0)
    garment = load(tmp_path / "palette.png").artifacts["garment"]
    assert tuple(garment[0, 0]) == (255, 255, 255)
    assert tuple(garment[150, 150]) == (200, 0, 0)


def test_sixteen_bits_cmyk_and_gray_become_rgb(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 300 * 300).reshape(300, 300)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "deep.png")
    garment = load(tmp_path / "deep.png").artifacts["garment"]
    assert np.abs(garment[..., 0].astype(float) - ramp / 257).max() <= 1
    shirt().convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    garment = load(tmp_path / "print.jpg").artifacts["garment"]
    assert np.abs(garment[10, 10].astype(int) - (255, 0, 0)).max() < 40
    shirt().convert("L").save(tmp_path / "gray.png")
    assert load(tmp_path / "gray.png").artifacts["garment"].shape == (400, 300, 3)


def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path) -> None:
    shirt().save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (300, 400), "blue")])
    assert load(tmp_path / "a.gif").artifacts["garment"][10, 10, 0] > 220


def test_fsspec_urls_are_read() -> None:
    import fsspec

    buffer = io.BytesIO()
    shirt().save(buffer, format="PNG")
    with fsspec.open("memory://garments/shirt.png", "wb") as file:
        file.write(buffer.getvalue())
    assert load("memory://garments/shirt.png").metrics["garment_readable"] == 1
    assert load("memory://garments/none.png").metrics["garment_readable"] == 0


@pytest.mark.parametrize("colour", ["white", "black", (120, 118, 121)])
def test_a_blank_image_has_no_contrast(colour: str | tuple[int, int, int], tmp_path: Path) -> None:
    Image.new("RGB", (600, 800), colour).save(tmp_path / "blank.jpg")
    drop = GarmentImage().decide(load(tmp_path / "blank.jpg").metrics)
    assert drop
    assert drop.metric == "garment_contrast"


def test_a_small_image_is_dropped(tmp_path: Path) -> None:
    shirt(200, 900).save(tmp_path / "small.png")
    drop = GarmentImage().decide(load(tmp_path / "small.png").metrics)
    assert drop
    assert (drop.metric, drop.value) == ("garment_short_side", 200)


@pytest.mark.parametrize("name", ["00057_00", "00126_00", "051985_1", "051990_1"])
def test_real_garments_stay_and_blur_grows(name: str, tmp_path: Path) -> None:
    import cv2

    file = shared(f"clips/vivid/cloth/{name}.jpg")
    metrics = load(file).metrics
    assert GarmentImage().decide(metrics) is None
    image = cv2.imread(str(file))
    values = [metrics["garment_blur"]]
    for sigma in (2, 4, 12):
        cv2.imwrite(str(tmp_path / "blurred.png"), cv2.GaussianBlur(image, (0, 0), sigma))
        values.append(load(tmp_path / "blurred.png").metrics["garment_blur"])
    assert values == sorted(values)
    assert GarmentImage().decide({**metrics, "garment_blur": values[-1]})


def test_the_last_image_is_kept_but_never_mistaken(tmp_path: Path) -> None:
    shirt().save(tmp_path / "a.png")
    Image.new("RGB", (300, 300), "green").save(tmp_path / "b.png")
    stage = GarmentImage()
    shapes = []
    for name in ("a", "a", "b", "nowhere", "a"):
        clip = clip_with(tmp_path / f"{name}.png")
        stage.process(clip)
        shapes.append(clip.artifacts["garment"].shape[0] if "garment" in clip.artifacts else None)
    assert shapes == [400, 400, 300, None, 400]
