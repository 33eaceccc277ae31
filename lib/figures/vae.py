"""The pictures of the chapter on the VAE."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Node, chain


def vae_diagram() -> Diagram:
    """`VAE(16)`: where the noise comes in, and that nothing else is random."""
    return Diagram(
        "The encoder gives two vectors for the image x, the mean μ and the log variance; noise ε, drawn afresh, is "
        "scaled by σ and added to μ, and the decoder makes the reconstruction of that sum z. Chance "
        "enters from the side, so gradients reach μ and σ.",
        [
            Node("x", (0, 1), "data"),
            Node("encoder", (1, 1)),
            Node("mu", (2, 0), "latent", "μ", "`mu`"),
            Node("logvar", (2, 1), "latent", "log σ^2", "`logvar`"),
            Node("noise", (2, 2), "noise", "ε", "`noise`"),
            Node("reparameterize", (3, 1), "operation", note="z = μ + σ ε"),
            Node("z", (4, 1), "latent"),
            Node("decoder", (5, 1)),
            Node("sigmoid", (6, 1), "operation"),
            Node("x̂", (7, 1), "data"),
        ],
        [
            *chain("x", "B×1×28×28", "encoder", "B×16", "logvar", "", "reparameterize"),
            Arrow("encoder", "mu", "B×16", side="top"),
            Arrow("mu", "reparameterize"),
            Arrow("noise", "reparameterize", "B×16"),
            *chain("reparameterize", "", "z", "B×16", "decoder", "B×1×28×28", "sigmoid", "B×1×28×28", "x̂"),
        ],
    )
