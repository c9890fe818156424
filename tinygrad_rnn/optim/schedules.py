"""Schedules: how learning rates change while training. Call ``step`` at the end of each epoch (or of each batch).

All but :class:`~tinygrad_rnn.optim.ReduceLROnPlateau` are functions of the number of steps alone, so that they can be
put one after another (:class:`~tinygrad_rnn.optim.SequentialLR`), and a new one is a line
(:class:`~tinygrad_rnn.optim.Schedule`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .optimizers import LIMITS, NOT_NEGATIVE, POSITIVE, STEPS, Optimizer, plain, within


class Schedule:
    """The base of the schedules: a subclass writes ``rate``.

    The rates that it starts from are those that the optimiser's groups had when it got its first schedule, or when its
    ``lr`` was last set; of a group that was added later, its own. Making a schedule sets the rates of its step 0. From
    then on it alone may change them: another one beside it, or a rate set by hand, is an error at the next step.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> class InverseRoot(Schedule):
    ...     def rate(self, base, steps):
    ...         return base / math.sqrt(1 + steps)
    >>> optimizer = tg.optim.SGD([tg.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = InverseRoot(optimizer)
    >>> for epoch in range(3):
    ...     schedule.step()
    >>> optimizer.lr
    0.5
    """

    def __init__(self, optimizer: Optimizer):
        self.optimizer, self.steps = optimizer, 0
        self.base_lrs: list[float] = []
        self._set()

    def rate(self, base: float, steps: int) -> float:
        """The learning rate after so many steps, of a group that started from base."""
        raise NotImplementedError(f"{type(self).__name__}: a schedule computes in rate(), and this one has none")

    def step(self) -> None:
        """Set the learning rates for what comes next.

        Raises
        ------
        RuntimeError
            Something else has changed them since the last step.
        """
        for group, base in zip(self.optimizer.param_groups, self.base_lrs):  # those of new groups are their own still
            if group["lr"] != (rate := self.rate(base, self.steps)):
                raise RuntimeError(f"{type(self).__name__}: the learning rate is {group['lr']}, not {rate}, as it left "
                                   "it: nothing else may change it. SequentialLR makes one schedule of several; after "
                                   "setting optimizer.lr, make a new schedule; and load one together with its "
                                   "optimiser")  # fmt: skip
        self.steps += 1
        self._set()

    def _set(self) -> None:
        groups = self.optimizer.param_groups
        self.base_lrs += [group.setdefault("initial_lr", group["lr"]) for group in groups[len(self.base_lrs) :]]
        for group, base in zip(groups, self.base_lrs):
            group["lr"] = self.rate(base, self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Where it is: the learning rates of now are the optimiser's to remember."""
        return {"base_lrs": self.base_lrs, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`.

        Raises
        ------
        ValueError
            It is of another number of groups, or makes no sense. Nothing has changed then.
        """
        base_lrs = [float(within("state: base_lrs", plain(base), *LIMITS["lr"])) for base in state["base_lrs"]]
        steps = within("state: steps", plain(state["steps"]), *NOT_NEGATIVE)
        groups = len(self.optimizer.param_groups)
        if len(base_lrs) != groups:
            raise ValueError(f"state: expected base_lrs of {groups} groups, got {base_lrs}")
        self.base_lrs, self.steps = base_lrs, int(steps)


class StepLR(Schedule):
    """The rate times gamma, every step_size steps.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    step_size : int
        How many steps there are between two reductions.
    gamma : float, optional
        The factor, above 0.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size = within("step_size", step_size, *STEPS)
        self.gamma = within("gamma", gamma, *POSITIVE)
        super().__init__(optimizer)

    def rate(self, base: float, steps: int) -> float:
        return base * self.gamma ** (steps // self.step_size)


class ExponentialLR(Schedule):
    """The rate times gamma, every step.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    gamma : float
        The factor, above 0.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = ExponentialLR(optimizer, gamma=0.5)
    >>> for epoch in range(3):
    ...     schedule.step()
    >>> optimizer.lr
    0.125
    """

    def __init__(self, optimizer: Optimizer, gamma: float):
        self.gamma = within("gamma", gamma, *POSITIVE)
        super().__init__(optimizer)

    def rate(self, base: float, steps: int) -> float:
        return base * self.gamma**steps


class LinearLR(Schedule):
    """The rate times a factor that goes straight from start_factor to end_factor in total_iters steps: a warm-up.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    start_factor, end_factor : float, optional
        The factor at the beginning, and at the end and from then on.
    total_iters : int, optional
        The number of steps from the one to the other.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = LinearLR(optimizer, start_factor=0.25, total_iters=3)
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ):
        self.start_factor = within("start_factor", start_factor, *NOT_NEGATIVE)
        self.end_factor = within("end_factor", end_factor, *NOT_NEGATIVE)
        self.total_iters = within("total_iters", total_iters, *STEPS)
        super().__init__(optimizer)

    def rate(self, base: float, steps: int) -> float:
        share = min(steps / self.total_iters, 1)
        return base * (self.start_factor * (1 - share) + self.end_factor * share)


class CosineAnnealingLR(Schedule):
    """Takes the rate down along half a cosine (Loshchilov and Hutter, 2017).

    After ``T_max`` steps it is ``eta_min``, and stays there. (PyTorch's goes up again.)

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    T_max : int
        The number of steps from the highest rate to the lowest.
    eta_min : float, optional
        The lowest.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.tensor(0.0, requires_grad=True)], lr=1.0)
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
        self.T_max = within("T_max", T_max, *STEPS)
        self.eta_min = within("eta_min", eta_min, *NOT_NEGATIVE)
        super().__init__(optimizer)

    def rate(self, base: float, steps: int) -> float:
        share = (1 + math.cos(math.pi * min(steps / self.T_max, 1))) / 2
        return self.eta_min + (base - self.eta_min) * share


class SequentialLR(Schedule):
    """Schedules one after another: the next begins, with its step 0, at each of the milestones.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    schedulers : sequence of Schedule
        Of the same optimiser: such as depend on the number of steps alone.
    milestones : sequence of int
        The steps at which the next one begins, ascending: one fewer than there are schedules.

    Raises
    ------
    TypeError
        One of the schedules is of another optimiser, or does not depend on the number of steps alone.
    ValueError
        The milestones are not as many, or do not ascend.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> warm_up, cosine = LinearLR(optimizer, 0.25, total_iters=3), CosineAnnealingLR(optimizer, T_max=2)
    >>> schedule = SequentialLR(optimizer, [warm_up, cosine], milestones=[3])
    >>> rates = []
    >>> for epoch in range(6):
    ...     rates.append(round(optimizer.lr, 3))
    ...     schedule.step()
    >>> rates
    [0.25, 0.5, 0.75, 1.0, 0.5, 0.0]
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int]):
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        for i, part in enumerate(self.schedulers):
            if not isinstance(part, Schedule) or part.optimizer is not optimizer:
                raise TypeError(f"schedulers[{i}]: expected a schedule of the same optimiser that depends on the "
                                f"number of steps alone, got {type(part).__name__}")  # fmt: skip
        within("schedulers", schedulers, lambda parts: len(parts) > 0, "at least one schedule")
        gaps = len(self.schedulers) - 1

        def right(milestones: Sequence[int]) -> bool:
            return len(milestones) == gaps and all(a < b for a, b in itertools.pairwise([0, *milestones]))

        within("milestones", milestones, right, f"{gaps} rising numbers of steps, between {gaps + 1} schedules")
        super().__init__(optimizer)

    def rate(self, base: float, steps: int) -> float:
        begins, part = max((m, i) for i, m in enumerate([0, *self.milestones]) if m <= steps)
        return self.schedulers[part].rate(base, steps - begins)


class ReduceLROnPlateau:
    """The rates times factor, when what is watched has not got better for more than patience steps.

    NaN is never better.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rates are set.
    mode : {"min", "max"}, optional
        ``"min"`` if lower is better, such as of a loss; ``"max"`` if higher is.
    factor : float, optional
        Between 0 and 1.
    patience : int, optional
        How many steps may be no better.
    threshold : float, optional
        By how much it has to be better than the best so far.
    threshold_mode : {"rel", "abs"}, optional
        Whether the threshold is a share of the best, or is taken as it is.
    cooldown : int, optional
        How many steps to wait after a reduction, before counting bad ones again.
    min_lr : float, optional
        The rates go no lower.
    eps : float, optional
        A change of a rate that is not larger is left out.

    Raises
    ------
    ValueError
        A setting is outside of its limits.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 1.9):
    ...     schedule.step(loss)
    >>> optimizer.lr
    0.5
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8,
    ):  # fmt: skip
        self.optimizer = optimizer
        self.mode = within("mode", mode, ("min", "max").__contains__, "'min' or 'max'")
        within("threshold_mode", threshold_mode, ("rel", "abs").__contains__, "'rel' or 'abs'")
        self.factor = within("factor", factor, lambda x: 0 < x < 1, "a number between 0 and 1")
        self.patience = within("patience", patience, lambda n: n >= 0, "a number of steps")
        self.threshold = within("threshold", threshold, *NOT_NEGATIVE)
        self.threshold_mode = threshold_mode
        self.cooldown = within("cooldown", cooldown, lambda n: n >= 0, "a number of steps")
        self.min_lr = within("min_lr", min_lr, *NOT_NEGATIVE)
        self.eps = within("eps", eps, *NOT_NEGATIVE)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs, self.cooldown_counter = 0, 0

    def better(self, metric: float) -> bool:
        """Whether it is better than the best so far, by more than the threshold."""
        sign = -1 if self.mode == "min" else 1
        if math.isinf(self.best):
            return sign * metric > sign * self.best
        margin = self.threshold * (abs(self.best) if self.threshold_mode == "rel" else 1)
        return sign * metric > sign * self.best + margin

    def step(self, metric: float) -> None:
        """Look at the metric of the epoch, and set the learning rates for what comes next."""
        metric = float(metric)
        if self.better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for group in self.optimizer.param_groups:
                lower = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - lower > self.eps:
                    group["lr"] = lower

    def state_dict(self) -> dict[str, Any]:
        """What it has seen: the learning rates of now are the optimiser's to remember."""
        return {name: getattr(self, name) for name in ("best", "num_bad_epochs", "cooldown_counter")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.best, self.num_bad_epochs = float(state["best"]), int(state["num_bad_epochs"])
        self.cooldown_counter = int(state["cooldown_counter"])
