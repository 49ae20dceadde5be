"""The judge: a vision-language model says of each annotated interaction whether a video shows it performed.

Blind: the question names neither the video's origin nor its maker, generated and real videos come mixed and in
shuffled order, and categories and verdicts stand in an order drawn for each question. Each question is asked twice,
the second time with both lists reversed, so that a leaning to early or late options is measured and cancels out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from annotators.vlm.answers import JudgeAnswer, Verdict, read_judge
from annotators.vlm.asking import Asker, Question, Unanswered
from annotators.vlm.backend import Picture
from annotators.vlm.questions import VERDICTS, judge_request
from annotators.vlm.windows import scaled
from schemas.errors import DatasetError, MediaError
from training.annotated import AnnotatedSample, Video, shown_frames
from training.compared import IN_THE_VIDEO
from training.isr import Answer, EvaluationError, Judged
from training.judging import Judging


@dataclass(frozen=True, eq=False)
class Scene:
    """Interaction `number` of `video`, in pictures."""

    video: Video
    number: int
    pictures: tuple[Picture, ...]
    judging: Judging

    @cached_property
    def orders(self) -> tuple[tuple[Sequence[str], Sequence[Verdict]], ...]:
        """Options and verdicts in an order that depends on the seed and the interaction alone, and in its reverse."""
        chance = random.Random(f"{self.judging.seed} {self.video.sample.entry.key} {self.number}")
        options = chance.sample(self.judging.options, len(self.judging.options))
        verdicts = chance.sample(VERDICTS, len(VERDICTS))
        return (options, verdicts), (options[::-1], verdicts[::-1])

    @cached_property
    def questions(self) -> tuple[Question[JudgeAnswer], ...]:
        """One for each order. Their keys, which tell the kind of video, are not shown to the judge."""
        sample = self.video.sample
        action = sample.actions[self.number]
        requests = [
            judge_request(
                f"{sample.entry.key}#{self.video.kind}-{turn}",
                self.number,
                self.pictures,
                part=sample.part,
                category=action.category,
                description=action.caption,
                categories=options,
                verdicts=verdicts,
                language=self.judging.language,
            )
            for turn, (options, verdicts) in enumerate(self.orders)
        ]
        return tuple(Question(request, read_judge) for request in requests)

    def joined(self, answers: Sequence[JudgeAnswer | Unanswered]) -> Judged:
        """The record, from the answers in both orders, or why there is none. Half an answer is none."""
        said = []
        for answer, (options, verdicts) in zip(answers, self.orders, strict=True):
            if isinstance(answer, Unanswered):
                return self.video.judged(self.number, unjudged=answer.why)
            said.append(
                Answer(
                    category=answer.category,
                    verdict=answer.verdict,
                    category_place=options.index(answer.category),
                    verdict_place=verdicts.index(answer.verdict),
                )
            )
        return self.video.judged(self.number, answers=said)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Judges videos.

    Attributes:
        asker: the model. What its cache holds is not asked again.
        judging: what it is shown.
        allow_missing: a generated video that is absent, broken or too short counts as "not performed" instead of
            ending the run.

    """

    asker: Asker
    judging: Judging
    allow_missing: bool = False

    def __call__(self, samples: Sequence[AnnotatedSample], generated: str, *, reference: bool = False) -> list[Judged]:
        """Every interaction of `samples` in the videos `generated`/KEY.mp4; with `reference`, in the real ones too.

        Before the first question every video is opened, so that what is missing is known before anything is spent.

        Raises:
            EvaluationError: generated videos are missing, broken or too short (unless `allow_missing`); or more than
                `max_unjudged` of the interactions are left without a usable answer, in either kind of video.
            DatasetError: a sample is damaged.
            OutageError: as the asker.

        """
        videos = [Video(sample, f"{generated.rstrip('/')}/{sample.entry.key}.mp4") for sample in samples]
        self._check_missing([each for video in videos for each in self._missing(video)])
        videos += [Video(sample) for sample in samples] if reference else []
        random.Random(self.judging.seed).shuffle(videos)
        total = sum(len(sample.actions) for sample in samples)
        judged: list[Judged] = []
        for start in range(0, len(videos), self.judging.together):
            judged += self._judge_together(videos[start : start + self.judging.together])
            self._check_unjudged(judged, total)
        return sorted(judged, key=lambda each: (each.video, each.key, each.number))

    def _missing(self, video: Video) -> list[Judged]:
        """What `video` cannot show, by its container."""
        try:
            return [each for each in self._look(video, decode=False) if isinstance(each, Judged)]
        except MediaError as error:
            return _all_missing(video, error)

    def _look(self, video: Video, *, decode: bool = True) -> Iterator[Scene | Judged]:
        """Each interaction of `video`, or the record that it is not there to be seen."""
        reader = video.open()
        times = video.times(reader)
        for number, action in enumerate(video.sample.actions):
            frames = shown_frames(times, action, video.sample, self.judging)
            if not frames:
                begins = action.start_frame / video.sample.fps
                yield video.judged(number, missing=f"it ends at {times[-1]:.2f} s; this begins at {begins:.2f} s")
            elif decode:
                pictures = [
                    Picture(scaled(image, max_side=self.judging.max_side), float(times[frame]))
                    for frame, image in zip(frames, reader.get(frames), strict=True)
                ]
                yield Scene(video, number, tuple(pictures), self.judging)

    def _judge_together(self, videos: Sequence[Video]) -> list[Judged]:
        scenes: list[Scene] = []
        judged: list[Judged] = []
        for video in videos:
            try:
                seen = list(self._look(video))
            except MediaError as error:
                seen = [*_all_missing(video, error)]
            scenes += [each for each in seen if isinstance(each, Scene)]
            judged += [each for each in seen if isinstance(each, Judged)]
        self._check_missing(judged)
        # Both orders side by side: a server that keeps prefixes reads the pictures, which come first, but once.
        answers = self.asker.ask([question for scene in scenes for question in scene.questions])
        return judged + [
            scene.joined([answers[question.request.key] for question in scene.questions]) for scene in scenes
        ]

    def _check_missing(self, missing: Sequence[Judged]) -> None:
        if missing and not self.allow_missing:
            raise EvaluationError(
                f"{len(missing)} interaction(s) are not in the generated videos: {_named(missing)}",
                allowed="a whole video KEY.mp4 for each test sample with interactions",
                remedy="Generate them; or judge only the first frames (`judging.frames`); or let them count as not "
                "performed (--allow-missing)",
            )

    def _check_unjudged(self, judged: Sequence[Judged], total: int) -> None:
        """Of the `total` interactions, few are unjudged in either kind of video."""
        for kind in ("generated", "reference"):
            unjudged = [each for each in judged if each.unjudged and each.video == kind]
            if len(unjudged) > self.judging.max_unjudged * total:
                raise EvaluationError(
                    f"{len(unjudged)} of {total} interactions in the {kind} videos are left without a usable answer: "
                    f"{_named(unjudged)}",
                    allowed=f"{self.judging.max_unjudged:.0%} at most (`judging.max_unjudged`)",
                    remedy="Use a judge that keeps to the form, or a server that constrains its answers; what it "
                    "answered well is kept",
                )


def _all_missing(video: Video, error: MediaError) -> list[Judged]:
    """Nothing of the video can be seen. Raises `error` if that does not lie in the video."""
    if error.code not in IN_THE_VIDEO:
        raise error
    if video.kind == "reference":
        raise DatasetError(f"the video does not decode ({error})", where=str(video.sample.entry)) from error
    return [video.judged(number, missing=error.what) for number in range(len(video.sample.actions))]


def _named(judged: Sequence[Judged], *, most: int = 10) -> str:
    told = [f"{each.key} {each.number} ({each.missing or each.unjudged:.200})" for each in judged[:most]]
    return "; ".join(told) + (f"; and {len(judged) - most} more" if len(judged) > most else "")
