"""The model on a tiny checkpoint, of the same classes as the published ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from schemas.errors import ConfigError
from tests.training.model.build import backbone_alone, conditions, latents, model, opened, settings, video_segments
from training.model.backbone import vace_transformer
from training.model.inputs import Captions, Conditions
from training.model.itryon import ITryOn
from training.model.settings import ModelSettings


def gradients(network: ITryOn, given: Conditions, *, batch: int = 2) -> dict[str, Tensor]:
    """Of a loss on velocity, and on garment attention where it is measured; by parameter."""
    network.zero_grad()
    velocity, attention = network(*latents(batch=batch), given)
    loss = velocity.square().mean() + (0 if attention is None else attention.nansum())
    loss.backward()
    return {name: part.grad for name, part in network.named_parameters() if part.requires_grad}


@pytest.mark.parametrize("train", ["branch", "full", "lora"])
@pytest.mark.parametrize("guider_start", ["context_blocks", "random"])
def test_before_training_it_is_the_backbone(base: Path, train: str, guider_start: str):
    given = conditions(actions=False)
    network = model(base, train=train, guider_start=guider_start, text_length=512)

    expected = backbone_alone(base, *latents(), given, text_length=512)
    assert torch.equal(network(*latents(), given).velocity, expected)
    assert expected.abs().mean() > 0.1  # of something


@pytest.mark.parametrize("positions", ["rerope", "none"])
def test_before_training_and_without_actions_no_scheme_changes_it(base: Path, positions: str):
    given = conditions(actions=False)

    expected = backbone_alone(base, *latents(), given, text_length=12)
    assert torch.equal(model(base, positions=positions)(*latents(), given).velocity, expected)


def test_the_guider_learns_from_the_first_step_and_all_of_it_from_the_second(base: Path):
    network = model(base)
    first = gradients(network, conditions())
    assert all(first[f"guider.blocks.{i}.proj_out.weight"].abs().max() > 0 for i in range(2))
    torch.optim.SGD(network.trainable_parameters(), lr=0.1).step()

    second = gradients(network, conditions())
    idle = [name for name, gradient in second.items() if name.startswith("guider.") and not gradient.any()]
    # A bias of keys adds the same to all scores of a query, but for rounding; so it may be idle, and only it.
    assert {name.rsplit(".", 2)[-2] for name in idle} <= {"to_k"}


def test_the_guider_starts_from_the_context_blocks_or_anew(base: Path):
    copied, anew = model(base), model(base, guider_start="random")

    assert torch.equal(copied.guider.blocks[1].ffn.net[2].weight, copied.backbone.vace_blocks[1].ffn.net[2].weight)
    assert torch.equal(copied.guider.patch_embedding.weight, copied.backbone.patch_embedding.weight)
    same = [
        name
        for name, drawn in anew.guider.named_parameters()
        if torch.equal(drawn, copied.get_parameter(f"guider.{name}"))
    ]
    constant = ("proj_out", "norm")  # zeros; ones and zeros
    assert not [name for name in same if not any(part in name for part in constant)]


def test_hands_matter_once_the_guider_is_trained(base: Path):
    network, given = opened(model(base)), conditions()
    other = replace(given, hands=given.hands.flip(-1))

    assert not torch.allclose(network(*latents(), given).velocity, network(*latents(), other).velocity)


def test_without_guider_there_is_none_and_hands_do_not_matter(base: Path):
    network, given = model(base, guider=False), conditions()
    other = replace(given, hands=torch.zeros(0))

    assert not [name for name, _ in network.named_parameters() if name.startswith("guider")]
    assert torch.equal(network(*latents(), given).velocity, network(*latents(), other).velocity)


@pytest.mark.parametrize("train", ["branch", "full", "lora"])
@pytest.mark.parametrize("guider", [True, False])
def test_every_parameter_that_trains_is_used(base: Path, train: str, guider: bool):
    network = model(base, train=train, guider=guider)

    assert not [name for name, gradient in gradients(network, conditions()).items() if gradient is None]


@pytest.mark.parametrize(
    ("train", "parts"),
    [
        (
            "branch",
            {"backbone.vace_blocks", "backbone.vace_patch_embedding", "guider.blocks", "guider.patch_embedding"},
        ),
        ("lora", {"backbone.blocks", "backbone.vace_blocks", "guider.blocks", "guider.patch_embedding"}),
    ],
)
def test_what_trains(base: Path, train: str, parts: set[str]):
    network = model(base, train=train)
    training = [name for name, parameter in network.named_parameters() if parameter.requires_grad]

    assert {".".join(name.split(".")[:2]) for name in training} == parts
    assert all(".lora_" in name for name in training if train == "lora" and name.startswith("backbone."))
    assert len(network.trainable_parameters()) == len(training)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("train", ["branch", "full"])
def test_checkpointing_changes_no_gradient(base: Path, keep: bool, train: str):
    fields = {"garment_attention": {"layers": (1, 3), "queries": 2}, "train": train, "keep_attention": keep}
    plain, saving = (
        gradients(opened(model(base, gradient_checkpointing=on, **fields)), conditions()) for on in (False, True)
    )

    assert plain.keys() == saving.keys()
    assert not [name for name in plain if not torch.equal(plain[name], saving[name])]


def test_checkpointing_keeps_less_for_backward(base: Path):
    def kept(checkpointing: bool) -> int:
        network, sizes = model(base, gradient_checkpointing=checkpointing), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
            network(*latents(), conditions())
        return sum(sizes)

    assert kept(True) < kept(False) / 2


@pytest.mark.parametrize(("keep", "again"), [(True, 0), (False, 7)])
def test_self_attention_that_is_kept_is_not_computed_again(base: Path, keep: bool, again: int):
    """Of 4 main blocks, 2 Context Blocks and 2 of the Guider; the first main block gets no gradient."""
    network = model(base, gradient_checkpointing=True, keep_attention=keep)
    with SelfAttentions() as forward:
        loss = network(*latents(), conditions()).velocity.square().mean()
    with SelfAttentions() as backward:
        loss.backward()

    assert (forward.count, backward.count) == (8, again)


class SelfAttentions(TorchDispatchMode):
    """Counts how often attention is computed, with as many keys as queries."""

    count = 0

    def __torch_dispatch__(self, operation: Any, _: Any, inputs: tuple[Any, ...] = (), options: Any = None) -> Any:
        name = str(operation)
        if "scaled_dot_product" in name and "backward" not in name and inputs[0].shape[2] == inputs[1].shape[2]:
            self.count += 1
        return operation(*inputs, **(options or {}))


@pytest.mark.parametrize("positions", ["a_rope", "rerope"])
def test_when_the_action_is_tells(base: Path, positions: str):
    given = conditions()
    later = replace(given, segments=replace(given.segments, frames=torch.tensor([[-1, 0, 0, 0, 1]] * 2)))

    network, blind = model(base, positions=positions), model(base, positions="none")
    assert not torch.allclose(network(*latents(), given).velocity, network(*latents(), later).velocity)
    assert torch.equal(blind(*latents(), given).velocity, blind(*latents(), later).velocity)


def test_turned_keys_and_queries_give_the_attention_worked_out_by_hand(base: Path):
    network, given = model(base), conditions()
    attention = network.backbone.blocks[1].attn2
    seen = {}
    attention.register_forward_hook(lambda _, inputs, output: seen.update(inputs=inputs, output=output))
    with torch.no_grad():
        network(*latents(), given)
    video, text = seen["inputs"][:2]

    def turned(x: Tensor, position: Tensor) -> Tensor:
        """(B, n, H, d) as complex numbers, each pair of channels one, times e^(i·position·10000^(-2j/d))."""
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        angle = position[..., None] * 10_000 ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)[:, :, None]).flatten(-2)

    with torch.no_grad():
        q, k, v = (
            part.unflatten(-1, (2, 24))
            for part in (
                attention.norm_q(attention.to_q(video)),
                attention.norm_k(attention.to_k(text.tokens)),
                attention.to_v(text.tokens),
            )
        )
        frames = torch.tensor([0.0, 0.0, 4.0, 4.0, 8.0]).repeat_interleave(6).expand(2, -1)
        words = torch.tensor([0.0] * 5 + [4.0] * 4 + [0.0] * 3).expand(2, -1)
        scores = torch.einsum("bqhd,bkhd->bhqk", turned(q, frames), turned(k, words)) / 24**0.5
        by_hand = attention.to_out[0](torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2))

    torch.testing.assert_close(seen["output"], by_hand)


def test_hard_mask_keeps_an_action_to_its_frames(base: Path):
    """In the cross-attention of the first block: deeper, frames hear of each other."""
    network, given = model(base, segment_mask=True), conditions()
    tokens = given.captions.tokens.clone()
    tokens[:, 5:] += 1  # those of the action
    other = replace(given, captions=replace(given.captions, tokens=tokens))
    outputs: list[Tensor] = []
    network.backbone.blocks[0].attn2.register_forward_hook(lambda *args: outputs.append(args[2]))
    with torch.no_grad():
        for told in (given, other):
            network(*latents(), told)

    changed = (outputs[0] != outputs[1]).any(-1).unflatten(1, (5, 6)).all(-1)
    assert changed.tolist() == [[False, False, True, True, False]] * 2


@pytest.mark.parametrize("text_length", [0, 5, 12])
@pytest.mark.parametrize("segment_mask", [True, False])
def test_padding_of_the_batch_does_not_matter(base: Path, text_length: int, segment_mask: bool):
    """Whether captions outgrow `text_length` or not, and whatever lies at padding."""
    network, given = model(base, text_length=text_length, segment_mask=segment_mask), conditions()
    captions = given.captions
    padded = Captions(
        tokens=nn.functional.pad(captions.tokens, (0, 0, 0, 3)),
        mask=nn.functional.pad(captions.mask, (0, 3)),
        segments=nn.functional.pad(captions.segments, (0, 3), value=1),
    )

    expected = network(*latents(), given).velocity
    found = network(*latents(), replace(given, captions=padded)).velocity
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_short_caption_fares_alike_beside_a_long_one(base: Path):
    """Also where the long one outgrows `text_length`, and the short one does not."""
    network, given = model(base, text_length=6), conditions()
    captions = given.captions
    short = torch.tensor([[True] * 9, [True] * 3 + [False] * 6])
    tokens = captions.tokens * short[..., None]
    both = replace(captions, tokens=tokens, mask=short)
    cut = Captions(tokens=tokens[:, :3], mask=short[:, :3], segments=captions.segments[:, :3])

    found, expected = (network(*latents(), replace(given, captions=told)).velocity[1] for told in (both, cut))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_sample_fares_alike_alone_and_in_a_batch(base: Path):
    network, given = opened(model(base)), conditions()
    noisy, sigma = latents()
    alone = Conditions(
        context=given.context[1:],
        hands=given.hands[1:],
        captions=Captions(**{name: part[1:] for name, part in vars(given.captions).items()}),
        segments=type(given.segments)(**{name: part[1:] for name, part in vars(given.segments).items()}),
    )

    found = network(noisy[1:], sigma[1:], alone).velocity
    torch.testing.assert_close(found, network(noisy, sigma, given).velocity[1:], rtol=1e-5, atol=1e-6)


def test_bfloat16_with_norms_and_modulation_in_float32(base: Path):
    torch.manual_seed(0)
    network = opened(ITryOn.load(settings(base), dtype=torch.bfloat16))
    types = {name: parameter.dtype for name, parameter in network.named_parameters()}
    full = opened(model(base))

    for branch in ("backbone.blocks.0", "backbone.vace_blocks.0", "guider.blocks.0"):
        assert types[f"{branch}.ffn.net.2.weight"] == torch.bfloat16
        assert types[f"{branch}.scale_shift_table"] == types[f"{branch}.norm2.weight"] == torch.float32
    found = network(*latents(), conditions()).velocity
    assert found.dtype == torch.float32  # as the latents
    assert (found - full(*latents(), conditions()).velocity).abs().max() < 0.1
    assert all(gradient.isfinite().all() for gradient in gradients(network, conditions()).values())


@pytest.mark.parametrize("frozen", [torch.float32, torch.bfloat16])
def test_mixed_precision(base: Path, frozen: torch.dtype):
    network = opened(ITryOn.load(settings(base), dtype=frozen, trained_dtype=torch.float32))
    full = opened(model(base))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(network, conditions())

    assert {parameter.dtype for parameter in network.trainable_parameters()} == {torch.float32}
    for name, expected in gradients(full, conditions()).items():
        assert (found[name] - expected).norm() < 0.1 * expected.norm() + 1e-3, name


def test_compiled_blocks_give_the_same(base: Path):
    network = opened(model(base, gradient_checkpointing=True))
    expected = gradients(network, conditions())
    counter = CompileCounterWithBackend("eager")
    network.compile_blocks(backend=counter, fullgraph=True)

    torch.testing.assert_close(gradients(network, conditions()), expected)
    assert counter.frame_count < 8  # of 8 blocks: those of a kind share


@pytest.mark.parametrize(
    ("fields", "total", "branch"),
    [
        (
            {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "vace_layers": list(range(0, 30, 2))},
            2.154e9,
            0.734e9,
        ),
        (
            {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, "vace_layers": list(range(0, 40, 5))},
            17.34e9,
            3.05e9,
        ),
    ],
    ids=["1.3B", "14B"],
)
def test_published_sizes(fields: dict[str, object], total: float, branch: float):
    with torch.device("meta"):
        network = ITryOn(vace_transformer()(text_dim=4096, **fields), ModelSettings(base="tiny"))
        given = conditions(batch=1)
        given = Conditions(
            context=given.context.to("meta"),
            hands=given.hands.to("meta"),
            captions=Captions(
                tokens=torch.empty(1, 9, 4096),
                mask=given.captions.mask.to("meta"),
                segments=given.captions.segments.to("meta"),
            ),
            segments=type(given.segments)(**{name: part.to("meta") for name, part in vars(given.segments).items()}),
        )
        velocity = network(torch.empty(1, 16, 5, 4, 6), torch.empty(1), given).velocity

    def size(*modules: nn.Module) -> int:
        return sum(part.numel() for module in modules for part in module.parameters())

    context_branch = size(network.backbone.vace_blocks, network.backbone.vace_patch_embedding)
    assert size(network.backbone) == pytest.approx(total, rel=1e-3)
    assert context_branch == pytest.approx(branch, rel=2e-3)
    assert (
        size(network.guider) == context_branch - 80 * 4 * network.backbone.proj_out.in_features
    )  # 16 channels, not 96
    assert velocity.shape == (1, 16, 5, 4, 6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"context": torch.zeros(2, 96, 4, 4, 6)}, "context has the shape"),
        ({"hands": torch.zeros(2, 16, 5, 4, 4)}, "hands has the shape"),
        ({"segments": video_segments(batch=1)}, "segments.frames has the shape"),
        ({"captions": replace(conditions().captions, tokens=torch.zeros(2, 9, 8))}, "captions.tokens has the shape"),
    ],
)
def test_conditions_of_another_shape_are_refused(base: Path, change: dict[str, object], words: str):
    with pytest.raises(ConfigError, match=words):
        model(base)(*latents(), replace(conditions(), **change))


def test_sides_that_do_not_divide_are_refused(base: Path):
    given = conditions()
    odd = replace(given, context=given.context[..., :5], hands=given.hands[..., :5])
    with pytest.raises(ConfigError, match=r"patches of 2×2.*16"):
        model(base)(latents()[0][..., :5], latents()[1], odd)


def test_lora_targets_that_are_not_there_are_refused(base: Path):
    with pytest.raises(ConfigError, match=r"lora\.targets.*to_nothing"):
        model(base, train="lora", lora={"targets": ["to_nothing"]})
