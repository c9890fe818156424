"""Series that reservoirs and recurrent nets are compared on: made by a rule, or observed.

Each is a function that makes series of any length, several at once, time first: (length, batch, features), in float64
(as the field computes them; convert with astype for a net of float32). What is random is drawn from ``rng``: a seed, or
a NumPy Generator; the same seed makes the same bits. No readout and no training is here: see
``examples/reproduce/series.py`` for the results that were published on them.
"""

from __future__ import annotations

import math
import warnings
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from ..errors import described, whole

__all__ = ["Sunspots", "lorenz", "mackey_glass", "multiple_sines", "narma10", "nmse", "sunspots"]

REDRAWS = 100  # of one series, before narma10 gives up
BOUND = 10.0  # a NARMA-10 series that is bounded stays below 2: beyond this it is on its way to infinity


def nmse(predictions: Any, targets: Any) -> float:
    """The mean squared error, divided by the variance of the targets: 1 is what always guessing their mean gets.

    The root of it is the NRMSE::

        NMSE = mean (y - d)² / var d        NRMSE = √NMSE

    Parameters
    ----------
    predictions, targets : array or Tensor
        Of one shape, y and d.

    Returns
    -------
    float
        The NMSE.

    Raises
    ------
    ValueError
        Shapes differ, or the targets do not vary.

    Examples
    --------
    >>> nmse([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])
    0.5
    """
    y, d = (np.asarray(getattr(x, "data", x) if not isinstance(x, np.ndarray) else x) for x in (predictions, targets))
    if y.shape != d.shape or not d.size:
        raise ValueError(f"predictions, targets: expected two arrays of one shape, not empty, got {described(y)} and "
                         f"{described(d)}")  # fmt: skip
    variance = d.var()
    if not variance > 0:
        raise ValueError(f"targets: their variance is {variance}, so an error cannot be measured by it")
    return float(np.mean((y - d) ** 2) / variance)


# Made by a rule -------------------------------------------------------------------------------------------------------


