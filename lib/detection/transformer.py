r"""DETR's transformer: an encoder over the places of a feature map, a decoder whose queries look for objects there.

Carion et al., "End-to-End Object Detection with Transformers" (DETR), ECCV 2020 (arXiv:2005.12872), section 3.2 and
appendix A. Parameter names are those of the authors' release. Normalisation stands behind each residual sum
("post-norm", as in Vaswani et al. 2017). The position code is added to queries and keys of every attention, never to
values.

B images, S = h * w places, Q queries, d the width of a token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.attention import attention
from lib.checks import check_count, check_floats, described, is_number
from lib.detection.position import check_mask


class MultiheadAttention(nn.Module):
    """Attention whose queries, keys and values come from different tokens, with the parameter names of `torch.nn`'s.

    Args:
        dim: width of a token, d.
        num_heads: number of heads; it must divide `dim`.
        dropout: share of the weights that is dropped in training.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        check_count(dim=dim, num_heads=num_heads)
        check_dropout(dropout)
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got num_heads={num_heads} and dim={dim}")
        self.num_heads, self.dropout = num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None = None) -> Tensor:
        """Mixed values (B, N, d) for queries (B, N, d), keys and values (B, M, d).

        `padding` (B, M) is True where a key may not be looked at.
        """
        q, k, v = (self.heads(x, i) for i, x in enumerate((q, k, v)))
        check_keys(q, k, v, padding)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.allowed(padding), dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, q: Tensor, k: Tensor, padding: Tensor | None = None) -> Tensor:
        """The attention weights (B, heads, N, M) that `forward` uses, without dropout, and does not keep."""
        q, k = self.heads(q, 0), self.heads(k, 1)
        check_keys(q, k, k, padding)
        mask = None if (seen := self.allowed(padding)) is None else torch.where(seen, 0.0, -torch.inf).to(q.dtype)
        return attention(q, k, k, mask)[1]

    def heads(self, x: Tensor, part: int) -> Tensor:
        """Tokens (B, N, d) as queries (part 0), keys (1) or values (2), (B, heads, N, d / heads)."""
        dim = self.in_proj_weight.shape[1]
        check_tokens(dim, **{"qkv"[part]: x})
        rows = slice(part * dim, (part + 1) * dim)
        x = F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    @staticmethod
    def allowed(padding: Tensor | None) -> Tensor | None:
        """The mask (B, 1, 1, M) of the keys that may be looked at; all, where all are padding: softmax needs one."""
        return None if padding is None else ~(padding & ~padding.all(1, keepdim=True))[:, None, None]


def check_tokens(dim: int, **tokens: Tensor) -> None:
    """Raises `ValueError` unless all are floating point (B, N, `dim`)."""
    for name, x in tokens.items():
        if check_floats(name, x).ndim != 3 or x.shape[2] != dim:
            raise ValueError(f"{name} must have shape (B, N, {dim}), got {tuple(x.shape)}")


def check_places(dim: int, **tokens: Tensor) -> None:
    """Raises `ValueError` unless both are floating point (B, N, `dim`), of one shape: tokens and the code of each."""
    check_tokens(dim, **tokens)
    (of, x), (name, pos) = tokens.items()
    if pos.shape != x.shape:
        raise ValueError(f"{name} must have the shape of {of}, {tuple(x.shape)}, got {tuple(pos.shape)}")


def check_keys(q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None) -> None:
    """Raises `ValueError` unless queries (B, heads, N, d), keys and values (B, heads, M, d) and padding (B, M) fit."""
    B, M = q.shape[0], k.shape[2]
    for name, x in (("k", k), ("v", v)):
        if x.shape[0] != B or x.shape[2] != M or M == 0:
            got = f"{x.shape[0]} times {x.shape[2]}"
            raise ValueError(f"{name} must hold for {B} images as many tokens as k, one at least, got {got}")
    if padding is not None and (
        not isinstance(padding, Tensor) or padding.dtype != torch.bool or padding.shape != (B, M)
    ):
        raise ValueError(f"padding must be boolean {(B, M)}, got {described(padding)}")


