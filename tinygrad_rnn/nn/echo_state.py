"""Echo-state networks: a reservoir and a readout, from a series to a forecast, as one estimator.

It follows scikit-learn's conventions without needing it: ``Pipeline`` and ``GridSearchCV`` take it as it is. Whoever
wants the parts has them: a :class:`~tinygrad_rnn.nn.Reservoir` is a cell for :func:`~tinygrad_rnn.scan`, and
:class:`~tinygrad_rnn.nn.Ridge` fits its states.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import numpy as np

from .. import trees
from ..debug import users_level
from ..errors import ShapeError, described, whole
from ..modes import no_grad
from ..ops import concatenate
from ..tensor import bare, tensor
from .cells import Cell
from .given import Given, Series, series
from .linear import linear
from .readout import Ridge
from .recurrent import scan
from .reservoir import Reservoir, dtype_of, number


class DivergenceWarning(UserWarning):
    """A network that runs freely left the range of what it was fitted to: the message says at which step.

    Examples
    --------
    >>> grows = np.exp(np.arange(60) / 20)[:, None]
    >>> net = EchoStateNetwork(5, nonlinearity="linear", rng=0).fit(grows[:-1], grows[1:])
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", DivergenceWarning)
    ...     net.generate(2000)
    Traceback (most recent call last):
    tinygrad_rnn.nn.echo_state.DivergenceWarning: generate: it diverged at step ...
    """


class EchoStateNetwork:
    """A reservoir whose states are read out by ridge regression (Jaeger, 2001; Lukoševičius, 2012).

    That is::

        h_t = reservoir(u_t, y_{t-1}; h_{t-1})        y_t = W [h_t; u_t] + c

    A series is (time, features); several of the same length (time, batch, features), of different lengths a list of
    (time, features). They are converted to ``dtype``. Each starts from the state 0. Targets have the same layout; of
    one series with one output they may be (time,), and so are the predictions then.

    Once it is fitted there are ``reservoir_``, ``readout_``, and ``state_``, in which the training series ended.

    Parameters
    ----------
    units : int, optional
        The number of units of the reservoir.
    leak : float or array, () or (units,), optional
        As of :class:`~tinygrad_rnn.nn.Reservoir`: above 0, to 1.
    spectral_radius : float or None, optional
        What the recurrent matrix is scaled to; None leaves it as it is drawn.
    density : float, optional
        How many of the connections there are, of all; by default ten a unit.
    topology : str, array or sparse matrix, optional
        ``"random"``, ``"ring"``, ``"orthogonal"``, or the recurrent matrix itself.
    distribution : {"uniform", "normal", "bernoulli"}, optional
        Of the weights, before they are scaled.
    input_scaling : float or sequence of float, optional
        What the input's weights are multiplied with: a number, or one for each feature.
    input_density : float, optional
        How many of the input's weights are not 0.
    bias_scaling : float, optional
        What the biases are multiplied with.
    feedback : bool, optional
        Whether the output y is fed back: while it is fitted, the targets are.
    feedback_scaling : float or sequence of float, optional
        What the weights of what is fed back are multiplied with.
    nonlinearity : str or callable, optional
        The units' function, as of :class:`~tinygrad_rnn.nn.RNNCell`.
    noise : float, optional
        The standard deviation of noise within the units, while it is fitted.
    sparse : bool or "auto", optional
        Whether the recurrent matrix is kept sparse, which needs SciPy.
    reservoir : Cell, optional
        To be used instead of one that is drawn: a :class:`~tinygrad_rnn.nn.DeepReservoir`, say. It is copied.
    ridge : float, optional
        λ of the readout, a :class:`~tinygrad_rnn.nn.Ridge`.
    intercept : bool, optional
        Whether there is a c.
    readout : object, optional
        To be used instead of a Ridge of that kind: :class:`~tinygrad_rnn.nn.RLS`, say, or one of yours, with ``fit``,
        ``predict``, ``sizes``, and ``partial_fit`` and ``weight`` where they are needed. It is copied.
    direct : bool, optional
        Whether the readout sees the inputs u, too.
    washout : int, optional
        How many steps at the beginning of each series are not fitted to, until the first state is forgotten.
    rng : int or Generator, optional
        For the reservoir.
    dtype : dtype, optional
        Of the reservoir, and the series.
    compiled : bool or "auto", optional
        As of :func:`~tinygrad_rnn.scan`.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> u = np.sin(np.arange(1200) / 5)[:, None]
    >>> net = EchoStateNetwork(100, leak=0.5, ridge=1e-8, washout=100, rng=0).fit(u[:999], u[1:1000])
    >>> ahead = net.generate(199)                    # what comes after u[999], by itself
    >>> ahead.shape, bool(np.abs(ahead - u[1000:1199]).max() < 1e-2)
    ((199, 1), True)
    """

    def __init__(
        self, units: int = 200, *, leak: Any = 1.0, spectral_radius: float | None = 0.9, density: float | None = None,
        topology: Any = "random", distribution: str = "uniform", input_scaling: Any = 1.0, input_density: float = 1.0,
        bias_scaling: float = 0.0, feedback: bool = False, feedback_scaling: Any = 1.0, nonlinearity: Any = "tanh",
        noise: float = 0.0, sparse: Any = "auto", reservoir: Cell | None = None, ridge: float = 1e-6,
        intercept: bool = True, readout: Any = None, direct: bool = True, washout: int = 0, rng: Any = None,
        dtype: Any = np.float64, compiled: Any = "auto",
    ):  # fmt: skip
        for name, value in list(locals().items()):
            if name != "self":
                setattr(self, name, value)

    # Fitting

    def fit(self, X: Any, y: Any) -> EchoStateNetwork:
        """Draw a reservoir, run it over the series, and fit the readout to its states.

        Parameters
        ----------
        X : array or list of array
            The inputs; None, if there are none, and the output is fed back.
        y : array or list of array
            The targets, one for each step.

        Returns
        -------
        EchoStateNetwork
            The network itself.

        Raises
        ------
        ShapeError
            X and y do not belong together.
        ValueError
            A setting makes no sense, the washout leaves nothing, or there is NaN, or an output that is always the same.
        """
        given = self._taught(X, y)
        self._set_up(given)
        self._fit_readout(given)
        return self

    def partial_fit(self, X: Any, y: Any, reset: bool = False) -> EchoStateNetwork:
        """Go on with the next part of the same series: what is kept of all parts is of a fixed size.

        The washout is of the beginning.

        Parameters
        ----------
        X, y : array or list of array
            Inputs and targets, as of :meth:`fit`.
        reset : bool, optional
            Whether another series begins here.

        Returns
        -------
        EchoStateNetwork
            The network itself.

        Raises
        ------
        ShapeError
            X and y do not belong together, or not to what came before.
        """
        if self.readout is not None and not hasattr(self.readout, "partial_fit"):
            raise TypeError(f"readout: {type(self.readout).__name__} has no partial_fit: call fit, with whole series")
        given = self._taught(X, y, whole_series=False)
        if hasattr(self, "readout_"):
            self._check_fitted(given)
        else:
            self._set_up(given)
            reset = True
        if not len(given.x):
            return self
        if reset:
            self.steps_, self.state_, self.output_ = 0, None, None
        if self.state_ is not None and len(self.output_) != given.x.shape[1]:
            raise ShapeError(f"X: expected a batch of {len(self.output_)} series, as before, got {given.x.shape[1]}: "
                             "reset=True begins other ones")  # fmt: skip
        states = self._run(given, self.state_, self.output_)
        skipped = max(0, self.washout - self.steps_)
        if skipped < len(given.x):
            self.readout_.partial_fit(*given.samples(states, skipped, self.direct))
        self.steps_ += len(given.x)
        self._remember(given)
        return self

    def tune(self, X: Any, y: Any, **options: Any) -> EchoStateNetwork:
        """Train what the reservoir is, too, by back-propagation through time.

        What Adam makes smaller is the error in cross-validation, of readouts of which each is solved for from all folds
        but one. It starts at what :meth:`fit` has found, and keeps the best of all steps.

        Parameters
        ----------
        X, y : array or list of array
            Inputs and targets, as of :meth:`fit`.
        **options
            ``steps`` (100): how many gradients. ``lr`` (0.02): the learning rate. ``train`` (all of them): what is
            trained, of ``"spectral_radius"``, ``"leak"``, ``"input_scaling"``, ``"bias_scaling"``,
            ``"feedback_scaling"``, ``"weights"`` and ``"ridge"``. ``folds`` (4): into how many parts the steps are cut,
            for cross-validation. ``clip`` (1.0): gradients of a greater norm are scaled to this one. ``on_step``:
            called with the number of a step and the error; returns True to stop.

        Returns
        -------
        EchoStateNetwork
            The network itself, with the tuned reservoir, a readout fitted to its states, and ``tuning_``: ``errors``
            (before each step and at the end), ``best`` (the step before which it was the smallest),
            ``spectral_radius``, ``leak`` and ``ridge``.

        Raises
        ------
        FloatingPointError
            The error is not finite at some step: the network is as :meth:`fit` made it.
        """
        from .tuning import tune

        return tune(self, X, y, **options)

    def _set_up(self, given: Given) -> None:
        """A new reservoir, and a new readout, for such inputs and outputs."""
        features, outputs = given.x.shape[-1], given.y.shape[-1]
        if not features and not self.feedback:
            raise ValueError("X: expected inputs, as there is no feedback: pass the series, or feedback=True")
        readout = self._new_readout()
        heard = features + (outputs if self.feedback else 0)
        if self.reservoir is None:
            names = [p for p in inspect.signature(Reservoir).parameters if hasattr(self, p)]
            options = {name: getattr(self, name) for name in names if name != "units"}
            reservoir = Reservoir(features, self.units, feedback_size=heard - features, **options)
        else:
            reservoir = copy.deepcopy(self.reservoir)
            if reservoir.input_size != heard:
                raise ShapeError(f"reservoir: expected input_size {heard}: {features} features of X"
                                 + (f", and {outputs} outputs that are fed back" if self.feedback else "")
                                 + f"; got {reservoir.input_size}")  # fmt: skip
        self.reservoir_, self.readout_ = reservoir.eval(), readout
        self.n_features_in_, self.n_outputs_, self.flat_ = features, outputs, given.flat
        self.centre_, self.span_ = None, 0.0

    def _new_readout(self) -> Any:
        """A Ridge, or a copy of what is given, if it can read out."""
        if self.readout is None:
            return Ridge(self.ridge, self.intercept)
        has = [hasattr(self.readout, name) for name in ("fit", "predict", "sizes")]
        if isinstance(self.readout, type) or not all(has):
            raise TypeError("readout: expected a readout that was made, such as nn.RLS(), or one of yours with fit, "
                            f"predict and sizes; got {described(self.readout)}")  # fmt: skip
        defaults = inspect.signature(EchoStateNetwork).parameters
        if any(getattr(self, name) != defaults[name].default for name in ("ridge", "intercept")):
            raise ValueError("ridge, intercept: they are of the readout that is made here, and one is given")
        return copy.deepcopy(self.readout)

    def _fit_readout(self, given: Given) -> None:
        """Run the reservoir over whole series, and fit the readout to its states."""
        states = self._run(given)
        self.readout_.fit(*given.samples(states, self.washout, self.direct))
        self.steps_ = len(given.x)
        self._remember(given)

    def _run(self, given: Given, state: Any = None, before: Any = None) -> np.ndarray:
        """The states of all steps, with the targets fed back, if outputs are; the last one is kept."""
        self.reservoir_.train()  # with its noise
        try:
            heard = given.heard(self.feedback, before)
            states, self.state_ = self._scan(self.reservoir_, heard, state, given.lengths)
        finally:
            self.reservoir_.eval()
        return states

    def _scan(self, cell: Cell, x: np.ndarray, state: Any, lengths: Any = None) -> tuple[np.ndarray, Any]:
        with no_grad():
            ys, state = scan(cell, x, state, lengths=lengths, compiled=self.compiled)
        return ys.data, trees.map(lambda part: tensor(bare(part)), state)

    def _remember(self, given: Given) -> None:
        """Where the series ended, and the range of the targets."""
        self.output_, self.layout_ = given.last_targets(), given.layout
        _, y = given.samples(given.x, 0)
        self.centre_ = y.mean(axis=0) if self.centre_ is None else self.centre_
        self.span_ = np.maximum(self.span_, np.abs(y - self.centre_).max(axis=0))

    # Using it

    def predict(self, X: Any, state: Any = None) -> Any:
        """The outputs for other inputs, step by step, in their layout; with feedback, the outputs are fed back.

        Parameters
        ----------
        X : array or list of array
            The inputs.
        state : Tensor, tuple of Tensor or "fitted", optional
            What to start from: None, 0; ``"fitted"``, where the training series ended, if X goes on from there.

        Returns
        -------
        array or list of array
            An output for each step.

        Raises
        ------
        RuntimeError
            It is not fitted yet.
        ShapeError
            X has not the features that it was fitted to; or ``"fitted"`` is of another number of series.
        """
        self._check_ready()
        given = self._given(X, None)
        self._check_fitted(given)
        batch = given.x.shape[1]
        state, before = self._start(state, batch)
        if self.feedback:
            outputs, _ = self._free(given.x, state, before, given.lengths)
        else:
            states, _ = self._scan(self.reservoir_, given.x, state, given.lengths)
            features = np.concatenate([states, given.x], axis=-1) if self.direct else states
            outputs = self.readout_.predict(features).astype(self.dtype)
        return given.laid_out(outputs, self.flat_)

    def generate(
        self, steps: int, X: Any = None, *, after: tuple | None = None, limit: float = 100.0
    ) -> np.ndarray:  # fmt: skip
        """Run freely: each output is the next input, or, with feedback, what is fed back.

        Parameters
        ----------
        steps : int
            How many steps to run.
        X : array, (steps, features) or (steps, batch, features), optional
            The inputs of these steps, of a network with feedback that has any.
        after : tuple, optional
            A pair (X, Y), a series that is followed first, from the state 0; by default it goes on where the training
            series ended. The first output is the one after Y's last.
        limit : float, optional
            Outputs that are further than so many times the targets' greatest deviation from their mean are taken for
            divergence.

        Returns
        -------
        array, (steps, outputs) or (steps, batch, outputs)
            The outputs. Where they diverge, only those before.

        Raises
        ------
        RuntimeError
            It is not fitted yet.
        ShapeError
            There are not as many outputs as inputs, and no feedback; or X is of other sizes.

        Warns
        -----
        DivergenceWarning
            Says at which step.
        """
        self._check_ready()
        steps, limit = whole("steps", steps, 0), number("limit", limit, 0)
        if not self.feedback and self.n_outputs_ != self.n_features_in_:
            raise ShapeError("generate: expected as many outputs as inputs, as each output is the next input, got "
                             f"{self.n_outputs_} and {self.n_features_in_}; feedback=True feeds outputs back beside "
                             "inputs")  # fmt: skip
        if after is None:
            state, before, layout = self.state_, self.output_, self.layout_
        else:
            state, before, layout = self._follow(after)
        x = self._inputs_of(steps, X, len(before))
        outputs, _ = self._free(x, state, before)
        far = ~(np.abs(outputs - self.centre_) <= limit * np.maximum(self.span_, np.finfo(float).tiny))
        if far.any():
            t = int(far.any(axis=(1, 2)).argmax())
            found = outputs[t][far[t]][0]
            warnings.warn(f"generate: it diverged at step {t}: the output is {found:.3g}, and the targets were within "
                          f"{self.span_.max():.3g} of their mean; the {t} steps before are returned", DivergenceWarning,
                          stacklevel=users_level())  # fmt: skip
            outputs = outputs[:t]
        return outputs[:, 0] if layout == "one" else outputs

    def score(self, X: Any, y: Any) -> float:
        """R², the mean over the outputs, without the washout of each series.

        That is 1 - Σ (y - ŷ)² / Σ (y - ȳ)², for ŷ as :meth:`predict` gives it.

        Parameters
        ----------
        X, y : array or list of array
            Inputs and targets, as of :meth:`fit`.

        Returns
        -------
        float
            1, if all is right; 0 for what always predicts the mean.
        """
        _, y = self._taught(X, y).samples(None, self.washout)
        _, found = self._given(X, self.predict(X), whole_series=False).samples(None, self.washout)
        return float((1 - ((y - found) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)).mean())

    def _follow(self, after: Any) -> tuple:
        """The state after a series, its last target, and its layout."""
        if not isinstance(after, tuple) or len(after) != 2:
            raise TypeError(f"after: expected a pair (X, Y), got {described(after)}")
        given = self._given(*after, whole_series=False)
        self._check_fitted(given)
        if not len(given.x):
            raise ValueError("after: expected a series of at least one step, got none")
        _, state = self._scan(self.reservoir_, given.heard(self.feedback), None, given.lengths)
        return state, given.last_targets(), given.layout

    def _inputs_of(self, steps: int, x: Any, batch: int) -> np.ndarray:
        """The inputs of a free run: none, where the outputs are the inputs."""
        features = self.n_features_in_ if self.feedback else 0
        x = np.zeros((steps, batch, 0), self.dtype) if x is None else series("X", x, self.dtype).data
        if x.shape != (steps, batch, features):
            raise ShapeError(f"X: expected {features} features for {steps} steps of {batch} series, got {described(x)}")
        return x

    def _free(self, x: np.ndarray, state: Any, before: Any, lengths: Any = None) -> tuple[np.ndarray, Any]:
        """The outputs of a run that hears itself."""
        cell = ClosedLoop(self.reservoir_, self.readout_, self.feedback, self.direct, x.dtype)
        start = None if before is None else (cell.reservoir.start(cell.heard(x, before), state), tensor(before))
        with np.errstate(all="ignore"):
            return self._scan(cell, x, start, lengths)

    def _start(self, state: Any, batch: int) -> tuple[Any, Any]:
        """The state, and the output before it, to start a prediction from."""
        if isinstance(state, str) and state == "fitted":
            if len(self.output_) != batch:
                raise ShapeError(
                    f"X: expected {len(self.output_)} series, as state='fitted' goes on from those, got {batch}"
                )
            return self.state_, self.output_
        if isinstance(state, str):
            raise ValueError(f"state: expected None, 'fitted', or a state of the reservoir, got {state!r}")
        return state, np.zeros((batch, self.n_outputs_), self.dtype)

    # What it is given

    def _taught(self, x: Any, y: Any, **options: Any) -> Given:
        """The inputs, and the targets, which there must be."""
        if y is None:
            what = "are what is fed back while it is fitted" if self.feedback else "are what is learned"
            raise ValueError(f"y: expected a target for each step, which {what}, got None")
        return self._given(x, y, **options)

    def _given(self, x: Any, y: Any, whole_series: bool = True) -> Given:
        """The inputs and targets, (time, batch, features) each, checked."""
        y = None if y is None else series("y", y, self.dtype, flat=True)
        if x is None and y is None:
            raise ValueError("X: expected a series, got None: generate(steps) runs a network that has no inputs")
        x = Series(y.data[..., :0], y.lengths, y.layout, False) if x is None else series("X", x, self.dtype)
        if y is not None:
            same = x.lengths is y.lengths is None or np.array_equal(x.lengths, y.lengths)
            if x.data.shape[:2] != y.data.shape[:2] or x.layout != y.layout or not same:
                raise ShapeError(f"X, y: expected a target for each step, got {x.about} and {y.about}")
        given = Given(x.data, None if y is None else y.data, x.lengths, x.layout, y is not None and y.flat)
        washout = whole("washout", self.washout, 0)
        if whole_series and y is not None:
            least = int(len(x.data) if x.lengths is None else x.lengths.min(initial=len(x.data)))
            if washout >= least:
                raise ValueError(
                    f"washout: expected less than the {least} steps of the (shortest) series, got {washout}"
                )
            if (still := np.ptp(given.samples(None, washout)[1], axis=0) == 0).any():
                raise ValueError(f"y: output {int(still.argmax())} is the same at all steps after the washout: there "
                                 "is nothing to be learned")  # fmt: skip
        return given

    def _check_fitted(self, given: Given) -> None:
        """That it is of the sizes that it was fitted to."""
        for name, a, n in (("X", given.x, self.n_features_in_), ("y", given.y, self.n_outputs_)):
            if a is not None and a.shape[-1] != n:
                raise ShapeError(f"{name}: expected {n} features, as it was fitted to, got {a.shape[-1]}")

    def _check_ready(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise RuntimeError("EchoStateNetwork: it is not fitted yet: call fit(X, y), or partial_fit(X, y)")

    # scikit-learn's conventions

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings, by name."""
        return {name: getattr(self, name) for name in self._settings()}

    def set_params(self, **settings: Any) -> EchoStateNetwork:
        """Change settings; they count from the next fit on."""
        names = self._settings()
        if unknown := [name for name in settings if name not in names]:
            raise ValueError(f"{unknown[0]}: {type(self).__name__} has no such setting; it has {', '.join(names)}")
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def _settings(self) -> dict[str, Any]:
        """The settings, with their defaults: of a subclass that takes ``**keywords``, its base's, too."""
        found: dict[str, Any] = {}
        for kind in type(self).__mro__:
            parameters = inspect.signature(kind).parameters.values()
            named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            found = {p.name: p.default for p in named} | found
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
        return found

    def __sklearn_is_fitted__(self) -> bool:
        return getattr(self, "readout_", None) is not None and self.readout_.sizes is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags  # who asks has it

        target = TargetTags(required=True, multi_output=True)
        return Tags("regressor", target, regressor_tags=RegressorTags(), input_tags=InputTags(three_d_array=True))

    def __repr__(self) -> str:
        defaults = self._settings()
        set_ = [f"{n}={described(v)}" for n, v in self.get_params().items() if v is not defaults[n]]
        return f"{type(self).__name__}({', '.join(set_)})"


