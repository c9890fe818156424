"""Tuning an echo-state network: what is usually searched for, or left to chance, is trained by gradients.

The error that is made smaller is that of ridge regression in cross-validation: the series is cut into folds, and the
readout of each is solved for from all others. So it is a function of the reservoir alone, and of λ; it is
differentiated through the equations that the readouts solve, and back through time, through the reservoir. It starts at
what :meth:`~tinygrad_rnn.nn.EchoStateNetwork.fit` has found, and there is always a readout that is optimal.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..errors import described, whole
from ..ops import at, concatenate, exp, matmul, solve, stack
from ..tensor import Tensor, tensor
from .echo_state import EchoStateNetwork
from .given import Given
from .readout import Ridge
from .recurrent import scan
from .reservoir import Reservoir, number

TRAINED = ("spectral_radius", "leak", "input_scaling", "bias_scaling", "feedback_scaling", "weights", "ridge")
LEAST_LEAK = 0.01
FIT_IN_MEMORY = 2048  # units: of so many, a sparse matrix is made dense, whose gradient is one product for all steps


class Tuning(NamedTuple):
    """What came of it. ``errors`` are the normalised errors in cross-validation, before each step and at the end."""

    errors: list[float]
    best: int  # the step before which the error was the smallest: that network is kept
    spectral_radius: list[float]  # of each reservoir
    leak: list[Any]
    ridge: float


def tune(
    network: EchoStateNetwork, X: Any, y: Any, *, steps: int = 100, lr: float = 0.02,
    train: Iterable[str] = TRAINED, folds: int = 4, clip: float = 1.0, on_step: Callable | None = None,
) -> EchoStateNetwork:  # fmt: skip
    """Train a network's reservoir by back-propagation through time, and fit its readout again.

    What is made smaller is::

        minimise over θ  Σ_k ‖Y_k - X_k W_k‖² / Σ ‖Y - Ȳ‖²      W_k = (Σ_{j≠k} X_jᵀX_j + λ I)⁻¹ Σ_{j≠k} X_jᵀY_j

    X_k are the states (and inputs) of fold k, which θ makes: a gain for each of W, W_in, W_fb and b, the leak, the
    connections and weights that there are, and λ. It is Adam that minimises; the best of all steps is kept.

    Parameters
    ----------
    network : EchoStateNetwork
        One that is fitted already, whose reservoir it starts from; or not, then it is fitted first.
    X, y : array or list of array
        As of :meth:`~tinygrad_rnn.nn.EchoStateNetwork.fit`. Teachers are fed back, where outputs are.
    steps : int, optional
        How many gradients; each runs all series forward and back, whose states have to fit into memory.
    lr : float, optional
        The learning rate: gains are trained by their logarithm, weights in units of their root mean square.
    train : iterable of str, optional
        What is trained, of ``"spectral_radius"``, ``"leak"``, ``"input_scaling"``, ``"bias_scaling"``,
        ``"feedback_scaling"``, ``"weights"`` and ``"ridge"``.
    folds : int, optional
        Into how many parts, one after another, the steps after the washout are cut.
    clip : float, optional
        Gradients of a greater norm are scaled to this one.
    on_step : callable, optional
        Called with the number of a step and the error, for a progress bar; returns True to stop.

    Returns
    -------
    EchoStateNetwork
        The network, with the tuned reservoir, a readout fitted to its states, and ``tuning_``: ``errors`` (the
        normalised errors in cross-validation, before each step and at the end), ``best`` (the step before which it was
        the smallest), ``spectral_radius``, ``leak`` and ``ridge``.

    Raises
    ------
    ValueError
        There is nothing of ``train`` to be trained in this reservoir, or it has a readout of its own.
    FloatingPointError
        The error is not finite at some step: the network is as ``fit`` made it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> u = rng.uniform(-1, 1, (400, 1))
    >>> y = u[2:-1] * u[1:-2] + u[:-3] ** 2
    >>> net = EchoStateNetwork(20, washout=20, rng=0).fit(u[3:], y)
    >>> tuned = net.tune(u[3:], y, steps=10).tuning_
    >>> len(tuned.errors), min(tuned.errors) < tuned.errors[0]
    (11, True)
    """
    from ..optim import Adam, clip_grad_norm_  # which comes after this room, and is asked for when it is needed

    names, steps, folds = checked_names(train), whole("steps", steps, 1), whole("folds", folds, 2)
    clip = number("clip", clip, 0)
    if network.readout is not None:
        raise ValueError("tune: it minimises the error of a ridge regression, and the network has another readout: "
                         f"expected readout=None, got {described(network.readout)}")  # fmt: skip
    given = network._taught(X, y)
    if network.__sklearn_is_fitted__():
        network._check_fitted(given)
    else:
        network.fit(X, y)
    reservoir = copy.deepcopy(network.reservoir_)
    knobs = [Knobs(part, names) for part in reservoirs_of(reservoir)]
    ridge = leaf(np.log(max(network.ridge, 1e-12)), np.float64) if "ridge" in names else None
    errors, best = [], Best()
    parameters = [p for k in knobs for p in k.parameters()] + ([ridge] if ridge is not None else [])
    if not parameters:
        raise ValueError(f"train: {', '.join(names)}: there is nothing of that to be trained in this reservoir")
    optimizer = Adam(parameters, lr=lr)
    for step in range(steps + 1):
        for k in knobs:
            k.turn()
        error = cross_validated(network, reservoir, given, network.ridge if ridge is None else exp(ridge), folds)
        errors.append(float(error))
        if not np.isfinite(errors[-1]):
            raise FloatingPointError(f"tune: the error is {errors[-1]} at step {step}; it was {errors[0]:.3g} at "
                                     f"first: take a smaller lr than {lr}")  # fmt: skip
        best.keep(step, errors[-1], knobs, ridge)
        if step == steps or (on_step is not None and on_step(step, errors[-1])):
            break
        optimizer.zero_grad()
        error.backward()
        clip_grad_norm_(parameters, clip)
        optimizer.step()
        for k in knobs:
            k.restrain()
    for part, arrays in zip(reservoirs_of(network.reservoir_), best.arrays):
        for name, array in arrays.items():
            setattr(part, name, tensor(array))
    network.readout_ = Ridge(network.ridge if best.ridge is None else best.ridge, network.intercept)
    network._fit_readout(given)
    parts = reservoirs_of(network.reservoir_)
    radii, leaks = [part.spectral_radius() for part in parts], [part._leak() for part in parts]
    network.tuning_ = Tuning(errors, best.step, radii, leaks, network.readout_.ridge)
    return network


def cross_validated(network: EchoStateNetwork, reservoir: Any, given: Given, ridge: Any, folds: int) -> Any:
    """The error of readouts of which each is fitted to all folds but one, on that one; normalised: 1 is that of Ȳ."""
    states, _ = scan(reservoir, given.heard(network.feedback), lengths=given.lengths, compiled=network.compiled)
    ones = np.ones((*given.x.shape[:2], int(network.intercept)), given.x.dtype)
    constant = np.concatenate([given.x, ones] if network.direct else [ones], axis=-1)
    features = concatenate([states, constant], axis=-1) if constant.shape[-1] else states
    features, targets = given.samples(features, network.washout)
    cuts = np.linspace(0, len(targets), folds + 1).astype(int).tolist()
    parts = [(features[a:b], targets[a:b]) for a, b in itertools.pairwise(cuts)]
    products = [(matmul(f.T, f), matmul(f.T, t)) for f, t in parts]
    xx, xy = [sum(each[1:], each[0]) for each in zip(*products)]
    penalty = ridge * np.eye(features.shape[-1], dtype=targets.dtype)
    weights = solve(stack([xx - own + penalty for own, _ in products]), stack([xy - own for _, own in products]))
    wrong = [((matmul(f, weights[k]) - t) ** 2).sum() for k, (f, t) in enumerate(parts)]
    return sum(wrong[1:], wrong[0]) / float(((targets - targets.mean(axis=0)) ** 2).sum())


class Knobs:
    """What can be turned of a reservoir: its parameters, and what they make of its weights."""

    def __init__(self, part: Reservoir, names: tuple):
        self.part, dtype = part, part.weight_ih.dtype
        self.first = {name: getattr(part, name).numpy() for name in ("weight_ih", "weight_hh", "bias")}
        self.heard = part.input_size - part.feedback_size
        scalings = {
            "spectral_radius": True,
            "input_scaling": self.heard > 0,
            "feedback_scaling": part.feedback_size > 0,
            "bias_scaling": self.first["bias"].any(),
        }
        self.gains = {name: leaf(0.0, dtype) for name, there in scalings.items() if name in names and there}
        self.leak = leaf(part._leak(), dtype) if "leak" in names else None
        self.moves = {n: leaf(np.zeros_like(a), dtype) for n, a in self.first.items()} if "weights" in names else {}
        self.units = {name: rms(array) for name, array in self.first.items()}
        self.rows = None
        if part.indices is not None and part.units <= FIT_IN_MEMORY:
            indptr, self.columns = part.indptr.numpy(), part.indices.numpy()
            self.rows, part.indices = np.repeat(np.arange(part.units), np.diff(indptr)), None

    def parameters(self) -> list[Tensor]:
        return [*self.gains.values(), *([] if self.leak is None else [self.leak]), *self.moves.values()]

    def turn(self) -> None:
        """Give the reservoir the weights that its parameters make."""
        self.made = {name: self._moved(name) for name in self.first}
        gain = {name: exp(log) for name, log in self.gains.items()}
        self.made["weight_hh"] = self.made["weight_hh"] * gain.get("spectral_radius", 1)
        self.made["bias"] = self.made["bias"] * gain.get("bias_scaling", 1)
        columns = [gain.get("input_scaling"), gain.get("feedback_scaling")]
        if any(g is not None for g in columns):
            ones = [np.ones(n, self.part.weight_ih.dtype) for n in (self.heard, self.part.feedback_size)]
            self.made["weight_ih"] = self.made["weight_ih"] * concatenate(
                [one if g is None else g * one for g, one in zip(columns, ones)]
            )
        if self.leak is not None:
            self.made["leak"] = self.leak
        for name, value in self.made.items():
            setattr(self.part, name, value)
        if self.rows is not None:
            zeros = tensor(np.zeros((self.part.units, self.part.units), self.first["weight_hh"].dtype))
            self.part.weight_hh = at(zeros)[self.rows, self.columns].set(self.made["weight_hh"])

    def _moved(self, name: str) -> Any:
        first, move = self.first[name], self.moves.get(name)
        if move is None:
            return tensor(first)
        there = (first != 0).astype(first.dtype) if name != "bias" else 1.0
        return first + move * (self.units[name] * there)

    def restrain(self) -> None:
        """A leak stays between 0 and 1."""
        if self.leak is not None:
            self.leak.data = self.leak.data.clip(LEAST_LEAK, 1.0)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.made.items()}


class Best:
    """The best step so far, and what the network was then."""

    def __init__(self) -> None:
        self.step, self.error, self.arrays, self.ridge = 0, np.inf, [], None

    def keep(self, step: int, error: float, knobs: list[Knobs], ridge: Tensor | None) -> None:
        if error < self.error:
            self.step, self.error, self.arrays = step, error, [k.arrays() for k in knobs]
            self.ridge = None if ridge is None else float(np.exp(ridge.data))


def reservoirs_of(cell: Any) -> list[Reservoir]:
    found = [part for part in cell.modules() if isinstance(part, Reservoir)]
    if not found:
        raise TypeError(f"tune: expected a network whose reservoir is made of Reservoirs, got {type(cell).__name__}")
    return found


def checked_names(train: Iterable[str]) -> tuple[str, ...]:
    names = tuple(train) if not isinstance(train, str) else (train,)
    if unknown := [name for name in names if name not in TRAINED]:
        raise ValueError(f"train: expected any of {', '.join(map(repr, TRAINED))}, got {unknown[0]!r}")
    return names


def leaf(value: Any, dtype: Any) -> Tensor:
    return tensor(np.asarray(value, dtype), requires_grad=True)


def rms(array: np.ndarray) -> float:
    """The root mean square of what is not 0; 1, if all is."""
    array = array[array != 0]
    return float(np.sqrt((array**2).mean())) if array.size else 1.0