def check_dropout(dropout: float) -> None:
    """Raises `ValueError` unless `dropout` is a share below 1."""
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout!r}")


class Layer(nn.Module):
    """What both kinds of layers have: self-attention, and a network of two linear layers for each token."""

    def __init__(self, dim: int, num_heads: int, dim_feedforward: int, dropout: float):
        super().__init__()
        check_count(dim_feedforward=dim_feedforward)
        self.dim, self.self_attn = dim, MultiheadAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """What the two linear layers add to each token (B, N, d)."""
        check_tokens(self.dim, x=x)
        return self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x)))))


class TransformerEncoderLayer(Layer):
    """Self-attention of the places, then the network of each: tokens (B, S, d) to tokens (B, S, d)."""

    def forward(self, x: Tensor, pos: Tensor, padding: Tensor | None) -> Tensor:
        """The tokens after this layer; `pos` (B, S, d) says where they lie."""
        check_places(self.dim, x=x, pos=pos)
        q = k = x + pos
        x = self.norm1(x + self.dropout(self.self_attn(q, k, x, padding)))
        return self.norm2(x + self.feed_forward(x))


class TransformerDecoderLayer(Layer):
    """The queries look at each other, then at the image: answers (B, Q, d) to answers (B, Q, d)."""

    def __init__(self, dim: int, num_heads: int, dim_feedforward: int, dropout: float):
        super().__init__(dim, num_heads, dim_feedforward, dropout)
        self.multihead_attn = MultiheadAttention(dim, num_heads, dropout)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, query_pos: Tensor, memory: Tensor, pos: Tensor, padding: Tensor | None) -> Tensor:
        """The answers after this layer, from `x` (B, Q, d), the queries (B, Q, d) and the image's tokens (B, S, d)."""
        check_places(self.dim, memory=memory, pos=pos)
        x = self.between_queries(x, query_pos)
        x = self.norm2(x + self.dropout(self.multihead_attn(x + query_pos, memory + pos, memory, padding)))
        return self.norm3(x + self.feed_forward(x))

    def between_queries(self, x: Tensor, query_pos: Tensor) -> Tensor:
        """The first third of the layer, self-attention."""
        check_places(self.dim, x=x, query_pos=query_pos)
        q = k = x + query_pos
        return self.norm1(x + self.dropout(self.self_attn(q, k, x)))

    def weights(self, x: Tensor, query_pos: Tensor, memory: Tensor, pos: Tensor, padding: Tensor | None) -> Tensor:
        """How much each query takes from each place, (B, heads, Q, S)."""
        check_places(self.dim, memory=memory, pos=pos)
        return self.multihead_attn.weights(self.between_queries(x, query_pos) + query_pos, memory + pos, padding)


def first_answers(query_pos: Tensor, start: Tensor | None) -> Tensor:
    """Where the answers to queries (B, Q, d) begin: at `start` (B, Q, d), without it at 0."""
    check_floats("query_pos", query_pos)
    return torch.zeros_like(query_pos) if start is None else check_floats("start", start, like=query_pos)


class TransformerEncoder(nn.Module):
    """The layers of the encoder, one after the other."""

    def __init__(self, depth: int, *sizes):
        super().__init__()
        check_count(0, depth=depth)
        self.layers = nn.ModuleList(TransformerEncoderLayer(*sizes) for _ in range(depth))

    def forward(self, x: Tensor, pos: Tensor, padding: Tensor | None) -> Tensor:
        """Tokens (B, S, d) that know the whole image."""
        for layer in self.layers:
            x = layer(x, pos, padding)
        return x


