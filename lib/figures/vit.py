"""The pictures of the chapter on the vision transformer."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Group, Node, chain

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
            *chain("x", "B×1×28×28", "patch_embed", "B×16×48", "cat", TOKENS, "+", TOKENS, "tokens"),
            Arrow("cls_token", "cat"),
            Arrow("pos_embed", "+"),
            *chain("tokens", "", "norm1", TOKENS, "attn", TOKENS, "first sum", "", "attended"),
            *chain("attended", "", "norm2", TOKENS, "mlp", TOKENS, "second sum", TOKENS, "norm"),
            Arrow("tokens", "first sum", leave="left", enter="left", around=30),
            Arrow("attended", "second sum", leave="left", enter="left", around=30),
            *chain("norm", "B×48, the first token", "head", "B×10", "scores"),
        ],
        [Group("blocks", BLOCK, "× 4")],
    )
