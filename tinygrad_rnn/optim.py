"""Training: what is done with gradients. Optimisers, clipping, a schedule for the learning rate.

Tensors are values: a step gives every parameter a new array, and writes into none. Names and equations are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .arrays import move, new_array, to_array
from .errors import described
from .tensor import Tensor

__all__ = ["SGD", "Adam", "CosineAnnealingLR", "Optimizer", "clip_grad_norm_"]


class Optimizer:
    """The base of the optimisers. A subclass writes ``update``; ``lr`` may be set at any time.

    ``state[i]`` is what it remembers of parameter i between steps: arrays and numbers, by name.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float):
        self.parameters = _checked(parameters)
        self.lr = _within("lr", lr, 0 < lr < math.inf, "a positive number")
        self.state: list[dict[str, Any]] = [{} for _ in self.parameters]

    def update(self, p: Any, g: Any, state: dict[str, Any]) -> Any:
        """The new array of a parameter, from its array p and its gradient g; may change its state."""
        raise NotImplementedError

    def step(self) -> None:
        """Give each parameter that has a gradient its new value."""
        for p, state in zip(self.parameters, self.state):
            if p.grad is not None:
                p._data = to_array(self.update(p._data, p.grad._data, state))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            if p.requires_grad:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The learning rate, and what is remembered of each parameter: enough to go on as if nothing had happened."""
        remembered = {
            str(i): {name: move(value, "cpu") for name, value in state.items()}
            for i, state in enumerate(self.state) if state
        }  # fmt: skip
        return {"lr": self.lr, "state": remembered} if remembered else {"lr": self.lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a :meth:`state_dict` of an optimiser of the same kind, for the same parameters in the same order.

        Raises:
            ValueError: it does not fit the parameters. Nothing has changed then.
        """
        remembered = state.get("state", {})
        loaded: list[dict[str, Any]] = [{} for _ in self.parameters]
        for i, values in remembered.items():
            if int(i) >= len(loaded):
                raise ValueError(f"state: expected {len(loaded)} parameters, got one of number {i}")
            p = self.parameters[int(i)]
            for name, value in values.items():
                if np.asarray(value).dtype.kind in "iu":  # a count of steps
                    loaded[int(i)][name] = int(value)
                elif value.shape != p.shape or value.dtype != p.dtype:
                    raise ValueError(f"state: {name} of parameter {i}: expected {described(p)}, got {described(value)}")
                else:
                    loaded[int(i)][name] = move(new_array(value), p.device)
        self.lr, self.state = float(state["lr"]), loaded


