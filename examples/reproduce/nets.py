"""A net, and its training on a task: what the experiments with long lags have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, tasks

from .sweep import Figures, progress


class Net(nn.Module):
    """A cell, and a readout of its outputs: numbers (logistic), or shares of classes (softmax), with the loss for them.

    Parameters
    ----------
    loss : str
        "softmax" (cross-entropy of classes), "squared" or "logistic" (squared error, or cross-entropy, of numbers that
        logistic outputs say).
    sees_inputs : bool, optional
        Whether the readout gets the inputs, too.
    bias, bound : bool, float, optional
        Of the readout: whether there is one; and its weights are uniform within ±bound at first.
    """

    def __init__(self, cell: nn.Cell, outputs: int, loss: str, rng: np.random.Generator, sees_inputs: bool = False,
                 bias: bool = True, bound: float | None = None):  # fmt: skip
        self.cell, self.loss_name, self.sees_inputs = cell, loss, sees_inputs
        self.readout = nn.Linear(cell.hidden_size + sees_inputs * cell.input_size, outputs, bias=bias, rng=rng)
        if bound is not None:
            for p in self.readout.parameters():
                p.data = rng.uniform(-bound, bound, p.shape).astype(p.dtype)

    def seen(self, batch: tasks.Batch) -> tg.Tensor:
        """What the readout reads at each step."""
        lengths = None if batch.lengths is None or batch.x.shape[1] == 1 else batch.lengths
        ys, _ = tg.scan(self.cell, batch.x, lengths=lengths)
        return tg.concatenate([ys, batch.x], axis=-1) if self.sees_inputs else ys

    def forward(self, batch: tasks.Batch) -> tg.Tensor:
        """Scores of what is asked for."""
        return self.readout(batch.answers(self.seen(batch)))

    @tg.no_grad
    def outputs(self, batch: tasks.Batch) -> np.ndarray:
        """What the net says at all steps, in the unit of the targets."""
        return self.answers(self.readout(self.seen(batch)))

    def answers(self, scores: tg.Tensor) -> np.ndarray:
        """Scores in the unit of the targets."""
        return (tg.ops.softmax(scores, axis=-1) if self.loss_name == "softmax" else tg.sigmoid(scores)).numpy()

    def loss(self, scores: tg.Tensor, batch: tasks.Batch) -> tg.Tensor:
        """The mean over the sequences, of the sum over the steps that have a target."""
        if self.loss_name == "softmax":
            classes = batch.y if batch.y.ndim < scores.ndim else batch.y.argmax(axis=-1)
            losses = nn.cross_entropy(scores, classes, reduction="none")
        elif self.loss_name == "logistic":  # cross-entropy of each number: the gradient by a score is answer - target
            losses = nn.binary_cross_entropy_with_logits(scores, batch.y, reduction="none").sum(axis=-1)
        else:
            losses = ((tg.sigmoid(scores) - batch.y) ** 2).sum(axis=-1) / 2
        if batch.mask is not None:
            losses = losses * batch.mask
        return losses.sum() / batch.x.shape[1]


class Done(NamedTuple):
    """What there is after an update: sequences seen, the loss, and which of the batch were wrong before it."""

    sequences: int
    loss: float
    error: float  # the mean distance of the answers from the targets
    wrong: np.ndarray


def training(
    net: Net, task: tasks.Task, optimizer: optim.Optimizer, sequences: int, size: int, rng: Any,
    clip: float | None = None, name: str = "", seed: int = 0, decay: bool = False,
) -> Iterator[Done]:  # fmt: skip
    """Train a net on so many new sequences, in batches; who asks may stop at any time.

    decay: the learning rate goes down to 0, along half a cosine, by the last of them.
    """
    parameters = [*net.parameters()]
    schedule = optim.CosineAnnealingLR(optimizer, T_max=max(sequences // size, 1)) if decay else None
    with progress(sequences, name, seed) as bar:
        for done in range(size, sequences + 1, size):
            batch = task.batch(size, rng)
            scores = net(batch)
            loss = net.loss(scores, batch)
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                optim.clip_grad_norm_(parameters, clip)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            answers = net.answers(scores)
            error = float(abs(answers - batch.y).mean()) if answers.shape == batch.y.shape else float("nan")
            bar.update(size)
            yield Done(done, loss.item(), error, task.wrong(answers, batch))


def until_right(
    net: Net, task: tasks.Task, steps: Iterator[Done], seed: int, small: bool, last: int = 2000, allowed: int = 0,
    error: float = np.inf,
) -> Figures:  # fmt: skip
    """The paper's rule: stop when at most so many of the last 2000 sequences were wrong, and their mean error is small.

    Then, or when there are no more sequences, the net is tested on new ones.
    """
    last, tested = (32, 32) if small else (last, task.tested)
    wrong, errors, curve, done = deque(maxlen=last), deque(maxlen=last), [], 0
    for step in steps:
        done = step.sequences
        wrong.extend(step.wrong)
        errors.extend([step.error] * len(step.wrong))
        if not curve or done - curve[-1][0] >= 1000:
            curve.append([done, np.mean(wrong)])
        if len(wrong) == last and sum(wrong) <= allowed and np.mean(errors) < error:
            break
    missed = task.count_wrong(net.outputs, tested, [seed, 1], size=256)
    return {"sequences": done, "wrong": missed, "tested": tested, "solved": missed <= task.allowed, "curve": curve}


def until_solved(
    net: Net, task: tasks.Task, steps: Iterator[Done], seed: int, small: bool, every: int = 100
) -> Figures:
    """Test the net from time to time, on a few sequences; when it passes, on all, and stop when it passes that, too."""
    probed, tested, every = (32, 32, 16) if small else (min(task.tested, 512), task.tested, every)
    curve, missed, done = [], tested, 0
    for step in steps:
        done = step.sequences
        if done // every > (done - len(step.wrong)) // every:
            missed = task.count_wrong(net.outputs, probed, [seed, 1], size=256)
            curve.append([done, missed / probed])
            if missed <= task.allowed:
                missed = task.count_wrong(net.outputs, tested, [seed, 2], size=256)
                if missed <= task.allowed:
                    break
    solved = missed <= task.allowed
    if not solved:
        missed = task.count_wrong(net.outputs, tested, [seed, 2], size=256)
    return {"sequences": done, "wrong": missed, "tested": tested, "solved": solved, "curve": curve}
