"""Readouts: linear maps from states to targets, fitted without gradients: all at once, piece by piece, or step by step.

    y = W x + c

:class:`~tinygrad_rnn.nn.Ridge` solves for W and c; of a series longer than memory, from its sums alone.
:class:`~tinygrad_rnn.nn.RLS` follows the solution from one sample to the next, and :class:`~tinygrad_rnn.nn.FORCE` does
so while the output is fed back into the reservoir. They compute in double precision, whatever the states are, on the
host's arrays; nothing is recorded: for a readout that is trained by gradients, there is
:class:`~tinygrad_rnn.nn.Linear`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..debug import users_level
from ..errors import ShapeError, described
from ..modes import no_grad
from ..tensor import bare
from .cells import Cell
from .reservoir import dtype_of, number

TRUSTED = 1e12  # condition number of what Cholesky's method is trusted with


class ConditionWarning(UserWarning):
    """What a readout was fitted to determines it badly: the message says the condition number.

    Examples
    --------
    Who wants to be stopped by it makes it an error:

    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", ConditionWarning)
    ...     Ridge(ridge=0).fit(np.eye(3)[:2], np.ones((2, 1)))
    Traceback (most recent call last):
    tinygrad_rnn.nn.readout.ConditionWarning: ridge: 2 samples do not determine the weights of 3 features ...
    """


class Readout:
    """The base of the readouts: y = W x + c.

    A subclass sets ``weight``, W (outputs, features), ``intercept``, c (outputs,), and ``sizes``, (features, outputs),
    in its ``fit``: then an :class:`~tinygrad_rnn.nn.EchoStateNetwork` can be read out by it.

    Examples
    --------
    >>> class Mean(Readout):
    ...     def fit(self, x, y):
    ...         self.weight, self.intercept = np.zeros((y.shape[1], x.shape[1])), y.mean(axis=0)
    ...         self.sizes = x.shape[1], y.shape[1]
    ...         return self
    >>> Mean().fit(np.ones((2, 3)), np.array([[1.0], [3.0]])).predict(np.ones((1, 3)))
    array([[2.]])
    """

    weight: Any = None
    intercept: Any = None
    sizes: tuple[int, int] | None = None  # (features, outputs), once they are known

    def predict(self, x: Any) -> np.ndarray:
        """W x + c, of states (..., features).

        Raises
        ------
        RuntimeError
            It is not fitted yet.
        ShapeError
            There are not as many features as it was fitted to.
        """
        if self.sizes is None:
            raise RuntimeError(f"{type(self).__name__}: it is not fitted yet: call fit(X, Y), or partial_fit(X, Y)")
        x = floats("X", x)
        if x.shape[-1:] != self.sizes[:1]:
            raise ShapeError(f"X: expected {self.sizes[0]} features on its last axis, got {described(x)}")
        return x @ self.weight.T + self.intercept

    def _samples(self, x: Any, y: Any, anew: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Both as matrices, a sample a row, if they fit together, and to those before."""
        x, y = floats("X", x), floats("Y", y)
        if x.ndim < 2 or x.shape[:-1] != y.shape[:-1] or not (x.shape[-1] and y.shape[-1]):
            raise ShapeError(f"X, Y: expected (..., features) and (..., outputs), as many of one as of the other, got "
                             f"{described(x)} and {described(y)}")  # fmt: skip
        x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        for name, a in (("X", x), ("Y", y)):
            if not np.isfinite(a).all():
                n = int((~np.isfinite(a).all(axis=1)).argmax())
                raise ValueError(f"{name}: expected finite numbers, got {a[n][~np.isfinite(a[n])][0]} in sample {n}")
        sizes = x.shape[1], y.shape[1]
        if not anew and self.sizes not in (None, sizes):
            raise ShapeError(f"X, Y: expected {self.sizes[0]} features and {self.sizes[1]} outputs, as before, got "
                             f"{sizes[0]} and {sizes[1]}")  # fmt: skip
        return x, y


