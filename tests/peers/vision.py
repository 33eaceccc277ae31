"""ViT, MAE and Swin of Hugging Face's transformers in the shape of ours, and the way from our names to theirs."""

import re

from torch import Tensor, nn

from lib.vision_transformers import MaskedAutoencoderViT, SwinTransformer, VisionTransformer
from tests.peers.names import apart, renamed

# Our arguments. The tiny ones are quick to compare, the others are what training costs are measured on.
TINY = {
    "vit": {"img_size": 32, "patch_size": 8, "num_classes": 10, "embed_dim": 48, "depth": 2, "num_heads": 3},
    "mae": {
        "img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3,
        "decoder_embed_dim": 32, "decoder_depth": 2, "decoder_num_heads": 4,
    },
    "swin": {
        "img_size": 32, "patch_size": 2, "num_classes": 10, "embed_dim": 16, "depths": (2, 2, 2),
        "num_heads": (2, 4, 8), "window_size": 4,
    },
}  # fmt: skip
SMALL = {
    "vit": {"img_size": 112, "num_classes": 10, "embed_dim": 384, "depth": 6, "num_heads": 6},
    "mae": {
        "img_size": 112, "embed_dim": 384, "depth": 6, "num_heads": 6,
        "decoder_embed_dim": 192, "decoder_depth": 2, "decoder_num_heads": 6,
    },
    "swin": {"img_size": 112, "num_classes": 10, "embed_dim": 48, "depths": (2, 2), "num_heads": (3, 6)},
}  # fmt: skip
OURS = {"vit": VisionTransformer, "mae": MaskedAutoencoderViT, "swin": SwinTransformer}

RULES = [
    (r"^(cls_token|patch_embed)", r"embeddings.\1"),
    (r"patch_embed\.proj", "patch_embeddings.projection"),
    (r"patch_embed\.norm", "norm"),
    (r"^pos_embed", "embeddings.position_embeddings"),
    (r"^blocks", "layers"),
    (r"^layers\.(\d)\.(blocks|downsample)", r"encoder.layers.\1.\2"),
    (r"^norm\.", "layernorm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj", ".attention.o_proj"),
    (r"\.attn\.(relative_position_bias)_table", r".attention.\1.\1_table"),
    (r"^decoder_blocks", "decoder_layers"),
    (r"^(decoder_|mask_token)", r"decoder.\1"),
    (r"^head", "classifier"),
]
COMPUTED = re.compile(r"relative_position_index|attn_mask")  # they do not keep these


class TransformersModel(nn.Module):
    """One of their models, of the `kind` and with the arguments of ours, called as ours is."""

    def __init__(self, kind: str, img_size: int, embed_dim: int, patch_size: int | None = None, **sizes):
        import transformers  # slow to import

        super().__init__()
        given = {"image_size": img_size, "patch_size": patch_size or (4 if kind == "swin" else 16)}
        self.kind = kind
        if kind == "swin":
            config = transformers.SwinConfig(
                **given, embed_dim=embed_dim, depths=list(sizes["depths"]), num_heads=list(sizes["num_heads"]),
                window_size=sizes.get("window_size", 7), num_labels=sizes["num_classes"], drop_path_rate=0.0,
            )  # fmt: skip
            self.net = transformers.SwinForImageClassification(config)
            return
        given |= {
            "hidden_size": embed_dim, "num_hidden_layers": sizes["depth"], "num_attention_heads": sizes["num_heads"],
            "intermediate_size": 4 * embed_dim, "layer_norm_eps": 1e-6,
        }  # fmt: skip
        if kind == "vit":
            config = transformers.ViTConfig(**given, num_labels=sizes["num_classes"])
            self.net = transformers.ViTForImageClassification(config)
        else:
            width = sizes["decoder_embed_dim"]
            config = transformers.ViTMAEConfig(
                **given, decoder_hidden_size=width, decoder_num_hidden_layers=sizes["decoder_depth"],
                decoder_num_attention_heads=sizes["decoder_num_heads"], decoder_intermediate_size=4 * width,
            )  # fmt: skip
            self.net = transformers.ViTMAEForPreTraining(config)

    def forward(self, x: Tensor, mask_ratio: float = 0.75, noise: Tensor | None = None):
        if self.kind != "mae":
            return self.net(x).logits
        self.net.config.mask_ratio = mask_ratio
        out = self.net(x, noise=noise)
        return out.loss, out.logits, out.mask

    def load_ours(self, weights: dict[str, Tensor]) -> None:
        """Copies the weights of our model of the same shape, all of them and no others."""
        theirs = {}
        for name, value in weights.items():
            if COMPUTED.search(name):
                continue
            name = renamed(name, RULES)
            if not name.startswith(("classifier", "decoder")):
                name = f"{'swin' if self.kind == 'swin' else 'vit'}.{name}"
            theirs |= apart(name, value, ".attn.qkv.", ".attention.{}_proj.")
        self.net.load_state_dict(theirs, strict=True)
