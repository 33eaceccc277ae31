"""The pictures of the chapter on the VQ-VAE."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Group, Node


def vqvae_diagram() -> Diagram:
    """`VQVAE()`, 256 codes of 16 numbers, with the way of the gradient past the quantiser."""
    return Diagram(
        "The encoder turns the image x into 7 by 7 vectors, each of which the quantiser replaces by the nearest of the "
        "256 codes; the decoder sees only the codes. A dashed arrow leads from the codes back to the vectors: there "
        "the gradient is copied past the choice, which has none.",
        [
            Node("x", (0, 0), "data"),
            Node("enc", (1, 0)),
            Node("quantize_conv", (2, 0)),
            Node("z_e", (3, 0), "latent"),
            Node("nearest", (4, 0), "operation"),
            Node("indices", (5, 0), "latent", "`indices`", "B×7×7"),
            Node("embed", (5, 1), "latent", "`embed`", "16×256"),
            Node("lookup", (6, 0), "operation"),
            Node("z_q", (7, 0), "latent"),
            Node("dec", (8, 0)),
            Node("x̂", (9, 0), "data"),
        ],
        [
            Arrow("x", "enc", "B×1×28×28"),
            Arrow("enc", "quantize_conv", "B×64×7×7"),
            Arrow("quantize_conv", "z_e", "B×16×7×7"),
            Arrow("z_e", "nearest"),
            Arrow("nearest", "indices"),
            Arrow("indices", "lookup"),
            Arrow("embed", "nearest", leave="top", enter="right"),
            Arrow("embed", "lookup", leave="bottom", enter="right"),
            Arrow("lookup", "z_q"),
            Arrow("z_q", "z_e", "gradient", leave="left", enter="left", side="left", around=32, dashed=True),
            Arrow("z_q", "dec", "B×16×7×7"),
            Arrow("dec", "x̂", "B×1×28×28"),
        ],
        [Group("quantize", ["nearest", "indices", "embed", "lookup"])],
    )
