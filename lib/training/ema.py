r"""The exponential moving average of a model's weights: smoother than the last step.

Averaging the steps is Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM
Journal on Control and Optimization 30(4), 1992; the rising decay is that of TensorFlow's
`ExponentialMovingAverage`.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lib.checks import check_count, described, is_number


class EMA:
    r"""$\bar\theta \leftarrow d_k\bar\theta + (1 - d_k)\theta$ after step $k$.

    The decay rises, $d_k = \min(d, \frac{1 + k}{10 + k})$, so that the random start is soon forgotten: with a
    fixed $d = 0.999$ a third of it would be left after a thousand steps. Buffers of real numbers (batch
    statistics) are averaged too, others are copied.

    Args:
        model: the module to follow; the average starts as a copy of its parameters and buffers.
        decay: $d$, in [0, 1).

    Raises:
        ValueError: for another decay, or no module.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not is_number(decay) or not 0 <= decay < 1:
            raise ValueError(f"decay must be a number in [0, 1), got {decay!r}")
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be an nn.Module, got {described(model)}")
        self.decay = decay
        self.step = 0
        self.current = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self.average = {name: tensor.detach().clone() for name, tensor in self.current.items()}
        real = [name for name, tensor in self.current.items() if tensor.is_floating_point()]
        self._real = [self.average[name] for name in real], [self.current[name] for name in real]
        self._rest = [name for name in self.current if name not in set(real)]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the model's weights after one more step of the optimiser into the average."""
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        get_ema_multi_avg_fn(decay)(*self._real, None)
        for name in self._rest:
            self.average[name].copy_(self.current[name])

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Replaces the model's weights by the average."""
        for name, tensor in self.current.items():
            tensor.copy_(self.average[name])

    @contextmanager
    def applied(self):
        """Inside the block the model has the averaged weights; afterwards its own, bit for bit."""
        own = {name: tensor.detach().clone() for name, tensor in self.current.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self.current.items():
                    tensor.copy_(own[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors under the model's names."""
        return dict(self.average)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor], step: int) -> None:
        """Takes the averaged tensors back, as they were after `step` updates.

        Raises ValueError, before anything is changed, for tensors of other names or shapes.
        """
        check_count(0, step=step)
        shapes = {name: tuple(tensor.shape) for name, tensor in self.average.items()}
        found = {name: tuple(tensor.shape) for name, tensor in state.items()} if isinstance(state, dict) else state
        if found != shapes:
            raise ValueError(f"state must hold the tensors of this average, {len(shapes)} by name, got others")
        self.step = step
        for name, tensor in self.average.items():
            tensor.copy_(state[name])
