"""HaMeR's network in plain torch: a ViT that reads the crop, a transformer that asks it for one hand.

HaMeR (Pavlakos et al., CVPR 2024); its backbone is ViTPose's (Xu et al., 2022). Modules bear the names of the official
checkpoint. Shape legend: N crops, S = 192 patches, D width of the backbone, E width of the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

_PATCH = 16
_PATCHES = 16 * 12
_SEEN = slice(32, -32)
"""Columns of a crop that the backbone looks at."""
JOINTS = 16
"""Rotations of a hand: the whole, then 15 joints."""
SHAPES = 10


@dataclass(frozen=True)
class Sizes:
    """How large the network is; the defaults are the published one's (ViT-H).

    Attributes:
        dim, depth, heads: of the backbone.
        decoder_dim, decoder_depth, decoder_heads, decoder_head_dim, decoder_mlp: of the decoder.

    """

    dim: int = 1280
    depth: int = 32
    heads: int = 16
    decoder_dim: int = 1024
    decoder_depth: int = 6
    decoder_heads: int = 8
    decoder_head_dim: int = 64
    decoder_mlp: int = 1024


@dataclass(frozen=True, eq=False)
class HandParameters:
    """What the network says of N hands, each as if it were a right one.

    Attributes:
        global_orient: (N, 3, 3) float32, rotation of the hand.
        hand_pose: (N, 15, 3, 3) float32, rotation of each joint against its parent.
        betas: (N, 10) float32, shape of MANO.
        camera: (N, 3) float32, scale s and shift x, y in metres: a weak perspective into the crop.

    """

    global_orient: Tensor
    hand_pose: Tensor
    betas: Tensor
    camera: Tensor


class HamerNetwork(nn.Module):
    """From crops to parameters of MANO. The backbone may be of half precision; the head is float32."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.backbone = Backbone(sizes)
        self.mano_head = ManoHead(sizes)

    def forward(self, crops: Tensor) -> HandParameters:
        """From (N, 3, 256, 256) normalised RGB, as `crop.crop_hand` makes them."""
        crops = crops[..., _SEEN].to(self.backbone.pos_embed.dtype)
        return self.mano_head(self.backbone(crops).float())


class Backbone(nn.Module):
    """Vision transformer over patches of 16×16 px."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _PATCHES, sizes.dim))  # the first is of no patch
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, sizes.dim, _PATCH, stride=_PATCH, padding=2)})
        self.blocks = nn.ModuleList(Block(sizes.dim, sizes.heads) for _ in range(sizes.depth))
        self.last_norm = nn.LayerNorm(sizes.dim, eps=1e-6)

    def forward(self, pictures: Tensor) -> Tensor:
        """From (N, 3, 256, 192) to (N, S, D)."""
        tokens = self.patch_embed["proj"](pictures).flatten(2).transpose(1, 2)
        tokens = tokens + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        for block in self.blocks:
            tokens = block(tokens)
        return self.last_norm(tokens)


class Block(nn.Module):
    """Self-attention and an MLP, each normalised before and added."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, S, D) to the same."""
        attended = _attend(*self.attn["qkv"](self.norm1(tokens)).chunk(3, dim=-1), heads=self.heads)
        tokens = tokens + self.attn["proj"](attended)
        return tokens + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(tokens))))


class ManoHead(nn.Module):
    """One query decodes what the backbone saw into corrections of the mean hand."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.transformer = Decoder(sizes)
        self.decpose = nn.Linear(sizes.decoder_dim, JOINTS * 6)
        self.decshape = nn.Linear(sizes.decoder_dim, SHAPES)
        self.deccam = nn.Linear(sizes.decoder_dim, 3)
        for name, layer in (("hand_pose", self.decpose), ("betas", self.decshape), ("cam", self.deccam)):
            self.register_buffer(f"init_{name}", torch.zeros(1, layer.out_features))

    def forward(self, context: Tensor) -> HandParameters:
        """From (N, S, D)."""
        token = self.transformer(context)
        rotations = rotation_from_6d((self.decpose(token) + self.init_hand_pose).view(-1, JOINTS, 6))
        return HandParameters(
            global_orient=rotations[:, 0],
            hand_pose=rotations[:, 1:],
            betas=self.decshape(token) + self.init_betas,
            camera=self.deccam(token) + self.init_cam,
        )


class Decoder(nn.Module):
    """Layers of self-attention, attention to the context, and an MLP, over a single token."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        dim, mlp = sizes.decoder_dim, sizes.decoder_mlp
        inner = sizes.decoder_heads * sizes.decoder_head_dim
        self.to_token_embedding = nn.Linear(1, dim)
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1, dim))
        self.transformer = nn.ModuleDict({
            "layers": nn.ModuleList(
                nn.ModuleList([
                    _Normed(dim, _SelfAttention(dim, inner, sizes.decoder_heads)),
                    _Normed(dim, _CrossAttention(dim, inner, sizes.decoder_heads, context=sizes.dim)),
                    _Normed(dim, _FeedForward(dim, mlp)),
                ])
                for _ in range(sizes.decoder_depth)
            )
        })  # fmt: skip

    def forward(self, context: Tensor) -> Tensor:
        """(N, S, D) to (N, E)."""
        query = context.new_zeros(len(context), 1, 1)  # HaMeR asks with the number 0
        token = self.to_token_embedding(query) + self.pos_embedding
        for layer in self.transformer["layers"].children():
            self_attention, cross_attention, feed_forward = layer.children()
            token = token + self_attention(token)
            token = token + cross_attention(token, context)
            token = token + feed_forward(token)
        return token[:, 0]


class _Normed(nn.Module):
    def __init__(self, dim: int, inside: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = inside

    def forward(self, token: Tensor, *context: Tensor) -> Tensor:
        return self.fn(self.norm(token), *context)


class _SelfAttention(nn.Module):
    def __init__(self, dim: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim))

    def forward(self, token: Tensor) -> Tensor:
        return self.to_out(_attend(*self.to_qkv(token).chunk(3, dim=-1), heads=self.heads))


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, inner: int, heads: int, *, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_kv = nn.Linear(context, 2 * inner, bias=False)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim))

    def forward(self, token: Tensor, context: Tensor) -> Tensor:
        return self.to_out(_attend(self.to_q(token), *self.to_kv(context).chunk(2, dim=-1), heads=self.heads))


class _FeedForward(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        # The third stands for a dropout of training, so that the last bears its name.
        self.net = nn.Sequential(nn.Linear(dim, inner), nn.GELU(), nn.Identity(), nn.Linear(inner, dim))

    def forward(self, token: Tensor) -> Tensor:
        return self.net(token)


def rotation_from_6d(values: Tensor) -> Tensor:
    """(..., 6) to (..., 3, 3): the first two columns, one after the other, made orthonormal.

    Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019.
    """
    first = F.normalize(values[..., :3], dim=-1)
    second = values[..., 3:]
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, *, heads: int) -> Tensor:
    """Attention in `heads` parts: (N, A, C), (N, B, C), (N, B, C) to (N, A, C)."""
    split = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (queries, keys, values))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
