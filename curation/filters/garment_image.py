"""Garment image: load it, and see whether it is worth anything."""

from __future__ import annotations

import io
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curation.filters.blur import blur_of
from media.sources import read_source
from schemas.clip import Clip
from schemas.errors import MediaError
from schemas.metrics import Metric
from schemas.stage import Filter

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000")
"""What Pillow may open. For EPS it would run Ghostscript, and the rest are formats of games and scanners."""


class GarmentImage(Filter):
    """Loads the pair's garment image into the artifact `garment`, as upright 8-bit RGB on white.

    Measures and gives nothing for a pair without an image (`garment_crop` cuts one from the video); an image that
    cannot be read gives `garment_readable` 0 and no artifact.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("garment",)
    version: ClassVar[int] = 2
    metrics: ClassVar[dict[str, Metric]] = {
        "garment_readable": Metric("1 if the garment image can be read, else 0", "", (0, 1), (1, None)),
        "garment_short_side": Metric("shorter side of the garment image", "px", (1, None), (256, None)),
        "garment_contrast": Metric(
            "luma or colour range of the garment image without its extreme 1 %; a blank one has none",
            "levels",
            (0, 255),
            (16, None),
        ),
        "garment_blur": Metric("blur of the garment image, as the metric blur", "share", (0, 1), (None, 0.75)),
    }

    max_side: int = Field(default=2048, gt=0, description="Longer side in px to which a larger image is scaled down.")
    max_pixels: int = Field(
        default=100_000_000,
        gt=0,
        description="Images of more pixels are not decoded: a file of a few KB can hold billions.",
    )
    max_bytes: int = Field(default=200_000_000, gt=0, description="Files of more bytes are not read.")

    _last: tuple[str, NDArray[np.uint8] | None] = ("", None)

    def process(self, clip: Clip) -> None:
        """Load, then measure. Clips of one pair come in a row, so the last image is kept."""
        url = clip.pair.garment
        if url is not None:
            if self._last[0] != url:
                self._last = (url, self._load(url))
            if self._last[1] is not None:
                clip.artifacts["garment"] = self._last[1]
        super().process(clip)

    def measure(self, clip: Clip) -> dict[str, float]:
        """Nothing for a pair without an image; only `garment_readable` where it cannot be read."""
        import cv2

        if clip.pair.garment is None:
            return {}
        image = clip.artifacts.get("garment")
        if image is None:
            return {"garment_readable": 0.0}
        low, high = np.percentile(image[::2, ::2].reshape(-1, 3), (1, 99), axis=0)
        return {
            "garment_readable": 1.0,
            "garment_short_side": min(image.shape[:2]),
            "garment_contrast": float((high - low).max()),
            "garment_blur": blur_of(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)),
        }

    def _load(self, url: str) -> NDArray[np.uint8] | None:
        try:
            data = read_source(url, max_bytes=self.max_bytes)
        except MediaError as error:
            if error.code == "unreadable":  # the storage's fault, not the image's
                raise
            return None
        return decode_image(data, max_pixels=self.max_pixels, max_side=self.max_side)


def decode_image(data: bytes, *, max_pixels: int, max_side: int) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB, read-only; None if the bytes are no image, are damaged, or hold too many pixels.

    The EXIF orientation is applied, transparency laid on white, 16 bits scaled to 8, CMYK and palettes converted,
    and of an animation the first picture taken.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                return None
            upright = _to_rgb(ImageOps.exif_transpose(image))
    except Exception:  # noqa: BLE001  damaged files make Pillow's plugins raise anything, SyntaxError included
        return None
    upright.thumbnail((max_side, max_side))
    pixels = np.array(upright)
    pixels.flags.writeable = False
    return pixels


def _to_rgb(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        levels = np.asarray(image, dtype=np.float64)
        brightest = 65535.0 if image.mode.startswith("I") else max(1.0, float(levels.max()))
        image = Image.fromarray(np.clip(levels * (255.0 / brightest), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
