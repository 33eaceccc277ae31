r"""BEiT: a Vision Transformer that learns without labels by naming the visual words of hidden patches.

Bao, Dong, Piao and Wei, "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022 (arXiv:2106.08254), sections 2.1 to
2.3. The words come from a tokenizer that was trained before: a VQ-VAE's codes, one for each patch. The network is
`VisionTransformer`; the paper's relative positions and scaled shortcuts are left out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checks import check_finite, check_floats, check_integers, described, is_number, upcast
from lib.vision_transformers.vit import VisionTransformer, resample_pos_embed


class BEiT(VisionTransformer):
    """The encoder and a linear head that names a word for every patch.

    Arguments as `VisionTransformer`'s, with the size of the vocabulary as `num_classes`. After training
    `forward_features` gives the tokens of a whole image.

    Raises:
        ValueError: as `VisionTransformer`, for a vocabulary without words, and for masks and words of other shapes.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not isinstance(self.head, nn.Linear):
            raise ValueError("num_classes must be an integer of at least 1, got 0")
        self.mask_token = nn.Parameter(torch.empty(1, 1, self.pos_embed.shape[2]))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Scores (B, N, num_classes) of the words of images (B, in_chans, H, W) whose patches `mask` (B, N) hides.

        `mask` is True where a patch is replaced by the learned mask token; its place is still told (equation 1).
        """
        patches = self.patch_embed(x)
        if not isinstance(mask, Tensor) or mask.shape != patches.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(f"mask must be boolean {tuple(patches.shape[:2])}, got {described(mask)}")
        patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        size = tuple(side // self.patch_embed.step for side in x.shape[2:])
        z = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches], dim=1)
        z = z + resample_pos_embed(self.pos_embed, self.patch_embed.grid_size, size)
        return self.head(self.norm(self.blocks(z))[:, 1:])

    def loss(self, x: Tensor, words: Tensor, mask_ratio: float = 0.4, noise: Tensor | None = None) -> Tensor:
        """Cross-entropy of the hidden patches' words (B, N), in nats a patch, float32 or wider (equation 2).

        In each image the patches with the smallest `noise` (B, N) are hidden, a share of `mask_ratio`, at least one;
        without noise it is drawn.

        Raises `ValueError` for words that are no integers of the vocabulary, a share that does not lie in (0, 1),
        noise that is not finite, and where there is no image.
        """
        if not (is_number(mask_ratio) and 0 < mask_ratio < 1):
            raise ValueError(f"mask_ratio must lie in (0, 1), got {mask_ratio!r}")
        words = check_integers("words", words, 0, self.head.out_features - 1)
        if words.ndim != 2 or not words.numel():
            raise ValueError(f"words must have shape (B, N), one for each patch, got {tuple(words.shape)}")
        if noise is None:
            noise = torch.rand(words.shape, dtype=torch.float32, device=check_floats("x", x).device)
        check_finite("noise", check_floats("noise", noise, like=words))
        hidden = max(1, round(mask_ratio * words.shape[1]))
        order = noise.argsort(dim=1)
        scores = self(x, order.argsort(dim=1) < hidden)
        places = order[:, :hidden].sort(dim=1).values  # a mask as index would wait for the device to count
        scores = scores.gather(1, places[..., None].expand(-1, -1, scores.shape[2]))
        return F.cross_entropy(upcast(scores.flatten(0, 1)), words.gather(1, places).flatten())
