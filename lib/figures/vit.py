"""The pictures of the chapter on the vision transformer."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Group, Node

TOKENS = "B×17×48"
BLOCK = ("tokens", "norm1", "attn", "first sum", "attended", "norm2", "mlp", "second sum")


def vit_diagram() -> Diagram:
    """The whole of `VisionTransformer(28, 7, 1, 10, embed_dim=48, depth=4, num_heads=4)`, its blocks as one box."""
    return _vit().collapsed(
        "blocks",
        "The image is cut into 16 patches, each a vector of 48 numbers; a class token is put before them, every token "
        "gets its position added, and four blocks follow. Of the tokens that come out only the first reaches the head.",
    )


def block_diagram() -> Diagram:
    """One block of it, with the boxes before and behind."""
    return _vit().zoomed(
        "blocks",
        "In one block the tokens go twice through the same pattern: normalise, change, add to what was there. First "
        "the attention changes them, then the MLP; a line around each of the two carries the tokens past it unchanged.",
    )


def _vit() -> Diagram:
    return Diagram(
        "An image becomes patches, tokens and scores.",
        [
            Node("x", (0, 0), "data"),
            Node("patch_embed", (1, 0)),
            Node("cat", (2, 0), "operation"),
            Node("cls_token", (2, 1), "latent", "`cls_token`"),
            Node("+", (3, 0), "operation", "+"),
            Node("pos_embed", (3, 1), "latent", "`pos_embed`"),
            Node("tokens", (4, 0), "latent", "x"),
            Node("norm1", (5, 0)),
            Node("attn", (6, 0)),
            Node("first sum", (7, 0), "operation", "+"),
            Node("attended", (8, 0), "latent", "x"),
            Node("norm2", (9, 0)),
            Node("mlp", (10, 0)),
            Node("second sum", (11, 0), "operation", "+"),
            Node("norm", (12, 0)),
            Node("head", (13, 0)),
            Node("scores", (14, 0), "data"),
        ],
        [
            Arrow("x", "patch_embed", "B×1×28×28"),
            Arrow("patch_embed", "cat", "B×16×48"),
            Arrow("cls_token", "cat"),
            Arrow("cat", "+", TOKENS),
            Arrow("pos_embed", "+"),
            Arrow("+", "tokens", TOKENS),
            Arrow("tokens", "norm1"),
            Arrow("norm1", "attn", TOKENS),
            Arrow("attn", "first sum", TOKENS),
            Arrow("tokens", "first sum", leave="left", enter="left", around=30),
            Arrow("first sum", "attended"),
            Arrow("attended", "norm2"),
            Arrow("norm2", "mlp", TOKENS),
            Arrow("mlp", "second sum", TOKENS),
            Arrow("attended", "second sum", leave="left", enter="left", around=30),
            Arrow("second sum", "norm", TOKENS),
            Arrow("norm", "head", "B×48, the first token"),
            Arrow("head", "scores", "B×10"),
        ],
        [Group("blocks", BLOCK, "× 4")],
    )
