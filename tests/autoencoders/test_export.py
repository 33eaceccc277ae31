"""Every model exports for batches of any size, and what a VQ-VAE writes and reads compiles."""

import pytest
import torch
from torch import Tensor

from lib.autoencoders import VAE, VQVAE, VQVAE2, Autoencoder, CodePrior

MODELS = {
    "Autoencoder": (lambda: Autoencoder(4, "conv"), {"x": torch.rand(5, 1, 28, 28)}),
    "VAE": (lambda: VAE(4), {"x": torch.rand(5, 1, 28, 28)}),
    "VQVAE": (lambda: VQVAE(16, 8), {"x": torch.rand(5, 1, 28, 28)}),
    "VQVAE2": (lambda: VQVAE2(1, 16, 1, 8, 4, 12), {"x": torch.rand(5, 1, 32, 32)}),
    "CodePrior": (
        lambda: CodePrior(9, (3, 4), num_classes=3, upper=(5, 2, 2), dim=16, depth=1, num_heads=2),
        {"codes": torch.randint(9, (5, 3, 4)), "labels": torch.arange(5) % 3, "upper": torch.randint(5, (5, 2, 2))},
    ),
}


def leaves(answer):
    """A tensor, or the tensors of a tuple, those of tuples in it too."""
    return [answer] if isinstance(answer, Tensor) else [leaf for part in answer for leaf in leaves(part)]


@torch.no_grad()
def assert_exports(model, given):
    """Exported with the first three of a batch, it answers to all of it, and to two, as the model itself does."""

    def first(n):
        return {name: value[:n] if isinstance(value, Tensor) else value for name, value in given.items()}

    batch = torch.export.Dim("batch")
    sizes = {name: {0: batch} if isinstance(value, Tensor) else None for name, value in given.items()}
    program = torch.export.export(model, (), first(3), dynamic_shapes=sizes).module()
    for n in (2, 5):
        found, wanted = (leaves(call(**first(n))) for call in (program, model))
        assert len(found) == len(wanted) > 0
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(found, wanted))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_exports_for_any_batch(name):
    torch.manual_seed(0)
    build, given = MODELS[name]
    assert_exports(build().eval(), given)


@torch.no_grad()
def test_words_are_written_and_read_in_one_graph():
    torch.manual_seed(0)
    for model, x in ((VQVAE(16, 8), torch.rand(2, 1, 28, 28)), (VQVAE2(1, 16, 1, 8, 4, 12), torch.rand(2, 1, 32, 32))):
        codes = model.eval().encode(x)
        found = torch.compile(model.encode, fullgraph=True, backend="eager")(x)
        assert all(torch.equal(*pair) for pair in zip(leaves(found), leaves(codes)))
        decode = torch.compile(model.decode, fullgraph=True, backend="eager")
        assert torch.allclose(decode(*leaves(codes)), model.decode(*leaves(codes)), atol=1e-5)
