"""Smoothing of labels, by simulation: how near segments come to the truth, before and after.
`python -m benchmarks.smoothing [table | choose] [--hours H] [--rate R] [--window N] [--stride N] [--share S]`.

**Truth**: segments of 0.5 to 5 s (log-normal, median 1.5 s) that fill 7.5 % of a long film, at least 1 s apart.
**Labels**: `--rate` a second, asked in overlapping windows and joined as the labelling stage does it (`votes.join`).
**Noise**: wrong labels come in runs of 1 to 3 labels, equally often: a model slips for a frame or two; when it is wrong
for as long as a true segment lasts, no smoothing can tell (the rows of long runs show that). 12 of the 15 % are a
window's own, 3 % the same in all windows that show the frame, since the picture itself deceives. A wrong answer is
less sure than a right one (log-odds: gamma of mean 1.2 against 3), and windows differ in how sure they are of
everything (factor: log-normal of sigma 0.5); `hard` answers are 0 or 1.

`table` prints frame F1 and the median distance of boundaries from the true ones, in labelling steps: before smoothing,
after it, and after refinement by contact evidence that is right; and after smoothing, the share of true segments missed
and the number of invented ones per true one. `choose` searches the settings for VLM_SMOOTHING by the mean F1 over all
kinds of noise but the long runs.
"""

from __future__ import annotations

import argparse
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from annotators.boundaries import Refinement, refine
from annotators.smoothing import VLM_SMOOTHING, Bools, Segment, Smoothing, as_labels, segments, smooth
from annotators.vlm.backend import Picture
from annotators.vlm.votes import INTERACTIVE, join, upsample
from annotators.vlm.windows import Plan, Sampling, Window, labelling_frames, window_runs

Values = NDArray[np.float64]
LONGEST_UNKNOWN = 0.5
"""Seconds without a label that are bridged."""
SHARE = 0.075
"""Of the frames that are interactive: 5 to 10 % in the paper's dataset."""


@dataclass(frozen=True)
class Noise:
    """What is wrong with the answers.

    Attributes:
        flips: share of a window's labels that are wrong one by one.
        bursts: share of a window's labels that are wrong in runs of `lengths`.
        shared: the same, of runs that all windows have in common.
        lengths: of runs, in labels; each equally often.
        lag: boundaries are seen up to this many steps too early or too late, by all windows.
        missed: share of windows that give no answer.
        hard: answers are 0 or 1.

    """

    flips: float = 0.0
    bursts: float = 0.0
    shared: float = 0.0
    lengths: tuple[int, ...] = (1, 2, 3)
    lag: int = 0
    missed: float = 0.0
    hard: bool = False


BURSTS = Noise(bursts=0.124, shared=0.03)
"""15 % of the labels of a window are wrong: 1 - (1 - 0.124) (1 - 0.03)."""
NOISES = {
    "none": Noise(),
    "none, answers 0 or 1": Noise(hard=True),
    "15 % flips": Noise(flips=0.15),
    "15 % in bursts": BURSTS,
    "15 % in bursts, answers 0 or 1": replace(BURSTS, hard=True),
    "15 % in bursts, all shared": Noise(shared=0.15),
    "15 % in bursts of 1 to 6": replace(BURSTS, lengths=(1, 2, 3, 4, 5, 6)),
    "15 % in bursts of 4 to 12": replace(BURSTS, lengths=tuple(range(4, 13))),
    "boundaries ± 2 steps": Noise(lag=2),
    "20 % of windows missed": Noise(missed=0.2),
    "15 % in bursts, ± 1 step, 2 % missed": replace(BURSTS, lag=1, missed=0.02),
}


@dataclass(frozen=True, eq=False)
class Film:
    """T frames of which the truth is known: (T,) bool, true where interactive."""

    truth: Bools
    fps: float

    @property
    def times(self) -> Values:
        return np.arange(len(self.truth)) / self.fps


def made_film(rng: np.random.Generator, *, fps: float, seconds: float, share: float = SHARE) -> Film:
    """A film with segments on `share` of its frames."""
    count = int(seconds)
    lengths = np.exp(rng.normal(np.log(1.5), 0.6, count)).clip(0.5, 5)
    gaps = 1 + rng.exponential(lengths.mean() * (1 - share) / share - 1, count)
    ends = np.cumsum(gaps + lengths)
    ends = ends[ends < seconds - 1]
    found = [(round((end - length) * fps), round(end * fps) - 1) for end, length in zip(ends, lengths, strict=False)]
    return Film(np.array(as_labels(found, int(seconds * fps))), fps)


