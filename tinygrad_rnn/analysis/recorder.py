"""The flow of the gradient while a model is trained. What it is, at one moment, is in ``flow.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import whole
from ..nn import Module
from ..plotting import axes, log_image
from . import given
from .flow import GradientFlow, gradient_flow


class FlowRecorder:
    """The flow of the gradient while a model is trained: a callback for :func:`~tinygrad_rnn.train.fit`.

    It may also be called by hand, ``recorder(model)``, in a loop of one's own. The run is not disturbed: not its
    weights, gradients, modes, nor what the model draws.

    Parameters
    ----------
    loss : function ``loss(model, batch)``
        As of :func:`gradient_flow`.
    batch : any
        The same batch each time.
    every : int, optional
        At every so many calls, the first of them included.

    Notes
    -----
    ``flows`` has what has been recorded, and ``calls`` at which calls that was: epochs, of ``fit``.

    Examples
    --------
    >>> from tinygrad_rnn import fit, nn, optim
    >>> X = np.random.default_rng(0).standard_normal((20, 8, 3))
    >>> model = nn.RNN(3, 8, rng=0, dtype=np.float64)
    >>> def loss(model, batch):
    ...     ys, _ = model(batch[0])
    ...     return ((ys[-1, :, 0] - batch[0][0, :, 0]) ** 2).mean()
    >>> recorder = FlowRecorder(loss, (X,), every=2)
    >>> history = fit(model, loss, (X,), epochs=5, optimizer=optim.Adam(model.parameters()),
    ...               callbacks=[recorder], progress=False)
    >>> recorder
    FlowRecorder: 3 flows, from call 1 to 5
    """

    def __init__(self, loss: Callable, batch: Any, every: int = 1):
        given.check_callable("loss", loss, "loss(model, batch)")
        self.loss, self.batch, self.every = loss, batch, whole("every", every, 1)
        self.flows: list[GradientFlow] = []
        self.calls: list[int] = []
        self.called, self.in_fit = 0, False

    def __call__(self, moment: Any) -> None:
        """Record, if it is time.

        Parameters
        ----------
        moment : Moment or Module
            What ``fit`` gives to its callbacks, or a model.
        """
        self.called, self.in_fit = self.called + 1, not isinstance(moment, Module)
        if (self.called - 1) % self.every == 0:
            self.flows.append(gradient_flow(getattr(moment, "model", moment), self.loss, self.batch))
            self.calls.append(self.called)

    def plot(self, ax: Any = None, name: str | None = None, **keywords: Any) -> Any:
        """Draw log10 of the norms (the rms over the batch) as an image, calls by time, with a bar of its colours.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            What to draw on; by default new ones.
        name : str, optional
            Of a state or gate; by default the first state.
        **keywords
            For ``ax.pcolormesh``: ``vmin`` and ``vmax``, say, where several images are to be compared.

        Returns
        -------
        matplotlib Axes
            Those.
        """
        if not self.flows:
            raise ValueError("plot: nothing has been recorded yet: pass the recorder to fit, callbacks=[recorder]")
        name = self.flows[0].states[0] if name is None else name
        rows = np.stack([flow.rms(name) for flow in self.flows])
        ax = axes(ax)
        log_image(ax, np.arange(rows.shape[1]), np.array(self.calls), rows, **keywords)
        ax.set(
            xlabel="step $t$",
            ylabel="epoch" if self.in_fit else "call",
            title=f"The gradient at {name}, while it is trained",
        )
        return ax

    def __repr__(self) -> str:
        ends = f", from call {self.calls[0]} to {self.calls[-1]}" if self.calls else ""
        return f"FlowRecorder: {len(self.flows)} flow{'s' * (len(self.flows) != 1)}{ends}"
