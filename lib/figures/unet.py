"""The pictures of the chapter on the U-Net."""

from lib.notebook.diagram import Diagram
from lib.notebook.parts import Arrow, Node, chain

LEFT, RIGHT = 0, 2
TIMED = "+ `temb`"


def unet_diagram() -> Diagram:
    """`digit_unet()`, block by block."""
    large, small, deep = "B×32×14×14", "B×32×7×7", "B×64×7×7"
    return Diagram(
        "A U of blocks: down the left side the map shrinks from 28 to 7 pixels a side, through the middle, and up the "
        "right side it grows again. Four horizontal arrows carry maps of the left side straight to blocks of equal "
        "size on the right. The time t becomes a vector, which every block marked with temb adds.",
        [
            Node("x_t", (0, LEFT), "data"),
            Node("pixel_unshuffle", (1, LEFT), "operation"),
            Node("conv_in", (3, LEFT)),
            Node("down.0.block.0", (4, LEFT), note=TIMED),
            Node("down.0.downsample", (6, LEFT), text="`down.0`", note="`downsample`"),
            Node("down.1.block.0", (7, LEFT), note=TIMED),
            Node("mid", (8, 1), note=TIMED),
            Node("up.1.block.0", (7, RIGHT), note=TIMED),
            Node("up.1.block.1", (6, RIGHT), note=TIMED),
            Node("up.1.upsample", (5, RIGHT), text="`up.1.upsample`"),
            Node("up.0.block.0", (4, RIGHT), note=TIMED),
            Node("up.0.block.1", (3, RIGHT), note=TIMED),
            Node("conv_out", (2, RIGHT)),
            Node("pixel_shuffle", (1, RIGHT), "operation"),
            Node("ε̂", (0, RIGHT), "noise"),
            Node("t", (0, 1), "data"),
            Node("temb", (1, 1)),
        ],
        [
            *chain(
                "x_t", "B×1×28×28", "pixel_unshuffle", "B×4×14×14", "conv_in", large, "down.0.block.0", side="right"
            ),
            *chain("down.0.block.0", large, "down.0.downsample", small, "down.1.block.0", side="right"),
            Arrow("down.1.block.0", "mid", deep, leave="bottom", enter="left"),
            Arrow("mid", "up.1.block.0", deep, leave="right", enter="bottom"),
            *chain(
                "up.1.block.0", deep, "up.1.block.1", deep, "up.1.upsample", "B×64×14×14", "up.0.block.0", side="left"
            ),
            *chain("up.0.block.0", large, "up.0.block.1", large, "conv_out", side="left"),
            *chain("conv_out", "B×4×14×14", "pixel_shuffle", "B×1×28×28", "ε̂", side="left"),
            Arrow("conv_in", "up.0.block.1"),
            Arrow("down.0.block.0", "up.0.block.0"),
            Arrow("down.0.downsample", "up.1.block.1"),
            Arrow("down.1.block.0", "up.1.block.0"),
            Arrow("t", "temb", "B"),
        ],
    )