def narma10(length: int, *, batch: int = 1, high: float = 0.5, rng: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """The nonlinear autoregressive moving average of order 10 (Atiya and Parlos, 2000): a system to be identified.

    From d = u = 0 before the first step::

        d(n+1) = .3 d(n) + .05 d(n) Σ_{i=0..9} d(n-i) + 1.5 u(n-9) u(n) + .1        u(n) ~ U[0, high]

    The target of step n is d(n+1), the first number that u(n) is part of: so the task asks for ten steps of memory, and
    for a product. (The first hundred steps or so are a transient: leave them out as a washout.)

    The system is not stable. Some inputs drive it to infinity (with high = .5 rarely, about once in 200,000 steps):
    such a series is drawn again, from the same Generator, and a RuntimeWarning says so.

    Baselines: an echo-state network, 2000 steps to train and 2000 to test, five seeds: NMSE .143 ± .008 with 50 units,
    .094 ± .009 with 100, .059 ± .007 with 200; a linear filter of the last 10 inputs: .37.

    Parameters
    ----------
    length : int
        The number of steps.
    batch : int, optional
        How many series.
    high : float, optional
        The greatest input.
    rng : int or Generator, optional
        What the inputs are drawn from.

    Returns
    -------
    u : array, (length, batch, 1)
        The inputs.
    d : array, (length, batch, 1)
        The targets.

    Raises
    ------
    ValueError
        An argument is not what it has to be; or no series that stays finite was drawn in a hundred tries.

    Examples
    --------
    >>> u, d = narma10(2000, batch=2, rng=0)
    >>> u.shape, d.shape, bool(d[100:].min() > 0.1), bool(d.max() < 1.2)
    ((2000, 2, 1), (2000, 2, 1), True, True)
    """
    length, batch, rng = whole("length", length, 1), whole("batch", batch, 1), np.random.default_rng(rng)
    if not 0 < high < math.inf:
        raise ValueError(f"high: expected a finite number above 0, got {high!r}")
    u = rng.uniform(0, high, (length, batch))
    d = _narma10(u)
    lost, again = _diverged(d), 0
    while lost.any():
        if again == REDRAWS:
            raise ValueError(f"length={length}, high={high}: {REDRAWS} times in a row a series diverged: this system "
                             "does not stay finite for so long, or with such inputs: make one smaller")  # fmt: skip
        warnings.warn(f"narma10: {lost.sum()} of {batch} series diverged, and are drawn again", RuntimeWarning, 2)
        u[:, lost] = rng.uniform(0, high, (length, int(lost.sum())))
        d[:, lost] = _narma10(u[:, lost])
        lost, again = _diverged(d), again + 1
    return u[..., None], d[..., None]


def _narma10(u: np.ndarray) -> np.ndarray:
    """d(1), d(2), ... by u(0), u(1), ...; a series that diverges stops at BOUND, and so is finite and seen."""
    past, before = np.zeros((10, u.shape[1])), np.concatenate([np.zeros((9, u.shape[1])), u])  # d(n) ... d(n-9); u(n-9)
    made = np.empty_like(u)
    for n in range(len(u)):
        d = 0.3 * past[0] + 0.05 * past[0] * past.sum(axis=0) + 1.5 * before[n] * u[n] + 0.1
        past[1:] = past[:-1]
        made[n] = past[0] = np.minimum(d, BOUND)
    return made


def _diverged(d: np.ndarray) -> np.ndarray:
    return d.max(axis=0) >= BOUND


def mackey_glass(
    length: int, tau: float = 17, *, method: str = "euler", step: float = 0.1, stride: int = 10, squash: bool = False,
    washout: int = 1000, batch: int = 1, rng: Any = None,
) -> np.ndarray:  # fmt: skip
    """Blood cells that are made after a delay (Mackey and Glass, 1977): mildly chaotic for τ = 17, wildly for τ = 30.

    From y(t) = y₀ for all t ≤ 0, y₀ ~ U[1.1, 1.3] for each series::

        y'(t) = .2 y(t-τ) / (1 + y(t-τ)^10) - .1 y(t)

    Of the steps that are computed each stride-th is kept (with the defaults, one for each unit of time), and the first
    washout of those are left out. To predict the series from itself: inputs ``y[:-1]``, targets ``y[1:]``.

    Baselines for τ = 17, squashed, 400 units: NRMSE after 84 free steps 2.8e-4 trained on 3000 steps, 1.2e-4 on 21000;
    for τ = 30, .11 and .032 (Jaeger, 2001); 1000 units: mean squared error of 500 free steps 1.0e-6 (Lukoševičius,
    2012).

    Parameters
    ----------
    length : int
        Of the series that is returned.
    tau : float, optional
        The delay τ, a whole number of steps.
    method : {"euler", "rk4"}, optional
        ``"euler"``: y(t+δ) = y(t) + δ y'(t) with δ = step, as Jaeger (2001) makes his series. ``"rk4"``: the
        fourth-order method of Runge and Kutta, the delayed value in the middle of a step interpolated by the cubic
        through values and slopes at both ends (Hermite). (ReservoirPy's series is another: its step of 1 is larger, it
        holds the delayed value during a step, and, as of version 0.4.2, its stages are weighed otherwise than Runge's
        and Kutta's.)
    step : float, optional
        The time δ that a step takes; Jaeger's is .1.
    stride : int, optional
        Each stride-th step is kept; Jaeger's is 10.
    squash : bool, optional
        Return tanh(y - 1), as Jaeger does: centred, within (-1, 1).
    washout : int, optional
        How many numbers to leave out, so that y₀ is forgotten.
    batch : int, optional
        How many series.
    rng : int or Generator, optional
        What the beginnings y₀ are drawn from.

    Returns
    -------
    array, (length, batch, 1)
        The series.

    Raises
    ------
    ValueError
        An argument is not what it has to be.

    Examples
    --------
    >>> y = mackey_glass(500, squash=True, batch=3, rng=0)
    >>> y.shape, bool(y.min() > -0.6), bool(y.max() < 0.4)
    ((500, 3, 1), True, True)
    """
    length, batch, washout = whole("length", length, 1), whole("batch", batch, 1), whole("washout", washout, 0)
    stride, lag = whole("stride", stride, 1), _steps_of_delay(tau, step)
    if method not in ("euler", "rk4"):
        raise ValueError(f"method: expected 'euler' or 'rk4', got {method!r}")
    start = np.random.default_rng(rng).uniform(1.1, 1.3, batch)
    y = (_euler if method == "euler" else _rk4)(start, (washout + length - 1) * stride, lag, step)
    y = y[washout * stride :: stride, :, None]
    return np.tanh(y - 1) if squash else y.copy()


def _steps_of_delay(tau: float, step: float) -> int:
    if not (0 < step < math.inf and 0 < tau < math.inf):
        raise ValueError(f"tau, step: expected finite numbers above 0, got {tau!r} and {step!r}")
    lag = round(tau / step)
    if lag < 1 or abs(lag * step - tau) > 1e-9 * tau:
        raise ValueError(f"tau, step: the delay has to be a whole number of steps, and {tau!r} / {step!r} is none")
    return lag


def _feedback(y: np.ndarray) -> np.ndarray:
    return 0.2 * y / (1 + y**10)


def _euler(start: np.ndarray, steps: int, lag: int, step: float) -> np.ndarray:
    """y at 0, step, 2 step, ... What is delayed is known a whole delay ahead, and computed for all of it at once."""
    y = np.empty((steps + 1, len(start)))
    y[0] = start
    for first in range(0, steps, lag):
        delayed = y[first - lag : first] if first else start[None]
        gained = np.broadcast_to(step * _feedback(delayed), (lag, len(start)))
        for n in range(first, min(first + lag, steps)):
            y[n + 1] = (1 - 0.1 * step) * y[n] + gained[n - first]
    return y


def _rk4(start: np.ndarray, steps: int, lag: int, step: float) -> np.ndarray:
    """y at 0, step, 2 step, ..., with what is delayed at the beginning, the middle and the end of each step."""
    y, slopes = np.empty((2, steps + 1, len(start)))
    y[0] = start
    slopes[0] = _feedback(start) - 0.1 * start
    for first in range(0, steps, lag):
        ends = y[first - lag : first + 1] if first else np.broadcast_to(start, (lag + 1, len(start)))
        bends = slopes[first - lag : first + 1] if first else np.zeros_like(ends)
        middles = (ends[:-1] + ends[1:]) / 2 + step / 8 * (bends[:-1] - bends[1:])
        ends, middles = _feedback(ends), _feedback(middles)
        for n in range(first, min(first + lag, steps)):
            a, b, c = ends[n - first], middles[n - first], ends[n - first + 1]
            k1 = a - 0.1 * y[n]
            k2 = b - 0.1 * (y[n] + step / 2 * k1)
            k3 = b - 0.1 * (y[n] + step / 2 * k2)
            k4 = c - 0.1 * (y[n] + step * k3)
            y[n + 1] = y[n] + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            slopes[n + 1] = c - 0.1 * y[n + 1]
    return y


def lorenz(
    length: int, *, step: float = 0.02, substeps: int = 4, washout: int = 1000, start: Any = None, batch: int = 1,
    rng: Any = None,
) -> np.ndarray:  # fmt: skip
    """Three numbers that a layer of warm air made famous (Lorenz, 1963): chaos; errors grow by e^.9 in a unit of time.

    By the fourth-order method of Runge and Kutta, with steps of step / substeps, of which each substeps-th is kept::

        x' = 10 (y - x)        y' = x (28 - z) - y        z' = x y - 8/3 z

    To predict it from itself: inputs ``s[:-1]``, targets ``s[1:]``.

    Baselines, NMSE of the next number: the last one again .008, a linear map of the last three .006; five steps ahead
    .18 and .12.

    Parameters
    ----------
    length : int
        Of the series that are returned.
    step : float, optional
        The time between two of their numbers.
    substeps : int, optional
        How many steps are computed in that time.
    washout : int, optional
        How many numbers to leave out, so that what is left lies on the attractor.
    start : array, (3,) or (batch, 3), optional
        Where to begin; by default (1, 1, 1) and, for each series and number, some noise of standard deviation .1, so
        that after the washout they are apart.
    batch : int, optional
        How many series.
    rng : int or Generator, optional
        What that noise is drawn from.

    Returns
    -------
    array, (length, batch, 3)
        The series.

    Raises
    ------
    ValueError
        An argument is not what it has to be; or the steps are so large that the method diverges.

    Examples
    --------
    >>> s = lorenz(500, batch=2, rng=0)
    >>> s.shape, bool(abs(s[..., 0]).max() < 25)
    ((500, 2, 3), True)
    """
    length, batch, washout = whole("length", length, 1), whole("batch", batch, 1), whole("washout", washout, 0)
    substeps = whole("substeps", substeps, 1)
    if not 0 < step < math.inf:
        raise ValueError(f"step: expected a finite number above 0, got {step!r}")
    if start is None:
        start = 1 + 0.1 * np.random.default_rng(rng).standard_normal((batch, 3))
    s, h = np.array(start, dtype=np.float64), step / substeps
    if s.shape not in ((3,), (batch, 3)) or not np.isfinite(s).all():
        raise ValueError(f"start: expected finite numbers, (3,) or ({batch}, 3), got {described(s)}")
    s, kept = np.broadcast_to(s, (batch, 3)).T, np.empty((length, batch, 3))
    with np.errstate(over="ignore", invalid="ignore"):  # if it diverges, that is said below
        for n in range(washout + length):
            if n >= washout:
                kept[n - washout] = s.T
            for _ in range(substeps):
                k1 = _lorenz(s)
                k2 = _lorenz(s + h / 2 * k1)
                k3 = _lorenz(s + h / 2 * k2)
                k4 = _lorenz(s + h * k3)
                s = s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    if not np.isfinite(kept).all():
        raise ValueError(f"step, substeps: with steps of {h:g} the method diverges from there: take more substeps")
    return kept


def _lorenz(s: np.ndarray) -> np.ndarray:
    x, y, z = s
    return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])