class TransformerDecoder(nn.Module):
    """The layers of the decoder; what each answers is kept, for the auxiliary losses."""

    def __init__(self, depth: int, dim: int, *sizes):
        super().__init__()
        check_count(depth=depth)
        self.layers = nn.ModuleList(TransformerDecoderLayer(dim, *sizes) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, query_pos: Tensor, *image: Tensor | None, start: Tensor | None = None) -> Tensor:
        """The normalised answers of all layers (depth, B, Q, d) to queries (B, Q, d).

        `image` is what `TransformerDecoderLayer` wants: the tokens, their places and the padding. The answers begin at
        `start` (B, Q, d), without it at 0.
        """
        x, answers = first_answers(query_pos, start), []
        for layer in self.layers:
            x = layer(x, query_pos, *image)
            answers.append(self.norm(x))
        return torch.stack(answers)

    def weights(self, query_pos: Tensor, *image: Tensor | None, start: Tensor | None = None) -> Tensor:
        """How much each query takes from each place in each layer, (depth, B, heads, Q, S)."""
        x, found = first_answers(query_pos, start), []
        for layer in self.layers:
            found.append(layer.weights(x, query_pos, *image))
            x = layer(x, query_pos, *image)
        return torch.stack(found)


class Transformer(nn.Module):
    """Encoder and decoder (figure 10). The defaults are DETR-R50's.

    Args:
        d_model: width of a token, d.
        nhead: heads of each attention; they must divide `d_model`.
        num_encoder_layers: layers of the encoder.
        num_decoder_layers: layers of the decoder.
        dim_feedforward: hidden width of each layer's network.
        dropout: share of the numbers that is dropped in training.
    """

    def __init__(
        self,
        d_model: int = 256,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
    ):
        super().__init__()
        check_count(0, num_encoder_layers=num_encoder_layers)
        check_count(
            d_model=d_model, nhead=nhead, num_decoder_layers=num_decoder_layers, dim_feedforward=dim_feedforward
        )
        self.d_model = d_model
        self.encoder = TransformerEncoder(num_encoder_layers, d_model, nhead, dim_feedforward, dropout)
        self.decoder = TransformerDecoder(num_decoder_layers, d_model, nhead, dim_feedforward, dropout)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: Tensor, mask: Tensor | None, query_embed: Tensor, pos: Tensor) -> tuple[Tensor, Tensor]:
        """The answers of all decoder layers (depth, B, Q, d), and the encoder's map (B, d, h, w).

        Args:
            features: (B, d, h, w).
            mask: (B, h, w), True where padded; None where nothing is.
            query_embed: the queries (Q, d).
            pos: codes of the places (B, d, h, w).
        """
        self.check_queries(query_embed)
        image = self.encode(features, mask, pos)
        answers = self.decoder(query_embed.expand(features.shape[0], -1, -1), *image)
        return answers, image[0].transpose(1, 2).unflatten(2, features.shape[-2:])

    def weights(self, features: Tensor, mask: Tensor | None, query_embed: Tensor, pos: Tensor) -> Tensor:
        """How much each query takes from each place: (depth, B, heads, Q, h, w), for the arguments of `forward`."""
        self.check_queries(query_embed)
        image = self.encode(features, mask, pos)
        found = self.decoder.weights(query_embed.expand(features.shape[0], -1, -1), *image)
        return found.unflatten(4, features.shape[-2:])

    def encode(self, features: Tensor, mask: Tensor | None, pos: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the decoder wants of the image: its tokens and their places (B, S, d), and the padding (B, S)."""
        if check_floats("features", features).ndim != 4 or features.shape[1] != self.d_model or 0 in features.shape[2:]:
            wanted = f"(B, {self.d_model}, h, w) with h and w of at least 1"
            raise ValueError(f"features must have shape {wanted}, got {tuple(features.shape)}")
        check_floats("pos", pos, like=features)
        if mask is not None and check_mask(mask).shape != (features.shape[0], *features.shape[2:]):
            raise ValueError(f"mask must be that of features {tuple(features.shape)}, got {described(mask)}")
        x, pos = features.flatten(2).transpose(1, 2), pos.to(features.dtype).flatten(2).transpose(1, 2)
        padding = None if mask is None else mask.flatten(1)
        return self.encoder(x, pos, padding), pos, padding

    def check_queries(self, query_embed: Tensor) -> None:
        """Raises `ValueError` unless `query_embed` is floating point (Q, d)."""
        if check_floats("query_embed", query_embed).ndim != 2 or query_embed.shape[1] != self.d_model:
            raise ValueError(f"query_embed must have shape (Q, {self.d_model}), got {tuple(query_embed.shape)}")
