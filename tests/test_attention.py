"""Attention against PyTorch's own, against its formula, and where it must refuse."""

import pytest
import torch

from lib.attention import Attention, attention


@pytest.fixture
def block():
    torch.manual_seed(0)
    return Attention(dim=24, num_heads=3).double().eval()


@pytest.fixture
def tokens():
    return torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1)).double()


def theirs(block):
    """`nn.MultiheadAttention` with the weights of `block`."""
    peer = torch.nn.MultiheadAttention(block.dim, block.num_heads, batch_first=True).double().eval()
    peer.load_state_dict({
        "in_proj_weight": block.qkv.weight, "in_proj_bias": block.qkv.bias,
        "out_proj.weight": block.proj.weight, "out_proj.bias": block.proj.bias,
    })  # fmt: skip
    return peer


def test_equals_multihead_attention(block, tokens):
    mixed, weights = theirs(block)(tokens, tokens, tokens, average_attn_weights=False)
    assert torch.allclose(block(tokens), mixed, atol=1e-12)
    assert torch.allclose(block.weights(tokens), weights, atol=1e-12)


def test_equals_multihead_attention_under_a_mask(block, tokens):
    causal = torch.full((7, 7), -torch.inf).triu(1).double()
    mixed, weights = theirs(block)(tokens, tokens, tokens, attn_mask=causal, average_attn_weights=False)
    assert torch.allclose(block(tokens, causal), mixed, atol=1e-12)
    assert torch.allclose(block.weights(tokens, causal), weights, atol=1e-12)
    assert block.weights(tokens, causal).triu(1).abs().max() == 0


def test_weights_are_probabilities_and_order_does_not_matter(block, tokens):
    assert torch.allclose(block.weights(tokens).sum(-1), torch.ones(2, 3, 7).double())
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(block(tokens[:, order]), block(tokens)[:, order], atol=1e-12)


def test_one_key_returns_its_value():
    q, k, v = torch.randn(4, 5), torch.randn(1, 5), torch.randn(1, 3)
    mixed, weights = attention(q, k, v)
    assert torch.equal(weights, torch.ones(4, 1))
    assert torch.allclose(mixed, v.expand(4, 3))


def test_meta_compile_and_autocast(block, tokens):
    with torch.device("meta"):
        assert Attention(8, 2)(torch.empty(2, 3, 8)).shape == (2, 3, 8)
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(tokens), block(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        assert block.float()(tokens.float()).dtype == torch.bfloat16


@pytest.mark.parametrize("dim, num_heads", [(10, 3), (4, 8)])
def test_heads_must_divide_the_width(dim, num_heads):
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        Attention(dim, num_heads)


@pytest.mark.parametrize("sizes, name", [((0, 1), "dim"), ((8, 0), "num_heads"), ((8, 2.0), "num_heads")])
def test_sizes_must_be_counts(sizes, name):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
        Attention(*sizes)


@pytest.mark.parametrize("shape", [(7, 24), (2, 7, 23), (1, 2, 7, 24)])
def test_tokens_must_fit(block, shape):
    with pytest.raises(ValueError, match=r"x must have shape \(B, N, 24\)"):
        block(torch.zeros(shape).double())


Q, K, V = (torch.zeros(2, 3, n, 4) for n in (5, 6, 6))


@pytest.mark.parametrize("shape", [(4, 6), (5, 5), (4, 3, 5, 6), (2, 2, 5, 6), (1, 2, 3, 5, 6), (6, 5)])
def test_masks_must_fit(block, shape):
    """One that broadcasts the other way round would make several answers of one."""
    with pytest.raises(ValueError, match=r"mask must broadcast to the scores \(2, 3, 5, 6\), got"):
        attention(Q, K, V, torch.zeros(shape))
    for call in (block, block.weights):
        with pytest.raises(ValueError, match=r"mask must broadcast to the scores \(2, 3, 7, 7\), got"):
            call(torch.zeros(2, 7, 24).double(), torch.zeros(shape).double())


@pytest.mark.parametrize("shape", [(4, 3, 6, 4), (2, 2, 6, 4), (2, 6, 4)])
def test_keys_and_values_must_be_of_the_same_batch(shape):
    for k, v in ((torch.zeros(shape), V), (K, torch.zeros(shape))):
        with pytest.raises(ValueError, match="q, k and v must have shapes that broadcast, got"):
            attention(Q, k, v)


@pytest.mark.parametrize("shape", [(7, 7), (1, 7), (3, 7, 7), (2, 1, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_mask_may_be_of_another_type(block, tokens, shape, dtype):
    mask = torch.zeros(shape, dtype=dtype)
    mask[..., 2] = -torch.inf
    block, tokens = block.bfloat16(), tokens.bfloat16()
    wanted = block(tokens, mask.bfloat16())
    assert wanted.dtype == torch.bfloat16 and torch.equal(block(tokens, mask), wanted)
    mixed, weights = attention(*block.heads(tokens), mask)
    assert mixed.dtype == torch.bfloat16 and weights[..., 2].max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("least", [-torch.inf, torch.finfo(torch.float32).min])
def test_a_query_without_keys_looks_at_all(dtype, least):
    """As an image of padding alone does; in 16 bits the least float32 is -inf as well."""
    block, tokens = Attention(8, 2).to(dtype), torch.randn(2, 5, 8).to(dtype).requires_grad_()
    mask = torch.zeros(2, 1, 5, 5)
    mask[0, :, 3] = mask[1, ..., 2] = least
    found, weights, free = block(tokens, mask), block.weights(tokens, mask), block(tokens)
    assert found.isfinite().all() and weights.isfinite().all()
    if least == -torch.inf:
        assert torch.allclose(found[0], free[0], atol=1e-2 if dtype != torch.float32 else 1e-6)
    assert torch.allclose(weights.sum(-1).float(), torch.ones(2, 2, 5), atol=1e-2) and weights[1, ..., 2].max() == 0
    (found.float().sum() + weights.float().square().sum()).backward()
    assert tokens.grad.isfinite().all()


def test_a_query_without_keys_looks_at_all_under_autocast():
    block, tokens = Attention(8, 2), torch.randn(1, 5, 8)
    mask = torch.full((5, 5), -torch.inf)
    with torch.autocast("cpu", torch.bfloat16):
        assert block(tokens, mask).isfinite().all() and block.weights(tokens, mask).isfinite().all()
    mixed, weights = attention(tokens, tokens, tokens, mask[:, :1])
    assert torch.equal(weights, attention(tokens, tokens, tokens)[1]) and mixed.isfinite().all()
