"""ViT, MAE and Swin of Hugging Face's transformers, beside ours with the same weights."""

import pytest
import torch

from lib.training import load_photograph
from tests.peers.unets import same_random_weights
from tests.peers.vision import OURS, TINY, TransformersModel

pytestmark = pytest.mark.slow  # importing transformers takes seconds


@pytest.fixture
def photographs():
    return torch.stack([load_photograph(name, 32) for name in ("astronaut", "chelsea", "coffee")])


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("kind", TINY)
def test_outputs(kind, dtype, tolerance, photographs):
    ours, theirs = OURS[kind](**TINY[kind]).to(dtype), TransformersModel(kind, **TINY[kind]).to(dtype)
    same_random_weights(ours, theirs)
    given = [photographs.to(dtype)]
    if kind == "mae":
        given += [0.75, torch.rand(3, 16, generator=torch.Generator().manual_seed(0)).to(dtype)]
    with torch.no_grad():
        found, wanted = ours.eval()(*given), theirs.eval()(*given)
    for one, other in zip(found, wanted) if kind == "mae" else [(found, wanted)]:
        assert torch.isfinite(one).all() and one.shape == other.shape
        other = other.to(dtype)  # their mask is always float32
        assert torch.allclose(one, other, rtol=0, atol=tolerance * max(1, other.abs().max().item()))


@pytest.mark.parametrize("kind", TINY)
def test_gradients(kind, photographs):
    ours, theirs = OURS[kind](**TINY[kind]).double(), TransformersModel(kind, **TINY[kind]).double()
    same_random_weights(ours, theirs)
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(0)).double()
    for model in (ours, theirs):
        out = model.eval()(photographs.double(), *([0.75, noise] if kind == "mae" else []))
        (out[0] if kind == "mae" else out.square().mean()).backward()
    mine, hers = ours.patch_embed.proj.weight.grad, theirs.net.get_input_embeddings().projection.weight.grad
    assert mine.abs().max() > 0 and torch.allclose(mine, hers, rtol=0, atol=1e-9 * max(1, mine.abs().max().item()))
