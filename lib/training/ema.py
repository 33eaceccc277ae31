r"""The exponential moving average of a model's weights: smoother than the last step.

Averaging the steps is Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM
Journal on Control and Optimization 30(4), 1992; the rising decay is that of TensorFlow's
`ExponentialMovingAverage`.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lib.checks import check_count, described, is_number, upcast
from lib.training.interruption import uninterrupted


class EMA:
    r"""$\bar\theta \leftarrow d_k\bar\theta + (1 - d_k)\theta$ after step $k$.

    The decay rises, $d_k = \min(d, \frac{1 + k}{10 + k})$, so that the random start is soon forgotten: with a
    fixed $d = 0.999$ a third of it would be left after a thousand steps. Buffers of real numbers (batch
    statistics) are averaged too, others are copied, and so are numbers that are infinite from the start (a mask).

    The average is kept in float32 or wider, whatever the model is kept in: in 16 bits its small steps would be rounded
    away. The model is given it back in its own type.

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
        self.decay = float(decay)
        self.step = 0
        self.model = model
        self.average: dict[str, Tensor] = {}
        self._infinite: set[str] = set()  # names of what holds infinite numbers from the start
        for name, tensor in self.current.items():
            average = tensor.detach().clone()
            if average.is_floating_point():
                average = upcast(average)
                if not bool(average.isfinite().all()):
                    self._infinite.add(name)
            self.average[name] = average
        self._look_up()

    @property
    def current(self) -> dict[str, Tensor]:
        """The model's parameters and buffers by name, as they are now: tensors are replaced as well as changed."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the model's weights after one more step of the optimiser into the average.

        Raises ValueError where a tensor of the model is gone or has another shape.
        """
        if any(
            table.get(key) is not held or (kind and (held.dtype, held.device) != kind)  # type: ignore[union-attr]
            for table, key, held, kind in self._held
        ):
            self._look_up()
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        if self._plain[0]:
            torch._foreach_lerp_(*self._plain, 1 - decay)
        for average, current in self._special:
            current = current.to(average)
            mean = average.lerp(current, 1 - decay)
            average.copy_(torch.where(mean.isfinite(), mean, current))
        for average, current in self._copied:
            average.copy_(current)

    def _look_up(self) -> None:
        """Sorts the tensors of the model by how they are averaged, and notes where they were found.

        To look at those places again takes a step far less time than to go through the model again.
        """
        current = self._checked()
        self._plain: tuple[list[Tensor], list[Tensor]] = [], []
        self._special: list[tuple[Tensor, Tensor]] = []
        self._copied: list[tuple[Tensor, Tensor]] = []
        for name, average in self.average.items():
            tensor = current[name]
            if not average.is_floating_point():
                self._copied.append((average, tensor))
            elif name in self._infinite or (tensor.dtype, tensor.device) != (average.dtype, average.device):
                self._special.append((average, tensor))
            else:
                self._plain[0].append(average)
                self._plain[1].append(tensor)
        self._held = [
            (table, key, held, (held.dtype, held.device) if isinstance(held, Tensor) else None)
            for module in self.model.modules()
            for table in (module._modules, module._parameters, module._buffers)
            for key, held in table.items()
        ]

    def _checked(self) -> dict[str, Tensor]:
        """The model's tensors now, of the average's names and shapes at least; else `ValueError`."""
        current = self.current
        for name, average in self.average.items():
            if name not in current or current[name].shape != average.shape:
                raise ValueError(f"model must keep the names and shapes of its tensors, got {name} changed")
        return {name: current[name] for name in self.average}

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Replaces the model's weights by the average."""
        for name, tensor in self._checked().items():
            tensor.copy_(self.average[name])

    @contextmanager
    def applied(self):
        """Inside the block the model has the averaged weights; afterwards its own, bit for bit."""
        own = {name: tensor.detach().clone() for name, tensor in self._checked().items()}
        try:
            self.copy_to_model()
            yield
        finally:
            with uninterrupted(), torch.no_grad():
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
