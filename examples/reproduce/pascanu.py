"""Pascanu, Mikolov and Bengio (2013): temporal order with plain gradients, clipped ones, and a regulariser beside.

The regulariser keeps gradients from vanishing: with δ_k = ∂E/∂h_k, it asks that a step back leaves their norm as it is,

    Ω = Σ_k (‖δ_{k-1}‖ / ‖δ_k‖ - 1)²,        δ_{k-1} = (∂h_k/∂h_{k-1})ᵀ δ_k

The paper takes an approximation of ∂Ω/∂W, in which h and δ_k are constants. Here it is exact, and Ω the mean over the
steps: see ``tinygrad_rnn.analysis.gradient_regularizer``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, tasks
from tinygrad_rnn.analysis import gradient_regularizer

from .sweep import Figures, progress


def run(
    seed: int, small: bool, clip: float | None, weight: float, T: int | tuple[int, int], updates: int, lr: float,
    hidden: int = 50, size: int = 20, std: float = 0.1,
) -> Figures:  # fmt: skip
    """A tanh network, gradient descent, batches of 20; clip: the largest norm of a gradient; weight: of Ω."""
    rng, task = np.random.default_rng(seed), tasks.PascanuTemporalOrder(T)
    updates, every = (4, 2) if small else (updates, 500)
    cell, readout = nn.RNNCell(6, hidden, rng=rng, dtype=np.float64), nn.Linear(hidden, 4, rng=rng, dtype=np.float64)
    parameters = [*cell.parameters(), *readout.parameters()]
    for p in parameters:
        p.data = rng.normal(0, std, p.shape) if p.ndim > 1 else np.zeros(p.shape)
    optimizer, curve, wrong, done = optim.SGD(parameters, lr=lr), [], 1.0, 0
    with progress(updates, f"temporal order, clip={clip}, Ω {weight}", seed) as bar:
        for done in range(1, updates + 1):
            batch = task.batch(size, rng)
            xs = batch.x.astype(np.float64)
            hs, _ = tg.scan(cell, xs)
            last = hs[-1]
            loss = nn.cross_entropy(readout(last), batch.y)
            if weight:
                delta = tg.gradients(loss, last, create_graph=True)
                loss = loss + weight * gradient_regularizer(cell, xs, hs, delta)
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                optim.clip_grad_norm_(parameters, clip, on_nonfinite="ignore")
            optimizer.step()
            bar.update()
            if not all(np.isfinite(p.data).all() for p in parameters):
                break  # exploded: there is no way back from NaN
            if done % every == 0:
                wrong = share_wrong(cell, readout, task, 1000, [seed, 1])
                curve.append([done * size, wrong])
                if wrong < 0.01 and (wrong := share_wrong(cell, readout, task, task.tested, [seed, 2])) < 0.01:
                    break
    return {"solved": bool(wrong < 0.01), "wrong": wrong, "updates": done, "sequences": done * size, "curve": curve}


@tg.no_grad
def share_wrong(cell: nn.RNNCell, readout: nn.Linear, task: tasks.Task, number: int, rng: Any) -> float:
    """Of new sequences, of all the lengths."""
    rng, wrong, size = np.random.default_rng(rng), 0, 250
    for _ in range(0, number, size):
        batch = task.batch(size, rng)
        hs, _ = tg.scan(cell, batch.x.astype(np.float64))
        wrong += int(task.wrong(readout(batch.answers(hs)), batch).sum())
    return wrong / number