class SGD(Optimizer):
    """Stochastic gradient descent.

        v ← momentum · v + g        p ← p - lr · v

    where v starts as the first g. (``momentum=0``: p ← p - lr · g.)

    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SGD([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x
    tensor([ 0.8, -1.6], requires_grad=True)
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0
    ):
        super().__init__(parameters, lr)
        self.momentum = _within("momentum", momentum, 0 <= momentum < 1, "a number in [0, 1)")
        self.weight_decay = _within("weight_decay", weight_decay, weight_decay >= 0, "a number not below 0")

    def update(self, p: Any, g: Any, state: dict[str, Any]) -> Any:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if self.momentum:
            v = state.get("momentum_buffer")
            g = state["momentum_buffer"] = g if v is None else self.momentum * v + g
        return p - self.lr * g


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): steps of about lr, whatever the gradients' scale.

        m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²        p ← p - lr · m̂ / (√v̂ + ε)

    where m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) at step t. ``weight_decay`` adds that much of p to g, as an L2 penalty
    would; ``decoupled=True`` takes lr · weight_decay · p from p instead (AdamW; Loshchilov and Hutter, 2019).
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
    ):  # fmt: skip
        super().__init__(parameters, lr)
        self.betas = _within("betas", betas, all(0 <= beta < 1 for beta in betas), "two numbers in [0, 1)")
        self.eps = _within("eps", eps, eps >= 0, "a number not below 0")
        self.weight_decay = _within("weight_decay", weight_decay, weight_decay >= 0, "a number not below 0")
        self.decoupled = decoupled

    def update(self, p: Any, g: Any, state: dict[str, Any]) -> Any:
        beta1, beta2 = self.betas
        if self.decoupled:
            p = p - self.lr * self.weight_decay * p
        elif self.weight_decay:
            g = g + self.weight_decay * p
        t = state["step"] = state.get("step", 0) + 1
        m = state["exp_avg"] = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * g
        v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * (g * g)
        scale = np.sqrt(v) / math.sqrt(1 - beta2**t) + self.eps
        return p - self.lr / (1 - beta1**t) * (m / scale)


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float, on_nonfinite: str = "raise") -> Tensor:
    """Scale the gradients of parameters down, all by one factor, if their norm is larger than max_norm.

    The norm is that of all gradients as one vector (Pascanu et al., 2013). It is computed in float64, so that large
    gradients do not overflow; and after clipping it is max_norm (PyTorch, which adds 1e-6 to it, stays just below).

    Args:
        parameters: parameters; those without a gradient count as 0.
        max_norm: more than 0.
        on_nonfinite: what to do if the norm is infinite or NaN. ``"raise"``; ``"skip"``: forget all the gradients, so
            that the optimiser's next step does nothing; ``"ignore"``: scale without looking, as PyTorch does, so that
            NaN spreads (on a GPU this does not wait for the norm).

    Returns:
        The norm before clipping, a tensor without dimensions: ``float(norm)``.

    Raises:
        FloatingPointError: the norm is not finite, and on_nonfinite is "raise". The gradients are as they were.
    """
    _within("max_norm", max_norm, max_norm > 0, "a number above 0")
    _within("on_nonfinite", on_nonfinite, on_nonfinite in ("raise", "skip", "ignore"), "'raise', 'skip' or 'ignore'")
    clipped = [p for p in _checked(parameters) if p.grad is not None]
    norm = np.sqrt(sum(np.square(p.grad._data.astype(np.float64)).sum() for p in clipped))
    if on_nonfinite != "ignore" and not np.isfinite(norm):
        if on_nonfinite == "raise":
            raise FloatingPointError(f"the norm of the gradients is {norm}: look for its source with tg.anomaly(), or "
                                     'pass on_nonfinite="skip" to leave out such steps')  # fmt: skip
        for p in clipped:
            p.grad = None
    else:
        factor = max_norm / np.maximum(norm, max_norm)
        for p in clipped:
            p.grad = Tensor(to_array(p.grad._data * factor.astype(p.dtype)))
    return Tensor(to_array(norm))


class CosineAnnealingLR:
    """Takes an optimiser's learning rate down along half a cosine (Loshchilov and Hutter, 2017).

    Call ``step`` at the end of each epoch. After ``T_max`` of them the rate is ``eta_min``, and stays there. (PyTorch's
    goes up again.)

    >>> import tinygrad_rnn as tg
    >>> optimizer = SGD([tg.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = CosineAnnealingLR(optimizer, T_max=4)
    >>> for epoch in range(4):
    ...     schedule.step()
    ...     print(round(optimizer.lr, 3))
    0.854
    0.5
    0.146
    0.0
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        self.T_max = _within("T_max", T_max, T_max >= 1, "a number of steps, at least 1")
        self.eta_min = _within("eta_min", eta_min, eta_min >= 0, "a number not below 0")
        self.optimizer, self.base_lr, self.steps = optimizer, optimizer.lr, 0

    def step(self) -> None:
        """Set the learning rate for what comes next."""
        self.steps += 1
        share = (1 + math.cos(math.pi * min(self.steps / self.T_max, 1))) / 2
        self.optimizer.lr = self.eta_min + (self.base_lr - self.eta_min) * share

    def state_dict(self) -> dict[str, Any]:
        """Where it is. (The learning rate of now is the optimiser's to remember.)"""
        return {"base_lr": self.base_lr, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.base_lr, self.steps = float(state["base_lr"]), int(state["steps"])


def _checked(parameters: Iterable[Tensor]) -> list[Tensor]:
    """A list of tensors that can be trained, each once."""
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not parameters:
        raise ValueError("parameters: expected at least one, got none")
    for i, p in enumerate(parameters):
        if not isinstance(p, Tensor) or (p.node is not None and p.node.op is not None):
            raise TypeError(f"parameters[{i}]: expected a tensor that was not computed, such as model.parameters() "
                            f"gives, got {described(p)}")  # fmt: skip
    if len(set(parameters)) < len(parameters):
        raise ValueError("parameters: one of them comes twice, and would be updated twice")
    return parameters


def _within(name: str, value: Any, right: bool, expected: str) -> Any:
    if not right:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return value