def multiple_sines(length: int, sines: Any = 2, *, start: Any = 0.0) -> np.ndarray:
    """Sines that are added (MSO: Jaeger, 2004): easy to continue once they are found, hard for one reservoir.

    At step n::

        y(n) = Σ_i sin(α_i (n + start))        α = .2, .311, .42, .51, .63, .74, .85, .97

    Baseline: 2 to 8 sines follow exactly from the last 4 to 16 values, by a linear recurrence, without noise.

    Parameters
    ----------
    length : int
        The number of steps.
    sines : int or array of float, optional
        How many of these eight to take, the first ones (2 is the task as it was first, up to 8 are Roeschies and
        Igel's, 2010); or other frequencies α.
    start : float or array, (batch,), optional
        Where to begin; an array has one for each series of the batch.

    Returns
    -------
    array, (length, batch, 1)
        The series.

    Raises
    ------
    ValueError
        An argument is not what it has to be.

    Examples
    --------
    >>> multiple_sines(300, 3, start=[0, 100]).shape
    (300, 2, 1)
    """
    known = (0.2, 0.311, 0.42, 0.51, 0.63, 0.74, 0.85, 0.97)
    if isinstance(sines, (int, np.integer)):
        if not 1 <= sines <= len(known):
            raise ValueError(f"sines: expected 1 to {len(known)} of the known ones, or frequencies, got {sines!r}")
        sines = known[:sines]
    alpha, start = np.asarray(sines, dtype=np.float64), np.atleast_1d(np.asarray(start, dtype=np.float64))
    if alpha.ndim != 1 or not alpha.size or not np.isfinite(alpha).all():
        raise ValueError(f"sines: expected a number of them, or finite frequencies (number,), got {described(alpha)}")
    if start.ndim != 1 or not start.size or not np.isfinite(start).all():
        raise ValueError(f"start: expected a finite number, or one for each series (batch,), got {described(start)}")
    n = np.arange(whole("length", length, 1))[:, None, None] + start[:, None]
    return np.sin(alpha * n).sum(axis=-1)[..., None]