class Ridge(Readout):
    """Linear least squares with a penalty (Tikhonov).

    It solves for W and c::

        min over W, c of  Σ_t ‖W x_t + c - y_t‖² + λ ‖W‖²

    :meth:`fit` is for all samples at once. :meth:`partial_fit` adds some more to what it has seen, of which it keeps
    only means and products, and so it cannot take X apart: with bad conditioning it takes XᵀX apart instead, and leaves
    out what is only rounding.

    Once there is something fitted, ``weight`` is W, (outputs, features), and ``intercept`` c, (outputs,); ``condition``
    is the condition number of XᵀX + λ I, or a bound of it where that is enough, and ``solved_by`` says what solved it.

    Parameters
    ----------
    ridge : float, optional
        λ, not below 0: of the sum over samples, not of their mean. c is not penalised.
    intercept : bool, optional
        Whether there is a c.
    solver : {"auto", "cholesky", "svd"}, optional
        ``"cholesky"`` solves (XᵀX + λ I) Wᵀ = XᵀY, of centred X and Y; ``"svd"`` takes X itself apart, which is slower,
        and loses half as many digits. ``"auto"``: the first, where its condition number is below 1e12.

    Raises
    ------
    ValueError
        ``ridge`` is below 0, or ``solver`` none of these.

    Warns
    -----
    ConditionWarning
        The samples do not determine W (more features than samples and no ridge, or a condition number beyond what
        double precision can tell from infinity): of all solutions this is the smallest.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((100, 3))
    >>> readout = Ridge(ridge=0).fit(x, x @ [[1.0], [2.0], [3.0]] + 5)
    >>> readout.weight.round(12), readout.intercept.round(12), readout.solved_by
    (array([[1., 2., 3.]]), array([5.]), 'cholesky')
    """

    def __init__(self, ridge: float = 1e-6, intercept: bool = True, solver: str = "auto"):
        if solver not in ("auto", "cholesky", "svd"):
            raise ValueError(f"solver: expected 'auto', 'cholesky' or 'svd', got {solver!r}")
        self.ridge, self.has_intercept, self.solver = number("ridge", ridge, 0), bool(intercept), solver
        self.condition, self.solved_by, self._weight, self._intercept = None, None, None, None
        self._forget()

    def _forget(self) -> None:
        self.sizes, self.stale = None, False
        self.seen, self.mean_x, self.mean_y, self.xx, self.xy = 0, 0.0, 0.0, 0.0, 0.0

    @property
    def weight(self) -> np.ndarray | None:
        """W, (outputs, features); None before it is fitted."""
        self._solve_if_stale()
        return self._weight

    @property
    def intercept(self) -> np.ndarray | None:
        """c, (outputs,); None before it is fitted."""
        self._solve_if_stale()
        return self._intercept

    def fit(self, x: Any, y: Any) -> Ridge:
        """Fit it to samples and their targets; what came before is forgotten.

        Parameters
        ----------
        x : array or Tensor, (..., features)
            The samples.
        y : array or Tensor, (..., outputs)
            Their targets.

        Returns
        -------
        Ridge
            The readout itself.

        Raises
        ------
        ShapeError
            There are not as many targets as samples.
        ValueError
            NaN or infinity is among them, or there are none; or, as ``LinAlgError``, ``"cholesky"`` cannot solve for
            them: take a greater ridge, or ``"svd"``.
        """
        x, y = self._samples(x, y, anew=True)
        if not len(x):
            raise ValueError("X: expected samples, got none")
        self._forget()
        self._add(x, y)
        self._solve(x, y)
        return self

    def partial_fit(self, x: Any, y: Any) -> Ridge:
        """Add samples (..., features), and their targets (..., outputs), to all that came before.

        It is solved when somebody asks for the weights.
        """
        x, y = self._samples(x, y)
        if len(x):
            self._add(x, y)
            self.stale = True
        return self

    def _solve_if_stale(self) -> None:
        if self.stale:
            self.stale = False
            self._solve()

    def _add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Add to the means and to the products of what is centred (Chan et al., 1979): nothing is subtracted later."""
        mean_x, mean_y = (x.mean(axis=0), y.mean(axis=0)) if self.has_intercept else (0.0, 0.0)
        x, y, before, n, self.sizes = x - mean_x, y - mean_y, self.seen, len(x), (x.shape[1], y.shape[1])
        self.seen += n
        to_x, to_y, share = mean_x - self.mean_x, mean_y - self.mean_y, n / self.seen
        self.xx, self.xy = self.xx + x.T @ x, self.xy + x.T @ y
        if self.has_intercept and before:
            self.xx = self.xx + before * share * np.outer(to_x, to_x)
            self.xy = self.xy + before * share * np.outer(to_x, to_y)
        self.mean_x, self.mean_y = self.mean_x + share * to_x, self.mean_y + share * to_y

    def _solve(self, x: np.ndarray | None = None, y: np.ndarray | None = None) -> None:
        """Solve for W and c: from X and Y, where they are there, or from their products."""
        bound = self._bound()
        if bound > TRUSTED and self.solver != "svd":
            values = np.linalg.eigvalsh(self.xx)
            bound = condition_of(values.max() + self.ridge, max(values.min(), 0) + self.ridge)
        self.condition = bound
        self.hopeless = 1 / (len(self.xx) * np.finfo(float).eps)  # of X itself, the square root is what counts
        solver = self.solver if self.solver != "auto" else "cholesky" if bound <= TRUSTED else "svd"
        if solver == "cholesky":
            weight = self._by_cholesky()
        elif x is not None:
            weight = self._by_svd(x - self.mean_x, y - self.mean_y)
        else:
            weight = self._by_eigenvectors()
        self.solved_by = solver
        self._weight = np.ascontiguousarray(weight.T)
        self._intercept = self.mean_y - self._weight @ self.mean_x if self.has_intercept else np.zeros(self.sizes[1])
        self._warn()

    def _bound(self) -> float:
        """A bound of the condition number, for which no eigenvalue is computed: the trace is above the greatest."""
        return condition_of(float(np.trace(self.xx)) + self.ridge, self.ridge)

    def _by_cholesky(self) -> np.ndarray:
        penalised = self.xx + self.ridge * np.eye(len(self.xx))
        try:
            lower = np.linalg.cholesky(penalised)
        except np.linalg.LinAlgError:
            raise np.linalg.LinAlgError(
                f"ridge: XᵀX + {self.ridge} I is not positive definite (its condition number is {self.condition:.1e}): "
                "take a greater ridge, or solver='svd'"
            ) from None
        return np.linalg.solve(lower.T, np.linalg.solve(lower, self.xy))

    def _by_svd(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        left, sizes, right = np.linalg.svd(x, full_matrices=False)
        greatest, self.hopeless = sizes.max(initial=0), (max(x.shape) * np.finfo(float).eps) ** -2
        least = sizes.min(initial=greatest) if len(sizes) == x.shape[1] else 0
        self.condition = condition_of(greatest**2 + self.ridge, least**2 + self.ridge)
        some = sizes > max(x.shape) * np.finfo(float).eps * greatest
        sizes = sizes[some]
        return right[some].T @ ((sizes / (sizes**2 + self.ridge))[:, None] * (left[:, some].T @ y))

    def _by_eigenvectors(self) -> np.ndarray:
        values, vectors = np.linalg.eigh(self.xx)
        some = values > len(values) * np.finfo(float).eps * max(values.max(), 0)
        vectors = vectors[:, some]
        return vectors @ ((vectors.T @ self.xy) / (values[some] + self.ridge)[:, None])

    def _warn(self) -> None:
        features = self.sizes[0]
        if self.ridge == 0 and self.seen - self.has_intercept < features:
            why = f"{self.seen} samples do not determine the weights of {features} features without a ridge"
        elif self.condition > self.hopeless:
            why = "the samples do not determine the weights"
        else:
            return
        so = "the smallest solution was taken" if self.solved_by == "svd" else "the solution may be far off"
        warnings.warn(f"ridge: {why}: the condition number is {self.condition:.1e}; {so}: ridge={self.ridge} may be "
                      "too small", ConditionWarning, stacklevel=users_level())  # fmt: skip


class RLS(Readout):
    """Recursive least squares: the exact solution, step by step (Haykin; Jaeger and Haas, 2004).

    With a sample x and its target y, one step is::

        k = P x / (λ + xᵀ P x)      W ← W + (y - W x) kᵀ      P ← (P - k xᵀP) / λ

    Once there is something fitted, ``weight`` is W, (outputs, features), and ``intercept`` c, (outputs,).

    Parameters
    ----------
    delta : float, optional
        P is I / delta at first; with forgetting 1 the solution is that of a :class:`~tinygrad_rnn.nn.Ridge` with that
        ridge, the intercept penalised as well.
    forgetting : float, optional
        λ, above 0, to 1: samples count λ times less at each step.
    intercept : bool, optional
        Whether there is a c, the weight of a constant 1.

    Raises
    ------
    ValueError
        ``delta`` or ``forgetting`` is out of its range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 2))
    >>> RLS(delta=1e-8).partial_fit(x, x @ [[3.0], [-1.0]]).weight.round(6)
    array([[ 3., -1.]])
    """

    def __init__(self, delta: float = 1e-3, forgetting: float = 1.0, intercept: bool = True):
        self.delta, self.forgetting = number("delta", delta, 0), number("forgetting", forgetting, 0)
        if self.delta == 0:
            raise ValueError("delta: expected a number above 0, got 0")
        if not 0 < self.forgetting <= 1:
            raise ValueError(f"forgetting: expected a number above 0, to 1, got {forgetting!r}")
        self.has_intercept, self.p = bool(intercept), None

    @property
    def weight(self) -> np.ndarray | None:
        """W, (outputs, features); None before it is fitted."""
        return None if self.p is None else self.joined[:, : self.sizes[0]]

    @property
    def intercept(self) -> np.ndarray | None:
        """c, (outputs,); None before it is fitted."""
        return None if self.p is None else self.joined[:, -1] if self.has_intercept else np.zeros(self.sizes[1])

    def fit(self, x: Any, y: Any) -> RLS:
        """Begin anew, and follow samples (..., features), in order, and their targets (..., outputs)."""
        x, y = self._samples(x, y, anew=True)
        self.p = None
        return self.partial_fit(x, y)

    def partial_fit(self, x: Any, y: Any) -> RLS:
        """Follow samples (..., features), in order, and their targets (..., outputs)."""
        x, y = self._samples(x, y, anew=self.p is None)
        self.begin(x.shape[1], y.shape[1])
        for sample, target in zip(x, y):
            self.update(sample, target)
        return self

    def begin(self, features: int, outputs: int) -> None:
        """Start from W = 0, unless there is one."""
        if self.p is None:
            self.sizes = features, outputs
            self.p = np.eye(features + self.has_intercept) / self.delta
            self.joined = np.zeros((outputs, features + self.has_intercept))

    def update(self, sample: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Learn one sample, (features,), with its target, (outputs,); return its error before."""
        x = np.append(sample, 1.0) if self.has_intercept else sample
        px = self.p @ x
        gain = px / (self.forgetting + x @ px)
        error = target - self.joined @ x
        self.joined += np.outer(error, gain)
        self.p -= np.outer(gain, px)
        if self.forgetting < 1:
            self.p /= self.forgetting
        return error


