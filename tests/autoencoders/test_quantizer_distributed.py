"""The quantiser over two processes, which exchange counts, sums and restarts through gloo."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lib.autoencoders import VectorQuantizer

pytestmark = pytest.mark.slow  # several processes, each of which imports torch

SETTINGS = [{"ema": 0.9}, {"ema": 0.9, "restart": 3.0}, {"ema": None, "restart": 3.0}]
SIZES = (6, 10)  # the images of each process where they do not hold equally many


def batches():
    """Three batches of 16 images of 5 tokens."""
    return torch.randn(3, 16, 5, 4, generator=torch.Generator().manual_seed(2))


def quantise(rank, processes, sizes):
    """What each setting ends with: the state, and the perplexity of every step."""
    ends = []
    for settings in SETTINGS:
        torch.manual_seed(0)
        quantizer = VectorQuantizer(12, 4, **settings).train()
        torch.manual_seed(rank)  # each draws for itself
        steps = [quantizer(z.split(sizes)[rank] if processes > 1 else z).perplexity.item() for z in batches()]
        ends.append(({name: value.detach() for name, value in quantizer.state_dict().items()}, steps))
    return ends


def process(rank, folder, sizes):
    """One of two."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{sizes[0]}", rank=rank, world_size=2)
    torch.save(quantise(rank, 2, sizes), folder / f"{sizes[0]}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("sizes", [(8, 8), SIZES])
def test_two_processes_count_what_one_counts(sizes, tmp_path):
    mp.spawn(process, (tmp_path, sizes), nprocs=2)
    first, second = (torch.load(tmp_path / f"{sizes[0]}-{rank}.pt") for rank in range(2))
    for settings, alone, ours, others in zip(SETTINGS, quantise(0, 1, None), first, second):
        assert ours[1] == others[1] and all(torch.equal(ours[0][name], others[0][name]) for name in ours[0]), settings
        if "restart" in settings and sizes == SIZES:
            continue  # other lots: who draws knows only how many vectors it holds itself
        assert ours[1] == pytest.approx(alone[1], rel=1e-6)
        for name, value in alone[0].items():
            assert torch.allclose(ours[0][name], value, rtol=1e-5, atol=1e-6), (settings, name)
