"""DETR of Hugging Face's transformers in the shape of ours, and the way from our names to theirs."""

from torch import Tensor, nn

from lib.detection import DETR, ResNet, Transformer
from tests.peers.names import apart, renamed

DEPTHS = (1, 1, 1, 1)
TINY = {"d_model": 32, "nhead": 4, "num_encoder_layers": 1, "num_decoder_layers": 2, "dim_feedforward": 64}
SMALL = {"d_model": 128, "nhead": 8, "num_encoder_layers": 2, "num_decoder_layers": 3, "dim_feedforward": 512}

RULES = [
    (r"^backbone\.0\.body\.conv1", "model.backbone.model.embedder.embedder.convolution"),
    (r"^backbone\.0\.body\.bn1", "model.backbone.model.embedder.embedder.normalization"),
    (
        r"^backbone\.0\.body\.layer(\d)\.(\d)",
        lambda found: f"model.backbone.model.encoder.stages.{int(found[1]) - 1}.layers.{found[2]}",
    ),
    (r"downsample\.0", "shortcut.convolution"),
    (r"downsample\.1", "shortcut.normalization"),
    (r"\.conv(\d)", lambda found: f".layer.{int(found[1]) - 1}.convolution"),
    (r"\.bn(\d)", lambda found: f".layer.{int(found[1]) - 1}.normalization"),
    (r"^transformer\.", "model."),
    (r"^input_proj", "model.input_projection"),
    (r"^query_embed", "model.query_position_embeddings"),
    (r"^class_embed", "class_labels_classifier"),
    (r"^bbox_embed", "bbox_predictor"),
    (r"decoder\.norm\.", "decoder.layernorm."),
    (r"\.multihead_attn\.", ".encoder_attn."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.linear(\d)\.", r".mlp.fc\1."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"(decoder\.layers\.\d)\.norm2\.", r"\1.encoder_attn_layer_norm."),
    (r"\.norm[23]\.", ".final_layer_norm."),
]


def ours(num_classes: int, num_queries: int, **sizes: int) -> DETR:
    """Our model on a ResNet with one block a stage."""
    return DETR(ResNet(DEPTHS), Transformer(**sizes, dropout=0.0), num_classes, num_queries)


class TransformersDETR(nn.Module):
    """Their model with the arguments of `ours`, called as ours is.

    With `auxiliary_loss` it hands the normalised answers of a layer to the next: as much work, other numbers.
    """

    def __init__(self, num_classes: int, num_queries: int, auxiliary_loss: bool = False, **sizes: int):
        from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig  # slow to import

        super().__init__()
        body = ResNetConfig(
            embedding_size=64, hidden_sizes=[256, 512, 1024, 2048], depths=list(DEPTHS), out_features=["stage4"]
        )
        config = DetrConfig(
            backbone_config=body, num_labels=num_classes, num_queries=num_queries, d_model=sizes["d_model"],
            encoder_layers=sizes["num_encoder_layers"], decoder_layers=sizes["num_decoder_layers"],
            encoder_attention_heads=sizes["nhead"], decoder_attention_heads=sizes["nhead"],
            encoder_ffn_dim=sizes["dim_feedforward"], decoder_ffn_dim=sizes["dim_feedforward"],
            dropout=0.0, auxiliary_loss=auxiliary_loss,
        )  # fmt: skip
        self.net = DetrForObjectDetection(config)

    def forward(self, images: Tensor, mask: Tensor | None = None):
        """What theirs answers, with `logits` and `pred_boxes`."""
        return self.net(images, None if mask is None else (~mask).long())

    def load_ours(self, weights: dict[str, Tensor]) -> None:
        """Copies the weights of our model of the same shape, all of them and no others."""
        theirs = {}
        for name, value in weights.items():
            theirs |= apart(renamed(name, RULES), value, ".in_proj_", ".{}_proj.")
        self.net.load_state_dict(theirs, strict=True)
