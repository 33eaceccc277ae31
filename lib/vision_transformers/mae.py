r"""Masked autoencoders: hide three quarters of an image and let a transformer fill them in.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022 (arXiv:2111.06377), section 3. Parameter names
are those of the authors' release; its encoder is the Vision Transformer of `vit.py`, key for key.

N counts patches, K of them stay visible. A mask holds 1 where a patch was removed.
"""

import torch
from torch import Tensor, nn

from lib.checks import (
    cast_for,
    check_count,
    check_finite,
    check_flags,
    check_floats,
    check_integers,
    is_number,
    upcast,
)
from lib.vision_transformers.vit import EPS, Block, PatchEmbed, check_mlp_ratio


class MaskedAutoencoderViT(nn.Module):
    """Encoder over the visible patches, decoder over all of them, trained to predict the pixels of the removed ones.

    The defaults are the release's ViT-L/16; ViT-B/16 has embed_dim=768, depth=12, num_heads=12.

    Args:
        img_size: height and width of the images, a multiple of `patch_size`.
        patch_size: side of a patch, p.
        in_chans: channels of an image, C.
        embed_dim: width of the encoder's tokens, D; a multiple of 4, as `sincos_2d` wants it.
        depth: blocks of the encoder.
        num_heads: heads of the encoder's attention.
        decoder_embed_dim: width of the decoder's tokens; a multiple of 4.
        decoder_depth: blocks of the decoder.
        decoder_num_heads: heads of the decoder's attention.
        mlp_ratio: width of the hidden layer of a block's MLP, in units of its tokens' width.
        norm_pix_loss: predict each patch after taking off its mean and dividing by its standard deviation.

    Raises:
        ValueError: for an argument out of range, images of another shape, and `mask_ratio` that leaves nothing visible
            or hides nothing.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_pix_loss: bool = False,
    ):
        super().__init__()
        check_count(img_size=img_size, patch_size=patch_size, embed_dim=embed_dim, decoder_embed_dim=decoder_embed_dim)
        check_count(depth=depth, num_heads=num_heads, decoder_depth=decoder_depth, decoder_num_heads=decoder_num_heads)
        for name, width in (("embed_dim", embed_dim), ("decoder_embed_dim", decoder_embed_dim)):
            if width % 4:
                raise ValueError(
                    f"{name} must be a multiple of 4, for sines and cosines of two coordinates, got {width}"
                )
        check_mlp_ratio(mlp_ratio)
        check_flags(norm_pix_loss=norm_pix_loss)
        self.img_size, self.patch_size, self.norm_pix_loss = img_size, patch_size, norm_pix_loss

        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        grid = self.patch_embed.grid_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(sincos_2d(embed_dim, *grid), requires_grad=False)
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim, eps=EPS)

        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_embed_dim))
        self.decoder_pos_embed = nn.Parameter(sincos_2d(decoder_embed_dim, *grid), requires_grad=False)
        self.decoder_blocks = nn.Sequential(
            *(Block(decoder_embed_dim, decoder_num_heads, mlp_ratio) for _ in range(decoder_depth))
        )
        self.decoder_norm = nn.LayerNorm(decoder_embed_dim, eps=EPS)
        self.decoder_pred = nn.Linear(decoder_embed_dim, patch_size**2 * in_chans)

        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.data.flatten(1))  # as the matrix that it is
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self, imgs: Tensor, mask_ratio: float = 0.75, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, a scalar; the predicted patches (B, N, p * p * C); the mask (B, N).

        Args:
            imgs: images (B, C, img_size, img_size).
            mask_ratio: share of the patches that is removed, between 0 and 1.
            noise: a number for each patch (B, N): those with the smallest stay visible. Drawn uniformly where None.
        """
        latent, mask, ids_restore = self.forward_encoder(imgs, mask_ratio, noise)
        pred = self.forward_decoder(latent, ids_restore)
        return self.forward_loss(imgs, pred, mask), pred, mask

    def forward_encoder(
        self, imgs: Tensor, mask_ratio: float = 0.75, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The encoded visible tokens (B, 1 + K, D), class token first; the mask (B, N); the way back (B, N)."""
        self.check_images(imgs)
        x = self.patch_embed(imgs) + self.pos_embed[:, 1:]
        x, mask, ids_restore = random_masking(x, mask_ratio, noise)
        cls_token = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        x = cast_for(self.blocks, torch.cat([cls_token, x], dim=1))  # the table may be wider
        return self.norm(self.blocks(x)), mask, ids_restore

    def forward_features(self, imgs: Tensor) -> Tensor:
        """The encoder with nothing hidden: tokens (B, 1 + N, D), class token first, for what comes after training."""
        self.check_images(imgs)
        x = torch.cat([self.cls_token.expand(imgs.shape[0], -1, -1), self.patch_embed(imgs)], dim=1) + self.pos_embed
        return self.norm(self.blocks(cast_for(self.blocks, x)))

    def forward_decoder(self, latent: Tensor, ids_restore: Tensor) -> Tensor:
        """Predicted patches (B, N, p * p * C) from the visible tokens (B, 1 + K, D) and the way back (B, N)."""
        N, width = self.patch_embed.num_patches, self.decoder_embed.in_features
        if check_floats("latent", latent).ndim != 3 or latent.shape[2] != width or not 1 < latent.shape[1] <= N + 1:
            raise ValueError(f"latent must have shape (B, 1 + K, {width}), K from 1 to {N}, got {tuple(latent.shape)}")
        ids_restore = check_integers("ids_restore", ids_restore, 0, N - 1)
        if ids_restore.shape != (latent.shape[0], N):
            wanted = f"(B, {N}), with the B of latent, {latent.shape[0]}"
            raise ValueError(f"ids_restore must have shape {wanted}, got {tuple(ids_restore.shape)}")
        x = self.decoder_embed(cast_for(self.decoder_embed, latent))
        cls_token, visible = x[:, :1], x[:, 1:]
        removed = self.mask_token.expand(x.shape[0], ids_restore.shape[1] - visible.shape[1], -1)
        patches = gather_tokens(torch.cat([visible, removed.to(visible.dtype)], dim=1), ids_restore)
        x = torch.cat([cls_token, patches], dim=1) + self.decoder_pos_embed
        x = self.decoder_blocks(cast_for(self.decoder_blocks, x))
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def forward_loss(self, imgs: Tensor, pred: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of the removed patches, in float32 or wider; the visible ones do not count.

        Raises `ValueError` for predictions or a mask of other shapes than the patches of the images, a mask outside
        [0, 1], where there is no image, and where no patch is removed.
        """
        target = upcast(self.patchify(imgs))
        check_floats("pred", pred, like=target)
        check_floats("mask", mask, like=target[..., 0])
        if not mask.numel():
            raise ValueError(f"imgs must hold at least one image, got shape {tuple(imgs.shape)}")
        if self.norm_pix_loss:
            mean, var = target.mean(dim=-1, keepdim=True), target.var(dim=-1, keepdim=True)
            target = (target - mean) / (var + 1e-6).sqrt()
        error = (upcast(pred) - target).square().mean(dim=-1)  # (B, N)
        check_finite("mask", mask, 0, 1)
        mask = upcast(mask)  # 16 bits count to 256 or 2048
        removed = mask.sum()
        check_finite("the sum of mask", removed, 1)
        return (error * mask).sum() / removed

    def patchify(self, imgs: Tensor) -> Tensor:
        """Images (B, C, img_size, img_size) as patches (B, N, p * p * C): row, column and channel within a patch."""
        self.check_images(imgs)
        p = self.patch_size
        x = imgs.unflatten(2, (-1, p)).unflatten(4, (-1, p))  # (B, C, rows, p, columns, p)
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def unpatchify(self, x: Tensor) -> Tensor:
        """Patches (B, N, p * p * C) as images (B, C, img_size, img_size)."""
        p, (rows, columns) = self.patch_size, self.patch_embed.grid_size
        if check_floats("x", x).ndim != 3 or x.shape[1:] != (rows * columns, p * p * self.patch_embed.in_chans):
            wanted = f"(B, {rows * columns}, {p * p * self.patch_embed.in_chans})"
            raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
        x = x.unflatten(2, (p, p, -1)).unflatten(1, (rows, columns))  # (B, rows, columns, p, p, C)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def check_images(self, imgs: Tensor) -> None:
        """Raises `ValueError` for images of another shape than the model is made for."""
        check_floats("imgs", imgs)
        wanted = (self.patch_embed.in_chans, self.img_size, self.img_size)
        if imgs.ndim != 4 or tuple(imgs.shape[1:]) != wanted:
            raise ValueError(f"imgs must have shape (B, {', '.join(map(str, wanted))}), got {tuple(imgs.shape)}")


def random_masking(x: Tensor, mask_ratio: float, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Keeps N * (1 - mask_ratio) tokens of each image, rounded down, those whose noise is smallest.

    A count that falls short of a whole number by no more than floating point does counts as it: of 10 tokens a ratio
    of 0.9 leaves one, where the release's int(10 * (1 - 0.9)) leaves none.

    Args:
        x: tokens (B, N, D).
        mask_ratio: share that is removed, between 0 and 1.
        noise: (B, N), drawn uniformly where None.

    Returns:
        The kept tokens (B, K, D) in the order of their noise; the mask (B, N), 1 where removed; and the indices
        (B, N) that bring kept and removed tokens, one after the other, back to their places.

    Raises:
        ValueError: for tokens or noise of another shape, noise that is not finite, and a ratio that keeps or
            removes nothing.
    """
    if check_floats("x", x).ndim != 3:
        raise ValueError(f"x must have shape (B, N, D), got {tuple(x.shape)}")
    B, N, _ = x.shape
    keep = int(N * (1 - mask_ratio) + 1e-9) if is_number(mask_ratio) and 0 < mask_ratio < 1 else 0
    if not 0 < keep < N:
        raise ValueError(f"mask_ratio must keep and remove at least one of {N} patches, got {mask_ratio!r}")
    if noise is None:
        noise = torch.rand(B, N, dtype=torch.float32, device=x.device)  # of 16 bits, many would be equal
    elif check_floats("noise", noise).shape != (B, N):
        raise ValueError(f"noise must have shape {(B, N)}, got {tuple(noise.shape)}")
    check_finite("noise", noise)
    ids_shuffle = noise.argsort(dim=1)
    ids_restore = ids_shuffle.argsort(dim=1)
    mask = (ids_restore >= keep).to(x.dtype)
    return gather_tokens(x, ids_shuffle[:, :keep]), mask, ids_restore


def gather_tokens(x: Tensor, ids: Tensor) -> Tensor:
    """Tokens (B, M, D): of each image's tokens (B, N, D) those with the indices (B, M)."""
    if check_floats("x", x).ndim != 3:
        raise ValueError(f"x must have shape (B, N, D), got {tuple(x.shape)}")
    ids = check_integers("ids", ids, 0, x.shape[1] - 1)
    if ids.ndim != 2 or ids.shape[0] != x.shape[0]:
        raise ValueError(f"ids must have shape ({x.shape[0]}, M), got {tuple(ids.shape)}")
    return x.gather(1, ids[..., None].expand(-1, -1, x.shape[2]))


def sincos_2d(dim: int, rows: int, columns: int) -> Tensor:
    r"""A fixed table of positions (1, 1 + rows * columns, dim), zeros for the class token.

    The first half of the channels tells the column $x$, the second the row, each as $\sin(x\omega_k)$ for all
    $\omega_k = 10000^{-4k/\mathrm{dim}}$, then $\cos(x\omega_k)$.

    Raises `ValueError` unless `dim` is a multiple of 4.
    """
    check_count(dim=dim, rows=rows, columns=columns)
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4, for sines and cosines of two coordinates, got {dim}")
    omega = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    y, x = torch.meshgrid(torch.arange(rows).double(), torch.arange(columns).double(), indexing="ij")
    angles = torch.stack([x.flatten(), y.flatten()], dim=1)[..., None] * omega  # (rows * columns, 2, dim / 4)
    table = torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)
    return torch.cat([table.new_zeros(1, dim), table])[None].float()
