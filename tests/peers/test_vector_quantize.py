"""vector-quantize-pytorch's quantiser beside ours: the same codes, gradients, losses and moving averages."""

import pytest
import torch

from tests.peers.quantizers import same_quantizers

pytestmark = pytest.mark.slow  # importing it takes seconds


def test_codes_gradients_and_averages_over_several_batches():
    ours, theirs = same_quantizers(32, 8)
    torch.manual_seed(1)
    for _ in range(5):
        z = torch.randn(4, 50, 8)
        inputs = [z.clone().requires_grad_() for _ in range(2)]
        found, (quantised, indices, loss) = ours(inputs[0]), theirs(inputs[1])
        assert torch.equal(found.indices, indices)
        assert torch.allclose(found.z_q, quantised, atol=1e-6)
        assert found.commitment_loss.item() == pytest.approx(loss.item(), rel=1e-5)
        weights = torch.randn_like(z)
        ((found.z_q * weights).sum() + found.commitment_loss).backward()
        ((quantised * weights).sum() + loss).backward()
        assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-6)
        book = theirs._codebook
        assert torch.allclose(ours.cluster_size, book.cluster_size[0], atol=1e-5)
        assert torch.allclose(ours.embed_avg.t(), book.embed_avg[0], atol=1e-5)
        assert torch.allclose(ours.embed.t(), book.embed[0], atol=1e-4)
