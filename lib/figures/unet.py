"""The pictures of the chapter on the U-Net."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Node

LEFT, RIGHT = 0, 2
TIMED = "+ `temb`"


def unet_diagram() -> Diagram:
    """`digit_unet()`, block by block."""
    down = ["x_t", "pixel_unshuffle", "conv_in", "down.0.block.0", "down.0.downsample", "down.1.block.0"]
    up = ["up.1.block.0", "up.1.block.1", "up.1.upsample", "up.0.block.0", "up.0.block.1", "conv_out", "ε̂"]
    large, small, deep = "B×32×14×14", "B×32×7×7", "B×64×7×7"
    skips = [("conv_in", "up.0.block.1"), ("down.0.block.0", "up.0.block.0"), ("down.0.downsample", "up.1.block.1"),
             ("down.1.block.0", "up.1.block.0")]  # fmt: skip
    return Diagram(
        "A U of blocks: down the left side the map shrinks from 28 to 7 pixels a side, through the middle, and up the "
        "right side it grows again. Four horizontal arrows carry maps of the left side straight to blocks of equal "
        "size on the right. The time t becomes a vector, which every block marked with temb adds.",
        [
            Node("x_t", (0, LEFT), "data"),
            Node("pixel_unshuffle", (1, LEFT), "operation"),
            Node("conv_in", (2, LEFT)),
            Node("down.0.block.0", (3, LEFT), note=TIMED),
            Node("down.0.downsample", (5, LEFT), text="`down.0`", note="`downsample`"),
            Node("down.1.block.0", (6, LEFT), note=TIMED),
            Node("mid", (7, 1), note=TIMED),
            Node("up.1.block.0", (6, RIGHT), note=TIMED),
            Node("up.1.block.1", (5, RIGHT), note=TIMED),
            Node("up.1.upsample", (4, RIGHT), text="`up.1.upsample`"),
            Node("up.0.block.0", (3, RIGHT), note=TIMED),
            Node("up.0.block.1", (2, RIGHT), note=TIMED),
            Node("conv_out", (1, RIGHT)),
            Node("ε̂", (0, RIGHT), "noise"),
            Node("t", (0, 1), "data"),
            Node("temb", (1, 1)),
        ],
        [
            *(
                Arrow(a, b, s, side="right")
                for a, b, s in zip(down, down[1:], ["B×1×28×28", "B×4×14×14", large, large, small])
            ),
            Arrow("down.1.block.0", "mid", deep, leave="bottom", enter="left"),
            Arrow("mid", "up.1.block.0", deep, leave="right", enter="bottom"),
            *(
                Arrow(a, b, s, side="left")
                for a, b, s in zip(up, up[1:], [deep, deep, "B×64×14×14", large, large, "B×1×28×28"])
            ),
            *(Arrow(a, b) for a, b in skips),
            Arrow("t", "temb", "B"),
        ],
    )