# Observed -------------------------------------------------------------------------------------------------------------


class Sunspots(NamedTuple):
    """What :func:`~tinygrad_rnn.tasks.sunspots` returns: two arrays of one length.

    Parameters
    ----------
    years : array of int
        The years, ascending, none left out.
    numbers : array
        The mean number of sunspots in each.

    Examples
    --------
    >>> data = sunspots()
    >>> data.numbers[data.between(1957, 1959)]
    array([190.2, 184.8, 159. ])
    >>> round(data.arv(data.numbers[data.between(1955, 1978)], 1956, 1979), 3)          # the number of the year before
    0.965
    """

    years: np.ndarray
    numbers: np.ndarray

    def between(self, first: int, last: int) -> slice:
        """The places of the years from first to last, both included.

        Parameters
        ----------
        first, last : int
            Years.

        Returns
        -------
        slice
            Of ``years`` and of ``numbers``.

        Raises
        ------
        ValueError
            They are not in the series, or not in order.
        """
        if not self.years[0] <= first <= last <= self.years[-1]:
            raise ValueError(f"first, last: expected years from {self.years[0]} to {self.years[-1]}, in order, got "
                             f"{first!r} and {last!r}")  # fmt: skip
        return slice(int(first - self.years[0]), int(last - self.years[0]) + 1)

    def arv(self, predictions: Any, first: int, last: int) -> float:
        """The average relative variance of predictions for the years from first to last, one for each.

        Parameters
        ----------
        predictions : array, (years,)
            The predicted numbers.
        first, last : int
            Years.

        Returns
        -------
        float
            The mean squared error, divided by the variance that the literature divides by.

        Raises
        ------
        ValueError
            There is not one prediction for each year; or as of :meth:`between`.
        """
        observed, found = self.numbers[self.between(first, last)], np.asarray(predictions)
        if found.shape != observed.shape:
            raise ValueError(f"predictions: expected {len(observed)}, one for each year, got {described(found)}")
        return float(np.mean((found - observed) ** 2) / VARIANCE)