class FORCE:
    """FORCE learning (Sussillo and Abbott, 2009): a readout learns while its own output is fed back.

    So the reservoir runs at each step with the output that it has now, whose error is small from the first steps on;
    and it runs as well when learning ends. ``state`` is the reservoir's last state, and ``output``, (outputs,), what
    was put out last; both are None at first.

    Parameters
    ----------
    reservoir : Cell
        Its input is (input_size + outputs), what is fed back last: a :class:`~tinygrad_rnn.nn.Reservoir` with feedback.
        Without inputs it needs biases: from the state 0 nothing else moves it.
    readout : RLS, optional
        What learns; by default an :class:`~tinygrad_rnn.nn.RLS` with delta 1, without an intercept, as in the paper.
    every : int, optional
        How many steps lie between two updates.

    Raises
    ------
    ValueError
        ``every`` is below 1.

    Examples
    --------
    >>> from tinygrad_rnn.nn import Reservoir
    >>> target = np.sin(np.arange(1500) / 8)[:, None]
    >>> force = FORCE(Reservoir(0, 100, feedback_size=1, spectral_radius=1.5, leak=0.3, bias_scaling=0.5, rng=0))
    >>> errors = force.fit(target)
    >>> free = force.run(200)
    >>> bool(np.abs(errors[-100:]).max() < 0.05), free.shape
    (True, (200, 1))
    """

    def __init__(self, reservoir: Cell, readout: RLS | None = None, every: int = 1):
        if not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"every: expected a whole number, at least 1, got {every!r}")
        self.reservoir, self.every, self.steps = reservoir, every, 0
        self.readout = RLS(delta=1.0, intercept=False) if readout is None else readout
        self.state, self.output = None, None

    def fit(self, y: Any, x: Any = None) -> np.ndarray:
        """Learn to put out y, from inputs x.

        It goes on from where it is: the state of the reservoir, its output, and what it has learned.

        Parameters
        ----------
        y : array, (time, outputs)
            The targets.
        x : array, (time, features), optional
            The inputs, if there are any.

        Returns
        -------
        array, (time, outputs)
            The errors before each update.

        Raises
        ------
        ShapeError
            ``x`` is not as long as ``y``, or has not the features that the reservoir takes.
        ValueError
            ``y`` has another layout, or holds NaN or infinity.
        FloatingPointError
            The reservoir's states are not finite at some step.
        """
        y = floats("Y", y)
        if y.ndim != 2 or not np.isfinite(y).all():
            raise ValueError(f"Y: expected finite numbers, (time, outputs), got {described(y)}")
        x = self._inputs(x, len(y), y.shape[1])
        if self.output is None:
            self.output = np.zeros(y.shape[1])
        errors = np.empty_like(y)
        for t, (target, given) in enumerate(zip(y, x)):
            h = self._step(given)
            self.readout.begin(len(h), y.shape[1])
            if not np.isfinite(h).all():
                raise FloatingPointError(
                    f"FORCE: the reservoir's states are not finite at step {t}: its nonlinearity has no bound, or the "
                    "readout grew without one: take a greater delta"
                )
            learns = self.steps % self.every == 0
            errors[t] = self.readout.update(h, target) if learns else target - self.readout.predict(h)
            self.steps += 1
            self.output = self.readout.predict(h)
        return errors

    def run(self, steps: int, x: Any = None) -> np.ndarray:
        """Run on by itself; it learns nothing.

        Parameters
        ----------
        steps : int
            How many steps.
        x : array, (steps, features), optional
            The inputs, if there are any.

        Returns
        -------
        array, (steps, outputs)
            The outputs.

        Raises
        ------
        RuntimeError
            It has not learned anything yet.
        """
        if self.output is None:
            raise RuntimeError("FORCE: it is not fitted yet: call fit(y)")
        x, outputs = self._inputs(x, steps, len(self.output)), []
        for given in x:
            self.output = self.readout.predict(self._step(given))
            outputs.append(self.output)
        return np.array(outputs).reshape(steps, len(self.output))

    def _inputs(self, x: Any, steps: int, outputs: int) -> np.ndarray:
        features = self.reservoir.input_size - outputs
        x = np.zeros((steps, 0)) if x is None else floats("X", x)
        if x.shape != (steps, features):
            raise ShapeError(f"X: expected {(steps, features)}, as the reservoir hears {self.reservoir.input_size} "
                             f"features, {outputs} of which are fed back, got {described(x)}")  # fmt: skip
        return x

    def _step(self, given: np.ndarray) -> np.ndarray:
        """The states after a step with this input, and the last output fed back."""
        joined = np.concatenate([given, self.output])[None].astype(dtype_of(self.reservoir))
        with no_grad():
            h, self.state = self.reservoir(joined, self.state)
        return np.asarray(h.data[0], float)


def condition_of(greatest: float, least: float) -> float:
    return float(greatest / least) if least > 0 else np.inf


def floats(name: str, x: Any) -> np.ndarray:
    """An array, or a tensor, in double precision, on the host."""
    x = bare(x)
    try:
        found = np.asarray(x)
    except TypeError as error:
        raise TypeError(
            f"{name}: expected an array on the host, got {described(x)}: move it, with .to('cpu')"
        ) from error
    if found.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {described(found)}")
    return found.astype(float, copy=False)
