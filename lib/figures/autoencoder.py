"""The pictures of the chapter on autoencoders."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Node, chain


def autoencoder_diagram() -> Diagram:
    """`Autoencoder(16)` and its loss."""
    return Diagram(
        "The image x goes through the encoder into the code z of 16 numbers, and from there alone through the decoder "
        "to the reconstruction; the loss compares the two images, and sees nothing else.",
        [
            Node("x", (0, 0), "data"),
            Node("encoder", (1, 0)),
            Node("z", (2, 0), "latent"),
            Node("decoder", (3, 0)),
            Node("sigmoid", (4, 0), "operation"),
            Node("x̂", (5, 0), "data"),
            Node("loss", (2, 1), "loss", "‖x − x̂‖^2", "`loss`"),
        ],
        [
            *chain("x", "B×1×28×28", "encoder", "B×16", "z", "B×16", "decoder"),
            *chain("decoder", "B×1×28×28", "sigmoid", "B×1×28×28", "x̂"),
            Arrow("x", "loss", leave="right", enter="top"),
            Arrow("x̂", "loss", leave="right", enter="bottom"),
        ],
    )
