"""Burned-in text: subtitles, price tags, watermarks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import weights
from curation.filters.sampling import SAMPLE_FPS, samples, spread
from schemas.clip import Clip
from schemas.errors import MissingExtraError
from schemas.metrics import Metric
from schemas.stage import Filter

Polygon = NDArray[np.float32]
THICKEST = 0.4
"""Lines of text thicker than this share of the picture's shorter side are panels and stripes that look like letters."""


class BurnedInText(Filter):
    """Area of text that lies on the picture rather than in the scene, read by RapidOCR (PP-OCR in ONNX).

    Text counts where its pixels stay as they are for `still_seconds` before or after the sample. So a logo on a
    garment counts only while its wearer stands stock-still, a shop sign only under a camera at rest; text that
    scrolls does not count either.
    """

    weights: ClassVar[tuple[str, ...]] = ("rapidocr_det", "rapidocr_rec")
    metrics: ClassVar[dict[str, Metric]] = {
        "text_share": Metric(
            "share of the picture covered by burned-in text, mean over the samples", "share", (0, 1), (None, 0.02)
        ),
    }

    count: int = Field(default=3, ge=1, description="Samples that are read, evenly spread over the clip.")
    side: int = Field(default=640, ge=64, description="Longer side in px of the picture that is read.")
    confidence: float = Field(default=0.6, ge=0, le=1, description="Recognition score from which letters are believed.")
    characters: int = Field(default=2, ge=1, description="Fewest characters in a line; edges are often read as one.")
    still_seconds: float = Field(default=1.0, gt=0, description="How long burned-in text stays in its place, at least.")
    sameness: float = Field(
        default=0.75, ge=-1, le=1, description="Correlation of edges from which text has stayed in its place."
    )
    threads: int = Field(default=1, ge=1, description="Threads that the models use.")

    _ocr: Any = None

    def setup(self) -> None:
        """Load the models.

        Raises:
            MissingExtraError: rapidocr is not installed.
            WeightsError: its models are absent, or not the ones that the registry names.

        """
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise MissingExtraError("rapidocr", "conditions", purpose="finding burned-in text") from error
        self._ocr = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Det.model_path": str(weights.path("rapidocr_det")),
                "Rec.model_path": str(weights.path("rapidocr_rec")),
                "Global.max_side_len": self.side,
                "Global.text_score": self.confidence,
                "Det.limit_type": "max",
                "Det.limit_side_len": self.side,
                "EngineConfig.onnxruntime.intra_op_num_threads": self.threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def measure(self, clip: Clip) -> dict[str, float]:
        """Read a few samples."""
        pictures = samples(clip).images
        gap = min(round(self.still_seconds * SAMPLE_FPS), len(pictures) - 1)
        shares = []
        for i in spread(len(pictures), self.count):
            others = [j for j in {i - gap, i + gap} - {i} if 0 <= j < len(pictures)]
            shares.append(self._overlaid(self._fit(pictures[i]), [self._fit(pictures[j]) for j in others]))
        return {"text_share": float(np.mean(shares))}

    def _fit(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        import cv2

        scale = min(1.0, self.side / max(picture.shape[:2]))
        return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    def _overlaid(self, picture: NDArray[Any], others: list[NDArray[Any]]) -> float:
        """Share of `picture` under lines of text that at least one of `others` shows at the same place."""
        import cv2

        covered = np.zeros(picture.shape[:2], dtype=np.uint8)
        for line in self._lines(picture):
            if not others or any(_sameness(picture, other, line) >= self.sameness for other in others):
                cv2.fillPoly(covered, [line.round().astype(np.int32)], 1)
        return float(covered.mean())

    def _lines(self, picture: NDArray[Any]) -> list[Polygon]:
        """Quadrilaterals (4, 2), x y in px, around lines of believable text."""
        import cv2

        read = self._ocr(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        texts = getattr(read, "txts", None) or ()
        boxes = [np.asarray(box, dtype=np.float32) for box in read.boxes[: len(texts)]] if texts else []
        thickest = THICKEST * min(picture.shape[:2])
        return [
            box
            for box, text in zip(boxes, texts, strict=True)
            if len(text.strip()) >= self.characters and min(cv2.minAreaRect(box)[1]) <= thickest
        ]


def _sameness(picture: NDArray[Any], other: NDArray[Any], line: Polygon) -> float:
    """Normalised correlation, -1..1, of the gradients inside the line's upright box.

    Gradients, not pixels: letters keep their edges while a person moves behind them.
    """
    height, width = picture.shape[:2]
    x0, y0 = np.clip(line.min(axis=0), 0, (width - 1, height - 1)).astype(int)
    x1, y1 = np.clip(np.ceil(line.max(axis=0)), (x0 + 1, y0 + 1), (width, height)).astype(int)
    ours, theirs = _gradients(picture[y0:y1, x0:x1]), _gradients(other[y0:y1, x0:x1])
    strength = np.sqrt((ours**2).sum() * (theirs**2).sum())
    return float((ours * theirs).sum() / strength) if strength else 1.0


def _gradients(picture: NDArray[Any]) -> NDArray[np.float32]:
    import cv2

    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.stack([cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)])
