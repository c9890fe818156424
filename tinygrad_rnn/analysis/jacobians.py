"""The Jacobians of a cell's steps, and their products: what makes gradients vanish and explode, looked at itself.

For bounds of them that are known from the weights alone, see ``bounds.py``; for their growth rates in the long run,
``lyapunov.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import described, whole
from ..plotting import axes
from .bounds import GradientBound
from .steps import host, steps_of


@dataclass(frozen=True, eq=False)
class StepJacobians:
    """The matrices J_t = ∂s_t/∂s_{t-1} of a sequence, t = 1 ... T, on the host.

    States are counted from the first, s_0, which the cell starts from, to s_T.

    Parameters
    ----------
    matrices : array, (T, batch, size, size)
        ``matrices[t - 1]`` is J_t; a row for each number of s_t, a column for each of s_{t-1}.
    states : array, (T + 1, batch, size)
        s_0 ... s_T: where the state is a tuple of tensors, their numbers side by side.
    parts : dict of slices
        Where in a state the tensors of it are, by name: ``"state[1]"`` is the c of an LSTM.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> found = step_jacobians(nn.LSTMCell(3, 8, rng=0), np.ones((20, 4, 3), np.float32))
    >>> found.matrices.shape, found.parts
    ((20, 4, 16, 16), {'state[0]': slice(0, 8, None), 'state[1]': slice(8, 16, None)})
    """

    matrices: np.ndarray
    states: np.ndarray
    parts: dict[str, slice]

    @cached_property
    def singular_values(self) -> np.ndarray:
        """The singular values of each J_t, (T, batch, size), the largest first."""
        return np.linalg.svd(self.matrices, compute_uv=False)

    @property
    def norms(self) -> np.ndarray:
        """‖J_t‖, the largest singular values: by how much a step can stretch a gradient. (T, batch)."""
        return self.singular_values[..., 0]

    @cached_property
    def spectral_radii(self) -> np.ndarray:
        """The largest absolute values of the eigenvalues of each J_t: (T, batch)."""
        return np.abs(np.linalg.eigvals(self.matrices)).max(axis=-1)

    def product(self, t: int, s: int) -> np.ndarray:
        """The product ∂s_t/∂s_s = J_t J_{t-1} ... J_{s+1}.

        Parameters
        ----------
        t, s : int
            Of states: 0 ≤ s ≤ t ≤ T.

        Returns
        -------
        array, (batch, size, size)
            A row for each number of s_t.
        """
        t, s = whole("t", t, 0), whole("s", s, 0)
        if not s <= t <= len(self.matrices):
            raise ValueError(f"t, s: expected 0 ≤ s ≤ t ≤ {len(self.matrices)}, got t={t}, s={s}")
        product = np.broadcast_to(np.eye(self.matrices.shape[-1]), self.matrices.shape[1:]).copy()
        for J in self.matrices[s:t]:
            product = J @ product
        return product

    def log_products(self, t: int | None = None) -> np.ndarray:
        """The logarithms (natural ones) of ‖∂s_t/∂s_k‖: the norms would soon leave what a number can hold.

        Parameters
        ----------
        t : int, optional
            Of the state that is looked back from; by default T.

        Returns
        -------
        array, (t + 1, batch)
            For k = 0 ... t; -inf, where the product is 0.
        """
        t = len(self.matrices) if t is None else whole("t", t, 0)
        if t > len(self.matrices):
            raise ValueError(f"t: expected at most {len(self.matrices)}, the number of steps, got {t}")
        product = np.broadcast_to(np.eye(self.matrices.shape[-1]), self.matrices.shape[1:])
        logs, scaled = np.zeros((t + 1, self.matrices.shape[1])), np.zeros(self.matrices.shape[1])
        with np.errstate(divide="ignore"):
            for k in reversed(range(t)):
                product = product @ self.matrices[k]
                norm = np.linalg.norm(product, 2, axis=(-2, -1))
                scaled = scaled + np.log(norm)
                product = product / np.where(norm > 0, norm, 1)[:, None, None]
                logs[k] = scaled
        return logs

    def plot(self, ax: Any = None, bound: Any = None) -> Any:
        """Draw log10 ‖∂s_T/∂s_k‖ over k: the middle sequence of the batch, and from the smallest to the largest.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            What to draw on; by default new ones.
        bound : GradientBound, optional
            Drawn beside: see :func:`gradient_bound`.

        Returns
        -------
        matplotlib Axes
            Those.
        """
        if bound is not None and not isinstance(bound, GradientBound):
            raise TypeError(f"bound: expected what gradient_bound returns, got {described(bound)}")
        ax, logs, k = axes(ax), self.log_products() / np.log(10), np.arange(len(self.matrices) + 1)
        logs = np.where(np.isfinite(logs), logs, np.nan)
        there = ~np.isnan(logs).all(axis=1)
        logs, k = logs[there], k[there]
        if logs.shape[1] > 1:
            ax.fill_between(k, np.nanmin(logs, axis=1), np.nanmax(logs, axis=1), color="C0", alpha=0.25, linewidth=0)
        ax.plot(k, np.nanmedian(logs, axis=1), color="C0", label="$\\|\\partial s_T/\\partial s_k\\|$")
        if bound is not None:
            label = "bound $(\\gamma\\|W\\|)^{T-k}$"
            ax.plot(k, bound.log_bound(k[-1] - k) / np.log(10), "--", color="C1", label=label)
        ax.set(xlabel="step $k$", ylabel="$\\log_{10}$ of the norm", title="The product of the Jacobians, back in time")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        (time, batch, size), norms = self.matrices.shape[:3], self.norms
        logs = np.median(self.log_products()[0]) / np.log(10)
        return (
            f"StepJacobians: {time} steps, {batch} sequences, {size} numbers in a state\n"
            f"  ‖J‖             median {np.median(norms):.4g}, from {norms.min():.4g} to {norms.max():.4g}\n"
            f"  spectral radius median {np.median(self.spectral_radii):.4g}\n"
            f"  ‖∂s_{time}/∂s_0‖   median 10^{logs:.2f}"
        )


def step_jacobians(cell: Any, xs: Any, state: Any = None, *, progress: bool = True) -> StepJacobians:
    """The Jacobian of each step of a cell, J_t = ∂s_t/∂s_{t-1}, with regard to its whole state.

    A step depends on its input and the state before it, and on nothing else. So the sequence is run once, and then all
    steps at once: a single step of (time · batch · size) rows, and a walk back, give all matrices. (In parts, where
    they are many.) The result is time · batch · size² numbers: where that is too much, take fewer sequences, or
    :func:`lyapunov_exponents`, which keeps no matrices. ::

        ∂s_t/∂s_k = J_t J_{t-1} ... J_{k+1},        dL/ds_k = (∂s_t/∂s_k)ᵀ dL/ds_t

    Parameters
    ----------
    cell : Cell or function ``step(x, state)``
        Any cell, wrapped or not; in the mode ``eval()``, if it draws random numbers while it is trained.
    xs : array or Tensor, (time, batch, ...)
        The inputs.
    state : tree of tensors, optional
        What to start from; by default what the cell says.
    progress : bool, optional
        Whether a bar is shown, where tqdm is installed and it takes a while.

    Returns
    -------
    StepJacobians
        The matrices, and what follows from them.

    Raises
    ------
    ValueError
        A step draws random numbers, or the rows of a batch depend on each other.
    FloatingPointError
        A state is not finite.

    Examples
    --------
    A linear cell has its recurrent matrix for a Jacobian, at each step:

    >>> from tinygrad_rnn import nn
    >>> cell = nn.RNNCell(1, 2, nonlinearity="linear", rng=0, dtype=np.float64)
    >>> cell.weight_hh.data = np.array([[0.9, 10.0], [0.0, 0.9]])
    >>> found = step_jacobians(cell, np.zeros((9, 1, 1)))
    >>> float(found.norms[0, 0].round(2)), float(np.exp(found.log_products())[0, 0].round(1))
    (10.08, 38.7)
    """
    steps = steps_of(cell, xs, state)
    matrices = np.concatenate([*steps.jacobians(progress)])
    states = np.concatenate([host(steps.flat.join(steps.before, 2)), host(steps.flat.join(steps.after, 2))[-1:]])
    return StepJacobians(matrices, states, steps.flat.parts)
