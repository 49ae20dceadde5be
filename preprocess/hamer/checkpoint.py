"""HaMeR's published files: the network in `hamer.ckpt`, its sizes in `model_config.yaml`."""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from preprocess.hamer.network import HamerNetwork, Sizes
from schemas.errors import WeightsError
from weights.checkpoints import load_strictly

_OURS = ("backbone.", "mano_head.")


class _Part(BaseModel):
    """A part of the config. Keys that say nothing of the network as it runs are let be."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class BackboneConfig(_Part):
    """`TYPE: vit` is ViT-H; the published config gives no sizes, so these keys are ours, for other networks."""

    TYPE: Literal["vit"]
    EMBED_DIM: int = Field(1280, gt=0)
    DEPTH: int = Field(32, gt=0)
    NUM_HEADS: int = Field(16, gt=0)


class DecoderConfig(_Part):
    """Sizes of the head's transformer, under the names of the published config."""

    dim: int = Field(1024, gt=0)
    depth: int = Field(6, gt=0)
    heads: int = Field(8, gt=0)
    dim_head: int = Field(64, gt=0)
    mlp_dim: int = Field(1024, gt=0)
    context_dim: int | None = Field(None, gt=0)
    norm: Literal["layer"] = "layer"


class HeadConfig(_Part):
    """Whatever would make the head compute something else than `network.ManoHead` does is refused."""

    TYPE: Literal["transformer_decoder"] = "transformer_decoder"
    TRANSFORMER_INPUT: Literal["zero"] = "zero"
    JOINT_REP: Literal["6d"] = "6d"
    IEF_ITERS: Literal[1] = 1
    TRANSFORMER_DECODER: DecoderConfig = DecoderConfig()


class NetworkConfig(_Part):
    """What the network takes, and its parts."""

    IMAGE_SIZE: Literal[256] = 256
    BACKBONE: BackboneConfig
    MANO_HEAD: HeadConfig = HeadConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> NetworkConfig:
        dim, heads = self.BACKBONE.EMBED_DIM, self.BACKBONE.NUM_HEADS
        context = self.MANO_HEAD.TRANSFORMER_DECODER.context_dim
        if context not in (None, dim):
            raise ValueError(f"TRANSFORMER_DECODER.context_dim is {context}, the backbone's width {dim}")
        if dim % heads:
            raise ValueError(f"the backbone's width {dim} is no multiple of its {heads} heads")
        return self


class ExtraConfig(_Part):
    """The camera."""

    FOCAL_LENGTH: float = Field(5000.0, gt=0)


class HamerConfig(_Part):
    """`model_config.yaml`, as far as running the network needs it."""

    MODEL: NetworkConfig
    EXTRA: ExtraConfig = ExtraConfig()

    @property
    def sizes(self) -> Sizes:
        """How large the network is."""
        backbone, decoder = self.MODEL.BACKBONE, self.MODEL.MANO_HEAD.TRANSFORMER_DECODER
        return Sizes(
            dim=backbone.EMBED_DIM, depth=backbone.DEPTH, heads=backbone.NUM_HEADS, decoder_dim=decoder.dim,
            decoder_depth=decoder.depth, decoder_heads=decoder.heads, decoder_head_dim=decoder.dim_head,
            decoder_mlp=decoder.mlp_dim,
        )  # fmt: skip

    @property
    def focal(self) -> float:
        """Focal length of the crop's camera, in px of the crop."""
        return self.EXTRA.FOCAL_LENGTH


def read_config(file: Path) -> HamerConfig:
    """The config in `file`. Raises `WeightsError` where it is no YAML, or of another network."""
    try:
        return HamerConfig.model_validate(yaml.safe_load(file.read_bytes()))
    except yaml.YAMLError as error:
        raise WeightsError(f"this is no YAML: {error}", where=str(file)) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'all'}: {fault['msg']}" for fault in error.errors())
        raise WeightsError(
            f"the config is not of a HaMeR network that runs here: {faults}", where=str(file),
            remedy="Take the model_config.yaml that lies beside hamer.ckpt",
        ) from error  # fmt: skip


def load_network(
    checkpoint: Path, config: HamerConfig, *, device: torch.device, dtype: torch.dtype = torch.float32
) -> HamerNetwork:
    """The network of `checkpoint` on `device`, its backbone in `dtype`, ready to run.

    The sizes are the config's, never guessed from the tensors, so that a checkpoint that lacks a layer is found out.
    Of the checkpoint's state dict all but `backbone.*` and `mano_head.*` (discriminator, MANO) is for training.

    Raises:
        WeightsError: the file is no checkpoint, or its keys are not those of this network.

    """
    values = read_state_dict(checkpoint)
    with torch.device("meta"):
        network = HamerNetwork(config.sizes)
    network.backbone.to(dtype)
    network.to_empty(device=device)  # float32 weights are 2.7 GB: they are filled in once, from the mapped file
    load_strictly(network, {name: value for name, value in values.items() if name.startswith(_OURS)}, where=checkpoint)
    return network.requires_grad_(requires_grad=False).eval()


def read_state_dict(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Tensors of the `state_dict` of a Lightning checkpoint, without running what else is in it.

    Optimisers, callbacks and configs (yacs) may be pickled beside the tensors: inert stubs stand for them.

    Raises:
        WeightsError: the file is no checkpoint.

    """
    try:
        read = torch.load(
            checkpoint, map_location="cpu", weights_only=False, pickle_module=_INERT,
            mmap=zipfile.is_zipfile(checkpoint),
        )  # fmt: skip
    except Exception as error:  # of damaged bytes torch raises whatever comes
        raise WeightsError(f"this is no checkpoint: {type(error).__name__}: {error}", where=str(checkpoint)) from error
    state = read.get("state_dict") if isinstance(read, Mapping) else None
    if not isinstance(state, Mapping):
        raise WeightsError("the checkpoint has no state_dict", where=str(checkpoint))
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


class _Inert(dict[Any, Any]):
    """Stands for whatever is pickled beside the tensors: takes all that unpickling does to it, and does nothing."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __call__(self, *_: object) -> _Inert:
        return self

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    append = extend = add = __setstate__
    __hash__ = object.__hash__  # type: ignore[assignment]


_ADMITTED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class _InertUnpickler(pickle.Unpickler):
    """Makes tensors, of which torch itself brings the storages, and stubs of everything else."""

    def find_class(self, module: str, name: str) -> Any:
        return _ADMITTED.get((module, name), _Inert)


def _load_inert(file: Any, **options: Any) -> Any:
    return _InertUnpickler(file, **options).load()


_INERT = SimpleNamespace(__name__=__name__, Unpickler=_InertUnpickler, load=_load_inert)
"""What `torch.load` takes for a pickle module."""