VARIANCE = 1495.6  # of the sunspots of 1700 to 1979, by which the literature divides


def sunspots() -> Sunspots:
    """The mean number of sunspots in each year from 1700 to 2008: a cycle of about 11 years, never twice the same.

    The task of the literature (Weigend, Huberman and Rumelhart, 1990): to tell each year's number from those of the
    years before, trained on 1700-1920, tested on 1921-1955 and on 1956-1979, when the sun was more active than it had
    ever been in training. The error is the average relative variance::

        arv = mean (y - d)² / 1495.6

    the divisor the variance of 1700-1979, for all spans. Baselines (train, 1921-55, 1956-79): a linear autoregression
    of 9 years .133, .126, .351, of 12 years .132, .130, .368; the number of the year before .290, .427, .965.

    The data ship with the package (see ``data/README.md`` there: from the National Geophysical Data Center, public
    domain). They are as they were before the revision of 2015, as in that literature.

    Returns
    -------
    Sunspots
        ``(years, numbers)``, and the error, ``arv``.

    Examples
    --------
    >>> years, numbers = sunspots()
    >>> years[[0, -1]].tolist(), numbers[:3].tolist(), round(float(numbers[: 1980 - 1700].var()), 1)
    ([1700, 2008], [5.0, 11.0, 16.0], 1495.6)
    """
    text = resources.files(__package__).joinpath("data/sunspots.csv").read_text(encoding="ascii")
    rows = [line.split(",") for line in text.splitlines()[1:]]
    return Sunspots(np.array([int(year) for year, _ in rows]), np.array([float(number) for _, number in rows]))
