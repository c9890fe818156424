"""Optimisers: how a parameter's new value follows from its gradient. Each is one equation, in ``update``.

What they have in common is in :class:`~tinygrad_rnn.optim.Optimizer`: groups of parameters with settings of their own,
what is remembered between steps, and saving it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..arrays import move, new_array, to_array
from ..errors import described
from ..tensor import Tensor

Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]

Limit = tuple[Callable[[Any], bool], str]  # whether a value is right, and what is expected of it

POSITIVE: Limit = (lambda x: x > 0, "a number above 0")
NOT_NEGATIVE: Limit = (lambda x: x >= 0, "a number not below 0")
STEPS: Limit = (lambda n: n >= 1, "a number of steps, at least 1")
ON_NONFINITE: Limit = (("raise", "skip", "ignore").__contains__, "'raise', 'skip' or 'ignore'")
LIMITS: dict[str, Limit] = {
    "lr": (lambda lr: 0 <= lr < math.inf, "a finite number, not below 0"),
    "momentum": (lambda momentum: 0 <= momentum < 1, "a number in [0, 1)"),
    "dampening": (lambda dampening: 0 <= dampening <= 1, "a number from 0 to 1"),
    "alpha": (lambda alpha: 0 <= alpha < 1, "a number in [0, 1)"),
    "betas": (lambda betas: len(betas) == 2 and all(0 <= beta < 1 for beta in betas), "two numbers in [0, 1)"),
    **dict.fromkeys(("eps", "weight_decay", "lr_decay", "initial_accumulator_value"), NOT_NEGATIVE),
}


class Optimizer:
    """The base of the optimisers: a subclass writes ``update``, and hands its settings to ``__init__``.

    Parameters
    ----------
    parameters : iterable of Tensor, or of dict
        Those to train, such as ``model.parameters()``. Or groups of them: dicts with ``"params"`` and such settings as
        are to be other than for the rest.
    **settings : float or other
        A learning rate ``lr``, and whatever else ``update`` takes.

    Attributes
    ----------
    param_groups : list of dict
        A dict for each group, its settings in it: they may be changed at any time.
    defaults : dict
        The settings of those that say nothing else.
    state : list of dict
        What is remembered of each parameter between steps: arrays and numbers, by name.

    Raises
    ------
    TypeError
        What is to be trained is no tensor, or was computed; or it is a module, and not its parameters.
    ValueError
        There is nothing to train, or something comes twice; or a setting is outside of its limits.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> class SignDescent(Optimizer):
    ...     def __init__(self, parameters, lr=0.01):
    ...         super().__init__(parameters, lr=lr)
    ...     def update(self, p, g, state, lr):
    ...         return p - lr * np.sign(g)
    >>> x, y = tg.tensor(1.0, requires_grad=True), tg.tensor(1.0, requires_grad=True)
    >>> optimizer = SignDescent([{"params": [x]}, {"params": [y], "lr": 0.5}])
    >>> (3 * x + y).backward()
    >>> optimizer.step()
    >>> x.item(), y.item()
    (0.99, 0.5)
    """

    def __init__(self, parameters: Parameters, **settings: Any):
        given = listed(parameters)
        if not any(isinstance(part, Mapping) for part in given):
            given = [{"params": given}]
        self.defaults = settings
        self.param_groups: list[dict[str, Any]] = []
        self.state: list[dict[str, Any]] = []
        for i, part in enumerate(given):
            self.add_param_group(part, f"parameters[{i}]")

    def add_param_group(self, group: Mapping[str, Any], name: str = "group") -> None:
        """Train more parameters from now on: a dict with ``"params"``, and settings that differ from ``defaults``.

        Nothing is remembered of them at first. Schedules take them along from their next step, from their own ``lr``.

        Parameters
        ----------
        group : dict
            ``{"params": [...], "lr": 0.1}``, say.
        name : str, optional
            What an error calls it.

        Raises
        ------
        ValueError
            One of them is trained already, or a setting makes no sense. Nothing has changed then.
        """
        keys = list(group) if isinstance(group, Mapping) else []
        if "params" not in keys or any(key not in ("params", *self.defaults) for key in keys):
            raise ValueError(f"{name}: expected a dict with 'params', and any of {', '.join(self.defaults)}; "
                             f"got {f'one with {keys}' if keys else described(group)}")  # fmt: skip
        group = {**self.defaults, **group, "params": leaves(group["params"])}
        self.check({key: group[key] for key in self.defaults})
        leaves([*self.parameters, *group["params"]])
        self.param_groups.append(group)
        self.state += [{} for _ in group["params"]]

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise a ValueError if settings of a group are outside of their limits, or do not go together."""
        for name, value in settings.items():
            if name in LIMITS:
                within(name, value, *LIMITS[name])

    def update(self, p: Any, g: Any, state: dict[str, Any], **settings: Any) -> Any:
        """The new array of a parameter, from its array and its gradient; a subclass writes this.

        Parameters
        ----------
        p, g : array
            The parameter, and its gradient.
        state : dict
            What is remembered of it: may be changed.
        **settings : float or other
            Those of its group.

        Returns
        -------
        array
            A new one.
        """
        raise NotImplementedError(f"{type(self).__name__}: an optimiser computes in update(), and this one has none")

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def lr(self) -> float:
        """The learning rate of all groups. Schedules that are made after it was set start from there."""
        rates = {group["lr"] for group in self.param_groups}
        if len(rates) > 1:
            raise ValueError("lr: it is not the same for all groups: see optimizer.param_groups[i]['lr']")
        return rates.pop()

    @lr.setter
    def lr(self, lr: float) -> None:
        self.check({"lr": lr})
        for group in self.param_groups:
            group["lr"] = lr
            group.pop("initial_lr", None)

    def step(self, on_nonfinite: str = "ignore") -> None:
        """Give each parameter that has a gradient its new value.

        Parameters
        ----------
        on_nonfinite : {"ignore", "skip", "raise"}, optional
            What to do if a gradient has a NaN or an infinity in it. ``"ignore"``: step without looking, as PyTorch
            does, so that NaN spreads. ``"skip"``: change nothing, and remember nothing of these gradients. Looking
            takes time, and on a GPU waits for the gradients; :func:`~tinygrad_rnn.optim.clip_grad_norm_`, which has the
            same option, looks at their norm alone.

        Raises
        ------
        FloatingPointError
            A gradient is not finite, and on_nonfinite is ``"raise"``. Nothing has changed then.
        """
        if within("on_nonfinite", on_nonfinite, *ON_NONFINITE) != "ignore":
            for i, p in enumerate(self.parameters):
                if p.grad is not None and not np.isfinite(p.grad._data).all():
                    if on_nonfinite == "skip":
                        return
                    raise FloatingPointError(f"the gradient of parameter {i}, {described(p)}, is not finite: look for "
                                             'its source with tg.anomaly(), or pass on_nonfinite="skip" to leave out '
                                             "such steps")  # fmt: skip
        states = iter(self.state)
        for group in self.param_groups:
            settings = {name: plain(value) for name, value in group.items() if name not in ("params", "initial_lr")}
            for p, state in zip(group["params"], states):  # in this order: zip takes no state after the last parameter
                if p.grad is not None:
                    for name, kept in state.items():
                        if getattr(kept, "dtype", p.dtype) != p.dtype:
                            raise TypeError(f"{type(self).__name__}: a parameter is {described(p)} now, and its {name} "
                                            f"{kept.dtype}: make the optimiser anew")  # fmt: skip
                    p._data = to_array(self.update(p._data, p.grad._data, state, **settings))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            if p.requires_grad:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The settings, and what is remembered of each parameter: enough to go on as if nothing had happened."""
        groups, count = {}, 0
        for i, group in enumerate(self.param_groups):
            numbers = list(range(count, count := count + len(group["params"])))
            groups[str(i)] = {**group, "params": numbers}
        remembered = {
            str(i): {name: move(value, "cpu") for name, value in state.items()}
            for i, state in enumerate(self.state) if state
        }  # fmt: skip
        return {"param_groups": groups, "state": remembered} if remembered else {"param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a :meth:`state_dict` of an optimiser of the same kind, for the same parameters in the same order.

        Parameters
        ----------
        state : dict
            As :meth:`state_dict` returned it, or as it was read from a file.

        Raises
        ------
        ValueError
            It does not fit the groups and their parameters. Nothing has changed then.
        """
        own, saved = self.state_dict()["param_groups"], state.get("param_groups", {})
        if saved.keys() != own.keys():
            raise ValueError(f"state: expected groups {list(own)}, got {list(saved)}")
        parameters = self.parameters
        loaded: list[dict[str, Any]] = [{} for _ in parameters]
        for i, values in state.get("state", {}).items():
            if not 0 <= int(i) < len(loaded):
                raise ValueError(f"state: expected {len(loaded)} parameters, got one of number {i}")
            p = parameters[int(i)]
            for name, value in values.items():
                if np.asarray(value).dtype.kind in "iu":  # a count of steps
                    loaded[int(i)][name] = within(f"state: {name} of parameter {i}", int(value), *NOT_NEGATIVE)
                elif value.shape != p.shape or value.dtype != p.dtype:
                    raise ValueError(f"state: {name} of parameter {i}: expected {described(p)}, got {described(value)}")
                else:
                    loaded[int(i)][name] = move(new_array(value), p.device)
        settings = []
        for i, group in own.items():
            theirs = {name: plain(value) for name, value in saved[i].items()}
            numbers = theirs.pop("params", ())
            if (theirs.keys() ^ group.keys()) - {"params", "initial_lr"} or numbers != tuple(group["params"]):
                raise ValueError(f"state: group {i}: expected {list(group)} for parameters {group['params']}, "
                                 f"got {list(saved[i])} for {list(numbers)}")  # fmt: skip
            self.check(theirs)
            within("initial_lr", theirs.get("initial_lr", 0), *LIMITS["lr"])
            settings.append(theirs)
        for group, theirs in zip(self.param_groups, settings):
            group.update(theirs)
        self.state = loaded


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if it is wanted.

    Where v starts as the first g::

        v ← momentum · v + (1 - dampening) · g        p ← p - lr · v

    Parameters
    ----------
    parameters : iterable of Tensor, or of dict
        Those to train, or groups of them: see :class:`~tinygrad_rnn.optim.Optimizer`.
    lr : float, optional
        The learning rate.
    momentum : float, optional
        In [0, 1). Without it, p ← p - lr · g.
    dampening : float, optional
        From 0 to 1; it needs a momentum.
    weight_decay : float, optional
        So much of p is added to g.
    nesterov : bool, optional
        Look a step ahead, with g + momentum · v in place of v (Sutskever et al., 2013).

    Raises
    ------
    ValueError
        A setting is outside of its limits, or nesterov or dampening is given without momentum, or both together.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SGD([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x
    tensor([ 0.8, -1.6], requires_grad=True)
    """

    def __init__(
        self, parameters: Parameters, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False,
    ):  # fmt: skip
        super().__init__(parameters, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                         nesterov=nesterov)  # fmt: skip

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        momentum, dampening = settings.get("momentum"), settings.get("dampening")
        if settings.get("nesterov") and (not momentum or dampening):
            raise ValueError(f"nesterov: expected a momentum above 0 and no dampening, got {momentum} and {dampening}")
        if dampening and not momentum:
            raise ValueError(f"dampening: it does nothing without momentum, got {dampening}")

    def update(self, p, g, state, lr, momentum, dampening, weight_decay, nesterov):
        g = penalised(g, p, weight_decay)
        if momentum:
            v = state.get("momentum_buffer")
            v = state["momentum_buffer"] = g if v is None else momentum * v + (1 - dampening) * g
            g = g + momentum * v if nesterov else v
        return p - lr * g


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012): each gradient divided by its root mean square of late.

    By default::

        v ← α v + (1 - α) g²        p ← p - lr · g / (√v + ε)

    Parameters
    ----------
    parameters : iterable of Tensor, or of dict
        Those to train, or groups of them: see :class:`~tinygrad_rnn.optim.Optimizer`.
    lr : float, optional
        The learning rate.
    alpha : float, optional
        How much of the mean is kept at each step, α.
    eps : float, optional
        What is added to the root, ε.
    weight_decay : float, optional
        So much of p is added to g.
    momentum : float, optional
        With it, b ← momentum · b + g / (√v + ε), and p ← p - lr · b.
    centered : bool, optional
        Divide by the standard deviation, √(v - m²), where m ← α m + (1 - α) g (Graves, 2013).

    Raises
    ------
    ValueError
        A setting is outside of its limits.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, -200.0], requires_grad=True)
    >>> optimizer = RMSprop([x], lr=0.01)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x                                                  # steps of one size, lr / √(1 - α)
    tensor([   0.9, -199.9], requires_grad=True)
    """

    def __init__(
        self, parameters: Parameters, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False,
    ):  # fmt: skip
        super().__init__(parameters, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                         centered=centered)  # fmt: skip

    def update(self, p, g, state, lr, alpha, eps, weight_decay, momentum, centered):
        g = penalised(g, p, weight_decay)
        v = state["square_avg"] = alpha * state.get("square_avg", 0.0) + (1 - alpha) * (g * g)
        if centered:
            m = state["grad_avg"] = alpha * state.get("grad_avg", 0.0) + (1 - alpha) * g
            v = np.maximum(v - m * m, 0)  # which rounding can take below 0, where gradients do not change
        g = g / (np.sqrt(v) + eps)
        if momentum:
            g = state["momentum_buffer"] = momentum * state.get("momentum_buffer", 0.0) + g
        return p - lr * g


class Adagrad(Optimizer):
    """Adagrad (Duchi et al., 2011): each gradient divided by the root of the sum of all its squares so far.

    At step t::

        s ← s + g²        p ← p - lr / (1 + (t - 1) · lr_decay) · g / (√s + ε)

    Parameters
    ----------
    parameters : iterable of Tensor, or of dict
        Those to train, or groups of them: see :class:`~tinygrad_rnn.optim.Optimizer`.
    lr : float, optional
        The learning rate.
    lr_decay : float, optional
        How fast that goes down.
    weight_decay : float, optional
        So much of p is added to g.
    initial_accumulator_value : float, optional
        What s starts as.
    eps : float, optional
        What is added to the root, ε.

    Raises
    ------
    ValueError
        A setting is outside of its limits.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, -200.0], requires_grad=True)
    >>> optimizer = Adagrad([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x
    tensor([   0.9, -199.9], requires_grad=True)
    """

    def __init__(
        self, parameters: Parameters, lr: float = 0.01, lr_decay: float = 0.0, weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0, eps: float = 1e-10,
    ):  # fmt: skip
        super().__init__(parameters, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                         initial_accumulator_value=initial_accumulator_value, eps=eps)  # fmt: skip

    def update(self, p, g, state, lr, lr_decay, weight_decay, initial_accumulator_value, eps):
        g = penalised(g, p, weight_decay)
        t = state["step"] = state.get("step", 0) + 1
        s = state["sum"] = state.get("sum", initial_accumulator_value) + g * g
        return p - lr / (1 + (t - 1) * lr_decay) * (g / (np.sqrt(s) + eps))


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): steps of about lr, whatever the gradients' scale.

    At step t::

        m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²        p ← p - lr · m̂ / (√v̂ + ε)

    where m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ).

    Parameters
    ----------
    parameters : iterable of Tensor, or of dict
        Those to train, or groups of them: see :class:`~tinygrad_rnn.optim.Optimizer`.
    lr : float, optional
        The learning rate.
    betas : tuple of float, optional
        How much of the means is kept at each step, β₁ and β₂.
    eps : float, optional
        What is added to the root, ε.
    weight_decay : float, optional
        So much of p is added to g, as an L2 penalty would; see :class:`~tinygrad_rnn.optim.AdamW`.

    Raises
    ------
    ValueError
        A setting is outside of its limits.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, -200.0], requires_grad=True)
    >>> optimizer = Adam([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x
    tensor([   0.9, -199.9], requires_grad=True)
    """

    def __init__(
        self, parameters: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):  # fmt: skip
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, p, g, state, lr, betas, eps, weight_decay):
        beta1, beta2 = betas
        g = penalised(g, p, weight_decay)
        t = state["step"] = state.get("step", 0) + 1
        m = state["exp_avg"] = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * g
        v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * (g * g)
        scale = np.sqrt(v) / math.sqrt(1 - beta2**t) + eps
        return p - lr / (1 - beta1**t) * (m / scale)


class AdamW(Adam):
    """Adam with its weight decay decoupled (Loshchilov and Hutter, 2019).

    lr · weight_decay · p is taken from p, and g left alone.

    Parameters
    ----------
    parameters : iterable of Tensor, or of dict
        Those to train, or groups of them: see :class:`~tinygrad_rnn.optim.Optimizer`.
    lr : float, optional
        The learning rate.
    betas : tuple of float, optional
        How much of the means is kept at each step, β₁ and β₂.
    eps : float, optional
        What is added to the root, ε.
    weight_decay : float, optional
        How much of p is taken away at each step, in units of lr.

    Raises
    ------
    ValueError
        A setting is outside of its limits.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, -200.0], requires_grad=True)
    >>> optimizer = AdamW([x], lr=0.1, weight_decay=0.5)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x                                                  # first 95 % of it, then the step of Adam
    tensor([   0.85, -189.9 ], requires_grad=True)
    """

    def __init__(
        self, parameters: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):  # fmt: skip
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def update(self, p, g, state, lr, betas, eps, weight_decay):
        return super().update(p - lr * weight_decay * p, g, state, lr, betas, eps, weight_decay=0)


def penalised(g: Any, p: Any, weight_decay: float) -> Any:
    """The gradient, with that of the penalty weight_decay / 2 · p²."""
    return g + weight_decay * p if weight_decay else g


def listed(parameters: Any) -> list:
    """What is to be trained, or groups of it, as a list."""
    if isinstance(parameters, (Tensor, Mapping)):
        return [parameters]
    if hasattr(parameters, "parameters"):
        raise TypeError(f"parameters: expected those of a module, module.parameters(), got the module itself, a "
                        f"{type(parameters).__name__}")  # fmt: skip
    if not isinstance(parameters, Iterable):
        raise TypeError("parameters: expected a tensor, or several, such as module.parameters() gives, got "
                        f"{described(parameters)}")  # fmt: skip
    return list(parameters)


def leaves(parameters: Parameters) -> list[Tensor]:
    """A list of tensors that can be trained, each once."""
    parameters = listed(parameters)
    if not parameters:
        raise ValueError("parameters: expected at least one, got none")
    for i, p in enumerate(parameters):
        if not isinstance(p, Tensor) or (p.node is not None and p.node.op is not None):
            raise TypeError(f"parameters[{i}]: expected a tensor that was not computed, such as model.parameters() "
                            f"gives, got {described(p)}")  # fmt: skip
    if len(set(parameters)) < len(parameters):
        raise ValueError("parameters: one of them comes twice, and would be updated twice")
    return parameters


def within(name: str, value: Any, right: Callable[[Any], bool], expected: str) -> Any:
    """The value of a setting, if it is right."""
    try:
        known = right(value)
    except (TypeError, ValueError):  # of another kind than what is expected
        known = False
    if not known:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return value


def plain(value: Any) -> Any:
    """A setting that was saved in a file, as Python's number, or tuple of numbers."""
    value = np.asarray(value).tolist()
    return tuple(value) if isinstance(value, list) else value