class ClosedLoop(Cell):
    """A reservoir and its readout, of which the output is fed back: as the input, or beside it."""

    def __init__(self, reservoir: Cell, readout: Any, feedback: bool, direct: bool, dtype: Any):
        self.reservoir, self.feedback, self.direct = reservoir, feedback, direct
        self.weight, self.intercept = tensor(readout.weight.astype(dtype)), tensor(readout.intercept.astype(dtype))
        self.state_size = (reservoir.state_size, len(self.intercept))

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        h, y = state
        heard = [x, y] if self.feedback else [y]
        out, h = self.reservoir.step(joined(heard), h)
        seen = [out, *heard[:1]] if self.direct else [out]
        y = linear(joined(seen), self.weight, self.intercept)
        return y, (h, y)

    def heard(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Something like the input of the reservoir at one step."""
        return np.zeros((len(y), (x.shape[-1] if self.feedback else 0) + y.shape[-1]), x.dtype)


def joined(parts: list) -> Any:
    """Those that have features, on their last axis."""
    parts = [part for part in parts if part.shape[-1]]
    return parts[0] if len(parts) == 1 else concatenate(parts, axis=-1)


# What a reservoir remembers -------------------------------------------------------------------------------------------


def memory_capacity(
    cell: Cell, delays: int | None = None, steps: int = 4000, washout: int = 200, ridge: float = 1e-9, rng: Any = None
) -> tuple[float, np.ndarray]:  # fmt: skip
    """How much of an input that is noise can be read out of the states, linearly (Jaeger, GMD report 152, 2002).

    The memory capacity is::

        MC = Σ_k MC_k        MC_k = the squared correlation of u_{t-k} and a readout of h_t that is fitted to it

    The input is uniform in [-0.8, 0.8]; the readouts are fitted to one half of the steps, and compared on the other. No
    reservoir of n units has more than n.

    Parameters
    ----------
    cell : Cell
        A reservoir with one input.
    delays : int, optional
        k = 1 ... delays; by default twice the number of units.
    steps : int, optional
        How long it runs.
    washout : int, optional
        How many steps come before these; at least ``delays`` do.
    ridge : float, optional
        Of the readouts.
    rng : int or Generator, optional
        For the input.

    Returns
    -------
    total : float
        MC.
    of_each : array, (delays,)
        The MC_k.

    Raises
    ------
    ShapeError
        ``cell`` has not one input.

    Examples
    --------
    >>> total, of_each = memory_capacity(Reservoir(1, 20, topology="ring", input_scaling=0.1, rng=0), rng=1)
    >>> 10 < total < 20, bool(of_each[0] > 0.9), bool(of_each[-1] < 0.05)
    (True, True, True)
    """
    if cell.input_size != 1:
        raise ShapeError(f"cell: expected a reservoir with one input, got input_size {cell.input_size}")
    delays = 2 * cell.units if delays is None else whole("delays", delays, 1)
    steps, washout = whole("steps", steps, 2), max(whole("washout", washout, 0), delays)
    u = np.random.default_rng(rng).uniform(-0.8, 0.8, washout + steps)
    with no_grad():
        states = scan(cell, u[:, None, None].astype(dtype_of(cell)))[0].data[washout:, 0]
    past = np.stack([u[washout - k : len(u) - k] for k in range(1, delays + 1)], axis=1)
    half = steps // 2
    found = Ridge(ridge).fit(states[:half], past[:half]).predict(states[half:])
    a, b = found - found.mean(axis=0), past[half:] - past[half:].mean(axis=0)
    of_each = (a * b).sum(axis=0) ** 2 / np.maximum((a * a).sum(axis=0) * (b * b).sum(axis=0), np.finfo(float).tiny)
    return float(of_each.sum()), of_each