def labelled(rng: np.random.Generator, film: Film, noise: Noise, sampling: Sampling) -> Values:
    """(T,) probability of each frame, NaN where unknown: asked in windows, joined, carried over to the frames."""
    frames = labelling_frames(film.times, rate=sampling.rate)
    runs = window_runs(len(frames), size=sampling.window, stride=sampling.stride)
    answers = list(answered(rng, seen(rng, film.truth[frames], lag=noise.lag), noise, runs))
    blank = Picture(np.zeros((1, 1, 3), np.uint8), 0.0)
    times = film.times[frames]
    plan = Plan(frames, times, np.arange(len(frames)), (blank,) * len(frames), tuple(Window((run,)) for run in runs))
    joined = join(plan, answers)
    evidence = upsample(film.times, labelled=times, probabilities=joined, longest_unknown=LONGEST_UNKNOWN)
    return np.where(evidence.known, evidence.probability, np.nan)


def seen(rng: np.random.Generator, truth: Bools, *, lag: int) -> Bools:
    """(N,) bool: the truth, each boundary moved by up to `lag` labels."""
    found = segments(truth)
    moved = rng.integers(-lag, lag + 1, (len(found), 2))
    shifted = [(max(0, a + da), max(a + da, b + db)) for (a, b), (da, db) in zip(found, moved.tolist(), strict=True)]
    return np.array(as_labels(shifted, len(truth)))


def answered(rng: np.random.Generator, truth: Bools, noise: Noise, runs: list[range]) -> Iterator[list[float] | None]:
    """For each window, the probability of each of its pictures; None: no answer."""
    shared = bursts(rng, len(truth), share=noise.shared, lengths=noise.lengths)
    for run in runs:
        size = len(run)
        wrong = bursts(rng, size, share=noise.bursts, lengths=noise.lengths) | shared[run.start : run.stop]
        wrong |= rng.random(size) < noise.flips
        label = truth[run.start : run.stop] ^ wrong
        odds = np.where(wrong, rng.gamma(2, 0.6, size), rng.gamma(4, 0.75, size)) * np.exp(rng.normal(0, 0.5))
        sure = np.full(size, np.inf) if noise.hard else odds
        probabilities = 1 / (1 + np.exp(np.where(label, -sure, sure)))
        yield None if rng.random() < noise.missed else probabilities.tolist()


def bursts(rng: np.random.Generator, count: int, *, share: float, lengths: tuple[int, ...]) -> Bools:
    """(count,) bool: runs of `lengths` that make up `share` on average, at least one false between two."""
    if not share:
        return np.zeros(count, bool)
    pause = np.mean(lengths) * (1 - share) / share
    skipped = int(3 * pause)  # so that the first label is as likely within a run as any
    pairs = (count + skipped) // (1 + min(lengths)) + 1
    both = np.stack([rng.geometric(1 / pause, pairs), rng.choice(lengths, pairs)], axis=1)
    return np.repeat(np.tile([False, True], pairs), both.ravel())[skipped : skipped + count]


def contact_of(rng: np.random.Generator, film: Film) -> Values:
    """(T, 2) contact evidence that is right: either hand works, changes within a few frames, and is never sure."""
    from scipy import ndimage

    ramp = ndimage.gaussian_filter1d(film.truth.astype(float), 1.5)
    works = np.zeros((len(film.truth), 2))
    for start, end in segments(film.truth):
        works[max(0, start - 6) : end + 7, rng.integers(2)] = 1
    return (0.1 + 0.8 * ramp[:, None] * works + rng.normal(0, 0.08, works.shape)).clip(0, 1)


@dataclass(frozen=True)
class Score:
    """How near found segments are to the true ones.

    Attributes:
        f1: of the frames.
        boundary: median distance of boundaries, in labelling steps, over true segments that one found overlaps.
        missed: share of true segments that none overlaps.
        invented: found segments that overlap no true one, per true one.

    """

    f1: float
    boundary: float
    missed: float
    invented: float


