"""The stage that labels clips by a vision-language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import PurePath
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from annotators import captions
from annotators.boundaries import Refinement, refine
from annotators.smoothing import VLM_SMOOTHING, Segment, Smoothing, as_labels, segments
from annotators.vlm import describing, prompts, timing
from annotators.vlm.answers import CaptionAnswer, GarmentAnswer
from annotators.vlm.asking import Asker, Talk, Unanswered
from annotators.vlm.backends import BackendSettings, open_backend
from annotators.vlm.cache import Cache
from annotators.vlm.describing import Described, Rules
from annotators.vlm.footage import Footage
from annotators.vlm.prompts import Language
from annotators.vlm.transformers_settings import TransformersSettings
from annotators.vlm.votes import FrameEvidence
from annotators.vlm.windows import Sampling
from schemas.annotation import DEFAULT_CATEGORIES, Annotation
from schemas.clip import Clip
from schemas.conditions import Contact, Pose
from schemas.errors import StageError
from schemas.stage import Stage

_PROMPTS: tuple[prompts.Name, ...] = ("system", "frames", "category", "garment", "caption", "repair")


class VlmLabels(Stage):
    """Gives the annotation by asking a vision-language model: who handles the garment when and how, and a caption.

    The model labels frames in overlapping windows; these labels, smoothed, are the segments. It is asked again, frame
    by frame, where they begin and end, and what is done in each. Without `garment`, `contact` or `pose` the clip is
    labelled without what these tell.
    """

    needs: ClassVar[tuple[str, ...]] = ("video",)
    uses: ClassVar[tuple[str, ...]] = ("garment", "contact", "pose")
    gives: ClassVar[tuple[str, ...]] = ("annotation",)

    time_limit: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds that one clip may take. Beyond, its worker is ended, and the clip fails.",
    )
    batch_clips: int = Field(
        default=32,
        ge=1,
        description="Clips of one call, each at its own pace: the model is idle at the end of a call only, while the "
        "last clips wait for their last answers.",
    )

    backend: BackendSettings = Field(
        description="Who answers: `{kind: openai, base_url: …, model: …}` is any OpenAI-compatible server, "
        "`{kind: transformers, model: FOLDER}` a model in the worker's own process; see docs/labels.md."
    )
    cache: str = Field(
        default="",
        description="Folder or fsspec URL in which answers are kept, so that none is paid for twice. Any number of "
        "workers and datasets may share it. Empty: only in the worker's memory.",
    )
    language: Language = Field(default="en", description="Of the questions: en or zh. Answers are in English.")
    sampling: Sampling = Field(default_factory=Sampling, description="How clips are shown to the model.")
    smoothing: Smoothing = Field(default=VLM_SMOOTHING, description="How probabilities become segments.")
    longest_unknown: float = Field(
        default=0.5, ge=0, description="Frames without a label are bridged between labels this far apart, in seconds."
    )
    frame_by_frame: bool = Field(
        default=True, description="Ask again, about every frame, where segments begin and end."
    )
    refinement: Refinement | None = Field(
        default_factory=Refinement,
        description="How contact evidence moves boundaries that the model leaves open; null: it moves none.",
    )
    segment_pictures: int = Field(default=8, ge=1, description="Pictures of a segment shown to tell what is done.")
    caption_pictures: int = Field(default=12, ge=1, description="Pictures of a clip shown to describe it.")
    categories: tuple[str, ...] = Field(
        default=DEFAULT_CATEGORIES, min_length=1, description="Categories of interaction that may be given."
    )
    fallback: str | None = Field(
        default=None,
        description="Category, one of `categories`, of segments that the model finds to be none of these; null drops "
        "them.",
    )
    required_parts: dict[str, tuple[str, ...]] = Field(
        default=describing.REQUIRED_PARTS,
        description=f"Category → parts of which the garment's picture has to show one: {', '.join(describing.PARTS)}.",
    )
    contradictions: Literal["drop", "review"] = Field(
        default="drop",
        description="Segments whose category the garment does not allow are dropped, or kept. Either way they are "
        "listed for review.",
    )

    _asker: Asker | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> VlmLabels:
        if self.fallback is not None and self.fallback not in self.categories:
            raise ValueError(f"fallback {self.fallback!r} is not one of the categories: {', '.join(self.categories)}")
        parts = {part for wanted in self.required_parts.values() for part in wanted}
        if unknown := sorted(parts - set(describing.PARTS)):
            raise ValueError(f"required_parts: no part {', '.join(unknown)}; there are {', '.join(describing.PARTS)}")
        return self

    @property
    def model_files(self) -> tuple[str, ...]:
        """The weights of a model in process."""
        return (self.backend.model,) if isinstance(self.backend, TransformersSettings) else ()

    def identity(self, weights_sha256: Mapping[str, str] | None = None) -> dict[str, Any]:
        """As of any stage. Where answers are kept, and how the backend is reached, changes none; prompts do."""
        identity = super().identity(weights_sha256)
        del identity["fields"]["cache"]
        identity["fields"]["backend"] = dict(self.backend.identity)
        return {**identity, "prompts": self._prompts}

    def talk(self, clip: Clip) -> Talk[Annotation]:
        """The conversation about one clip, which somebody holds: `asking.Asker`, or who wants to know what it costs."""
        footage = Footage.of(clip, max_side=self.sampling.max_side)
        evidence, garment, caption = yield from self._overview(clip, footage)
        evidence, found = yield from self._timed(clip, footage, evidence)
        described = yield from describing.describe(
            footage, found, garment=garment, rules=self._rules, pictures=self.segment_pictures, language=self.language
        )
        return self._annotation(evidence, found, described, caption=caption)

    @property
    def _rules(self) -> Rules:
        return Rules(self.categories, self.fallback, self.required_parts, self.contradictions)

    @property
    def _prompts(self) -> str:
        return prompts.fingerprint(*_PROMPTS, language=self.language)

    @property
    def labeller(self) -> str:
        """The model, and the prompts that it was asked with."""
        model = self.backend.model
        name = PurePath(model).name if PurePath(model).is_absolute() else model
        return f"{name}, prompts {self.language} {self._prompts}"

    def setup(self) -> None:
        """Open backend and cache."""
        self._asker = Asker(open_backend(self.backend), Cache(self.cache), language=self.language)

    def close(self) -> None:
        """Give back the backend's connections and memory. A worker that ends needs no such call."""
        if self._asker:
            self._asker.close()
        self._asker = None

    def process(self, clip: Clip) -> None:
        """Fill in `annotation`."""
        self.process_batch([clip])

    def process_batch(self, clips: Sequence[Clip]) -> None:
        """Fill in `annotation` of each.

        Raises:
            StageError: none of a clip's windows has an answer that can be used. What the others were answered is in the
                cache, so that nothing is asked anew when they are tried alone.

        """
        if self._asker is None:
            raise StageError("process() before setup()", where=self.name)
        for clip, said in zip(clips, self._asker.hold(map(self.talk, clips)), strict=True):
            if isinstance(said, Exception):
                raise said
            clip.artifacts["annotation"] = said

    def _overview(self, clip: Clip, footage: Footage) -> Talk[tuple[FrameEvidence, GarmentAnswer | None, str]]:
        """What the model says of each frame, of the garment's picture, and of the clip as a whole."""
        made = footage.plan(self.sampling)
        windows = timing.window_questions(footage, made, language=self.language)
        whole = describing.caption_question(footage, pictures=self.caption_pictures, language=self.language)
        worn = [
            describing.garment_question(footage, image, max_side=self.sampling.max_side, language=self.language)
            for image in [clip.artifacts.get("garment")]
            if image is not None
        ]
        said = yield [*windows, whole, *worn]
        answers = [said[question.request.key] for question in windows]
        evidence = timing.evidence_of(footage, made, answers, longest_unknown=self.longest_unknown)
        parts = [said[question.request.key] for question in worn]
        garment = next((answer for answer in parts if isinstance(answer, GarmentAnswer)), None)
        caption: CaptionAnswer | Unanswered = said[whole.request.key]
        if isinstance(caption, Unanswered):
            return evidence, garment, _measured_caption(clip, caption)
        return evidence, garment, caption.caption

    def _timed(
        self, clip: Clip, footage: Footage, evidence: FrameEvidence
    ) -> Talk[tuple[FrameEvidence, list[Segment]]]:
        """The segments, with their boundaries where the model and contact see them; and all that the model said."""
        fps = float(clip.span.fps)
        found = timing.segments_in(evidence, fps=fps, smoothing=self.smoothing)
        step = ceil(fps / self.sampling.rate)
        around = tuple(timing.boundaries(found, frames=len(footage), reach=max(step, self.sampling.window // 2)))
        said = np.where(evidence.known, evidence.probability, np.nan)
        closer = said if step == 1 else np.full(len(footage), np.nan)
        if step > 1 and self.frame_by_frame:
            closer = yield from timing.look_closer(footage, around, sampling=self.sampling, language=self.language)
        contact: Contact | None = clip.artifacts.get("contact")
        if contact and self.refinement:
            found = refine(found, contact.probability, fps=fps, refinement=self.refinement)
        told = np.where(np.isnan(closer), said, closer)
        return FrameEvidence(np.nan_to_num(told), ~np.isnan(told)), timing.settle(found, around, closer)

    def _annotation(
        self, evidence: FrameEvidence, found: Sequence[Segment], described: Sequence[Described], *, caption: str
    ) -> Annotation:
        frames = len(evidence.known)
        actions = tuple(each.action for each in described if each.action)
        labels = as_labels([(action.start_frame, action.end_frame) for action in actions], frames)
        nameless = [segment for segment, each in zip(found, described, strict=True) if each.unlabelled]
        unlabelled = (~evidence.known | np.array(as_labels(nameless, frames))) & ~np.array(labels)
        return Annotation(
            global_caption=caption,
            actions=actions,
            probabilities=tuple(np.round(evidence.probability, 4).tolist()),
            labels=labels,
            labeller=self.labeller,
            unlabelled=tuple(segments(unlabelled)),
            doubts=tuple(each.doubt for each in described if each.doubt),
        )


def _measured_caption(clip: Clip, answer: Unanswered) -> str:
    """What the pose tells of the person's motion, where the model says nothing that can be used."""
    pose: Pose | None = clip.artifacts.get("pose")
    if pose is None:
        raise StageError(f"no usable answer to what happens in the clip: {answer.why}", where=clip.key)
    return captions.global_caption(pose, fps=float(clip.span.fps))
