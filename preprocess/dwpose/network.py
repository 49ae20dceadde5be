"""An ONNX network whose input is pictures: its form checked, put on a device, and fed many pictures at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from preprocess.dwpose.open_batch import open_batch
from schemas.errors import ConfigError, MissingExtraError, WeightsError

Device = Literal["auto", "cpu", "cuda"]
Float32 = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_ONCE = 4
"""Most pictures that a CPU works on at a time: each takes memory of its own, several hundred MB in a large network."""
_ALIKE = 0.01
"""Of the largest number, by which a network may answer otherwise to two pictures at once; GPUs round by the batch."""
_CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Tensor:
    """Name and shape of an input or output, float32; the batch axis, which comes first, is left out."""

    name: str
    shape: tuple[int, ...]

    def fits(self, name: str, kind: str, shape: Sequence[int | str | None]) -> bool:
        """Whether this is what onnxruntime says of a tensor. An axis that it has no number for fits any."""
        if (name, kind) != (self.name, "tensor(float)") or len(shape) != 1 + len(self.shape):
            return False
        axes = zip(shape[1:], self.shape, strict=True)
        return all(given == wanted for given, wanted in axes if isinstance(given, int))

    def __str__(self) -> str:
        return _described(self.name, "tensor(float)", ("N", *self.shape))


@dataclass(frozen=True)
class Signature:
    """What a network takes and gives: one input, of pictures, and one output or several; it may give more."""

    input: Tensor
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        return f"input {self.input}; outputs {', '.join(map(str, self.outputs))}"


class Network:
    """A network of a given `Signature`, on CPU or GPU.

    A GPU takes `batch` pictures at a time. A file exported for one picture is opened to more, if its answers stay the
    same; if not, it is given one at a time. A CPU gains nothing from batches: there threads work on a picture each.

    Args:
        file: ONNX.
        signature: what it has to take and give.
        device: "auto" is CUDA where onnxruntime has it and it works.
        batch: most pictures a call on a GPU.

    Raises:
        WeightsError: the file is no ONNX network, or of another signature.
        ConfigError: CUDA is asked for, and there is none.
        MissingExtraError: onnxruntime is not installed.

    """

    def __init__(self, file: Path, signature: Signature, *, device: Device = "auto", batch: int = 16) -> None:
        self.signature = signature
        self._file = file
        self._threads = available_threads()
        self._session = self._load(file, device)
        fixed = self._check_signature()
        on_gpu = _CUDA in self._session.get_providers()
        if device == "cuda" and not on_gpu:
            raise ConfigError("onnxruntime cannot use the GPU (its log says why)", where=str(file), allowed="auto, cpu")
        if on_gpu and fixed == 1 and batch > 1 and (opened := self._opened(device)):
            self._session, fixed = opened, None
        self._fixed = fixed
        self._batch = fixed or (batch if on_gpu else 1)
        self._at_once = 1 if on_gpu else min(self._threads, _AT_ONCE)

    def map(
        self,
        items: Sequence[Item],
        prepare: Callable[[Item], Float32],
        read: Callable[[Item, tuple[Float32, ...]], Result],
    ) -> Iterator[Result]:
        """What the network makes of each item, in order; nothing is kept of the items before.

        Args:
            items: of any kind, a picture each.
            prepare: an item's picture, as the input without its batch axis. Called from several threads.
            read: takes an item and the outputs for it, without their batch axis. Called from several threads.

        Raises:
            WeightsError: outputs have another shape than declared, or hold NaN or infinity.

        """
        chunks = [items[start : start + self._batch] for start in range(0, len(items), self._batch)]
        with ThreadPoolExecutor(self._threads) as preparing, ThreadPoolExecutor(self._at_once) as running:
            waiting: deque[Future[list[Result]]] = deque()

            def run(chunk: Sequence[Item], pictures: list[Future[Float32]]) -> list[Result]:
                outputs = self._run(np.stack([picture.result() for picture in pictures]))
                return [read(item, of) for item, of in zip(chunk, outputs, strict=False)]

            for chunk in chunks:
                waiting.append(running.submit(run, chunk, [preparing.submit(prepare, item) for item in chunk]))
                if len(waiting) > self._at_once + 1:  # so that the next ones are ready, but not all in memory
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _load(self, network: Path | bytes, device: Device) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "conditions", purpose="DWPose") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, self._threads // _AT_ONCE)
        options.log_severity_level = 3  # errors; below it are notes on the graph
        providers: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu" and _CUDA in onnxruntime.get_available_providers():
            onnxruntime.preload_dlls()  # CUDA's libraries, where torch brought them
            # A search would be made for each N; and memory is not taken by doubling, since others share the GPU.
            options_of_cuda = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
            providers.insert(0, (_CUDA, options_of_cuda))
        try:
            return onnxruntime.InferenceSession(network, options, providers=providers)
        except Exception as error:  # onnxruntime raises classes of its own, some of them bare Exceptions
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(f"onnxruntime cannot load this file: {reason}", where=str(self._file)) from error

    def _run(self, pictures: Float32) -> Iterator[tuple[Float32, ...]]:
        """Outputs for (N, ...) pictures, one tuple for each."""
        count = len(pictures)
        if self._fixed and count < self._fixed:
            pictures = np.concatenate([pictures, np.zeros((self._fixed - count, *pictures.shape[1:]), np.float32)])
        outputs = self._answers(self._session, pictures)
        for tensor, output in zip(self.signature.outputs, outputs, strict=True):
            if output.shape != (len(pictures), *tensor.shape):
                raise self._unlike(f"gave {tensor.name} of shape {output.shape}")
            if not np.isfinite(output[:count]).all():
                raise WeightsError(f"the network gave NaN or infinity as {tensor.name}", where=str(self._file))
        return zip(*(output[:count] for output in outputs), strict=True)

    def _answers(self, session: Any, pictures: Float32) -> list[Float32]:
        names = [tensor.name for tensor in self.signature.outputs]
        answers: list[Float32] = session.run(names, {self.signature.input.name: pictures})
        return answers

    def _check_signature(self) -> int | None:
        """Size of the batch that the file fixes; None where it leaves it open."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        wanted = [(self.signature.input, inputs), *((tensor, outputs) for tensor in self.signature.outputs)]
        if len(inputs) != 1 or not all(
            any(tensor.fits(of.name, of.type, of.shape) for of in given) for tensor, given in wanted
        ):
            ins, outs = (", ".join(_described(of.name, of.type, of.shape) for of in side) for side in (inputs, outputs))
            raise self._unlike(f"has input {ins or 'none'}; outputs {outs or 'none'}")
        fixed = inputs[0].shape[0]
        return fixed if isinstance(fixed, int) else None

    def _opened(self, device: Device) -> Any | None:
        """The network open to any number of pictures; None if it then fails or answers otherwise."""
        pictures = np.random.default_rng(0).uniform(0, 255, (2, *self.signature.input.shape)).astype(np.float32)
        try:
            opened = self._load(open_batch(self._file.read_bytes()), device)
            together = self._answers(opened, pictures)
        except Exception:  # noqa: BLE001 - whatever does not fit more than one picture: the file is used as it is
            return None
        alone = [self._answers(self._session, picture[None]) for picture in pictures]
        same = (
            one.shape == both.shape and np.abs(one - both).max() <= _ALIKE * np.abs(one).max()
            for one, both in zip(map(np.concatenate, zip(*alone, strict=True)), together, strict=True)
        )
        return opened if all(same) else None

    def _unlike(self, what: str) -> WeightsError:
        return WeightsError(f"the network {what}", where=str(self._file), allowed=str(self.signature))


def available_threads() -> int:
    """Threads that this process is meant to use: `OMP_NUM_THREADS`, which Ray sets to a worker's share, or its CPUs."""
    if (share := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():
        return max(1, int(share))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _described(name: str, kind: str, shape: Sequence[int | str | None]) -> str:
    axes = ", ".join("?" if axis is None else str(axis) for axis in shape)
    return f"{name} {'float32' if kind == 'tensor(float)' else kind} ({axes})"