def score(film: Film, found: list[Segment], *, rate: float) -> Score:
    """Compare segments with the truth of a film."""
    labels = np.array(as_labels(found, len(film.truth)))
    true = segments(film.truth)
    first, last = [segment[0] for segment in found], [segment[1] for segment in found]
    distances: list[float] = []
    for start, end in true:
        near = range(bisect_left(last, start), bisect_right(first, end))
        if near:
            best = max(near, key=lambda i: min(end, last[i]) - max(start, first[i]))
            distances += [abs(start - first[best]), abs(end - last[best])]
    invented = sum(not film.truth[start : end + 1].any() for start, end in found)
    return Score(
        f1=2 * np.count_nonzero(labels & film.truth) / max(1, labels.sum() + film.truth.sum()),
        boundary=float(np.median(distances)) * rate / film.fps if distances else np.inf,
        missed=1 - len(distances) / 2 / len(true),
        invented=invented / len(true),
    )


def raw(probabilities: Values) -> list[Segment]:
    """Segments without smoothing: every run of frames that count as interactive."""
    return segments(probabilities >= INTERACTIVE)


def scores(rng: np.random.Generator, film: Film, noise: Noise, sampling: Sampling) -> tuple[Score, Score, Score]:
    """Before smoothing, after it, and after refinement by contact."""
    probabilities = labelled(rng, film, noise, sampling)
    smoothed = smooth(probabilities, fps=film.fps, smoothing=VLM_SMOOTHING)
    refined = refine(smoothed, contact_of(rng, film), fps=film.fps, refinement=Refinement())
    before, after, last = (score(film, found, rate=sampling.rate) for found in (raw(probabilities), smoothed, refined))
    return before, after, last


def table(rng: np.random.Generator, films: list[Film], sampling: Sampling) -> None:
    """Print the figures per kind of noise, as means over the films."""
    print("| labels | F1 before | F1 | F1, contact | boundary before | boundary | contact | missed | invented |")
    print("| --- |" + " --- |" * 8)
    for name, noise in NOISES.items():
        results = [scores(rng, film, noise, sampling) for film in films]
        f1 = np.mean([[score.f1 for score in steps] for steps in results], axis=0)
        rest = [[*(score.boundary for score in steps), steps[1].missed, steps[1].invented] for steps in results]
        cells = [*(f"{value:.3f}" for value in f1), *(f"{value:.2f}" for value in np.mean(rest, axis=0))]
        print(f"| {name} | {' | '.join(cells)} |")


def choose(rng: np.random.Generator, films: list[Film], sampling: Sampling, *, shown: int = 12) -> None:
    """Print the settings with the best mean F1 over all kinds of noise, but bursts as long as true segments."""
    kinds = [noise for noise in NOISES.values() if max(noise.lengths) <= 3]
    inputs = [(film, labelled(rng, film, noise, sampling)) for film in films for noise in kinds]
    found = []
    for average, high, spike, gap, shortest in product(
        (0, 0.2, 0.3, 0.4, 0.5, 0.6), (0.5, 0.6, 0.7, 0.8), (0, 0.1, 0.3), (0.15, 0.25, 0.4), (0.3, 0.4, 0.45)
    ):
        setting = Smoothing(average=average, high=high, low=0.5, spike=spike, gap=gap, shortest=shortest)
        results = [
            score(film, smooth(values, fps=film.fps, smoothing=setting), rate=sampling.rate).f1
            for film, values in inputs
        ]
        found.append((float(np.mean(results)), float(np.min(results)), setting))
    for mean, least, setting in sorted(found, key=lambda row: -row[0])[:shown]:
        print(f"F1 {mean:.4f}, least {least:.3f}: {setting}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "choose"), nargs="?", default="table")
    parser.add_argument("--hours", type=float, default=1.0, help="of film, at each of 24, 25 and 30 frames a second")
    parser.add_argument("--rate", type=float, default=Sampling().rate)
    parser.add_argument("--window", type=int, default=Sampling().window)
    parser.add_argument("--stride", type=int, default=Sampling().stride)
    parser.add_argument("--share", type=float, default=SHARE, help="of the frames that are interactive")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    films = [made_film(rng, fps=fps, seconds=asked.hours * 3600, share=asked.share) for fps in (24, 25, 30)]
    sampling = Sampling(rate=asked.rate, window=asked.window, stride=asked.stride)
    {"table": table, "choose": choose}[asked.what](rng, films, sampling)


if __name__ == "__main__":
    main()
