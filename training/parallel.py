"""accelerate, as the settings want it: one process or many, and in which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from schemas.errors import ConfigError, MissingExtraError
from weights.torchvision_operators import declare_missing_operators

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.train_settings import ParallelSettings, TrainSettings

_BLOCKS = ["WanTransformerBlock", "WanVACETransformerBlock"]
"""What FSDP gathers at a time: blocks of the main stream, of the Context Blocks and of the Guider."""


def make_accelerator(settings: TrainSettings) -> Accelerator:
    """One for this process, in the group that `accelerate launch` or `torchrun` set up.

    Raises:
        ConfigError: FSDP without GPUs (accelerate would silently train with DDP), in one process, or unasked for.
        MissingExtraError: accelerate is not installed.

    """
    declare_missing_operators()
    try:
        from accelerate import Accelerator, DistributedType
    except ImportError as error:
        raise MissingExtraError("accelerate", "train", purpose="Training") from error
    has_gpu = torch.cuda.is_available()
    if settings.parallel.strategy == "fsdp" and not has_gpu:
        raise ConfigError("there is no GPU here", where="parallel.strategy", allowed="ddp on CPUs")
    sharded = settings.parallel.strategy == "fsdp"
    plugin = fsdp_plugin(settings.parallel, bf16=settings.precision == "bf16") if sharded else None
    accelerator = Accelerator(
        cpu=not has_gpu,
        mixed_precision="bf16" if settings.precision == "bf16" else "no",
        gradient_accumulation_steps=settings.accumulate,
        log_with=list(settings.logging.trackers) or None,
        project_dir=settings.out,
        fsdp_plugin=plugin,
    )
    if (accelerator.distributed_type == DistributedType.FSDP) != sharded:
        raise ConfigError(
            f"it is {settings.parallel.strategy}, and accelerate has set up {accelerator.distributed_type.value}",
            where="parallel.strategy",
            remedy="FSDP takes several processes, and is chosen here, not in accelerate's own config",
        )
    return accelerator


def prepare(accelerator: Accelerator, network: nn.Module, optimiser: Optimizer) -> tuple[nn.Module, Any]:
    """Model and optimiser as they are trained: on the device, dealt out, under autocast where precision is bf16."""
    model, prepared = accelerator.prepare(network, optimiser)
    if accelerator.is_fsdp2 and accelerator.mixed_precision == "bf16":
        # For DDP accelerate does the same. FSDP alone would also compute norms and sums in bfloat16.
        network.forward = torch.autocast(accelerator.device.type, torch.bfloat16)(network.forward)
    return model, prepared


def reshard(network: nn.Module) -> None:
    """Drop what FSDP has gathered: it keeps weights of the root up to a backward pass, even if their shards change."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def fsdp_plugin(settings: ParallelSettings, *, bf16: bool) -> Any:
    """The plugin of accelerate for FSDP2, `torch.distributed.fsdp.fully_shard`.

    Weights travel in bfloat16; gradients are summed in float32, in which what is trained is kept.
    """
    from accelerate import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=_BLOCKS,
        reshard_after_forward=settings.reshard,
        cpu_offload=settings.cpu_offload,
        mixed_precision_policy=MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
        ),
    )
