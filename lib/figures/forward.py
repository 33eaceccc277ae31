"""The pictures of the chapter on the way into noise."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Node


def diffusion_diagram() -> Diagram:
    """The chain of diffusion: one way is given, the other is learned."""
    return Diagram(
        "A chain of images from noise at the left to the picture at the right. Solid arrows to the right, p with θ, "
        "take a little noise away and are learned; dashed arrows to the left, q, add a little and are given.",
        [
            Node("x_T", (0, 0), "noise"),
            Node("early", (0, 1), "text", "…"),
            Node("x_t", (0, 2), "latent"),
            Node("x_{t−1}", (0, 3), "latent"),
            Node("late", (0, 4), "text", "…"),
            Node("x_0", (0, 5), "data"),
        ],
        [
            Arrow("x_T", "early"),
            Arrow("early", "x_t"),
            Arrow("x_t", "x_{t−1}", "p_θ(x_{t−1} | x_t)", leave="top", enter="top"),
            Arrow("x_{t−1}", "x_t", "q(x_t | x_{t−1})", leave="bottom", enter="bottom", dashed=True),
            Arrow("x_{t−1}", "late"),
            Arrow("late", "x_0"),
        ],
    )
