"""The pictures of the chapter on DETR's encoder and decoder."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Node, chain


def detr_diagram() -> Diagram:
    """`digit_detr()`: an image goes in, ten answers come out."""
    return Diagram(
        "The backbone turns the image into 8 by 8 places, whose positions are added in the encoder and again in the "
        "decoder. The decoder starts from ten learned queries, not from the image; it reads what the encoder knows, "
        "and two heads turn each of its ten answers into class scores and a box.",
        [
            Node("images", (0, 0), "data", "`images`"),
            Node("backbone.0", (1, 0)),
            Node("input_proj", (2, 0)),
            Node("backbone.1", (2, 1), note="positions"),
            Node("transformer.encoder", (3, 0)),
            Node("query_embed", (5, 1), "latent", "`query_embed`", "10×96"),
            Node("transformer.decoder", (4, 0)),
            Node("class_embed", (6, 0)),
            Node("bbox_embed", (6, 1)),
            Node("pred_logits", (7, 0), "data", "`pred_logits`"),
            Node("pred_boxes", (7, 1), "data", "`pred_boxes`"),
        ],
        [
            *chain("images", "B×1×64×64", "backbone.0", "B×96×8×8", "input_proj", "B×96×8×8", "transformer.encoder"),
            *chain("transformer.encoder", "B×64×96", "transformer.decoder", "B×10×96", "class_embed"),
            *chain("class_embed", "B×10×11", "pred_logits"),
            Arrow("backbone.0", "backbone.1", leave="right", enter="top"),
            Arrow("backbone.1", "transformer.encoder", leave="bottom", enter="right"),
            Arrow("backbone.1", "transformer.decoder", leave="right", enter="right", shift=-7),
            Arrow("query_embed", "transformer.decoder", leave="top", enter="right", shift=7),
            Arrow("transformer.decoder", "bbox_embed"),
            Arrow("bbox_embed", "pred_boxes", "B×10×4"),
        ],
    )
