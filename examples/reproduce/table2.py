"""Table 2 of Hochreiter and Schmidhuber (1997): RTRL, back-propagation through time, the neural sequence chunker, LSTM.

The task is 2a (:class:`~tinygrad_rnn.tasks.NoiseFreeLag`). The nets of the first three have one logistic unit that
feeds itself, and p + 1 logistic outputs that see it and the input: (p + 2)² weights. They learn online, over up to
millions of sequences; so here, for RTRL, *learning itself* is the loop that is compiled: the state of the scan are the
weights, and its step takes gradients, with ``tg.value_and_grad``, and changes them. Trials are a batch axis, each with
weights of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import tasks

from .figures import pyplot, saved
from .sweep import Figures, progress


def unit(x: Any, w: Any, h: Any) -> Any:
    """The hidden unit: logistic, of the inputs and of itself. Of each trial: x (trials, inputs), w (trials, inputs +
    1)."""
    return tg.sigmoid((tg.concatenate([x, h], axis=-1) * w).sum(axis=-1, keepdims=True))


def outputs(x: Any, h: Any, V: Any) -> Any:
    """Logistic, of the inputs and of the hidden unit: (trials, outputs), from V (trials, inputs + 1, outputs)."""
    seen = tg.concatenate([x, h], axis=-1)
    if V.shape[-1] < 32:  # then this is faster than many small products
        return tg.sigmoid((seen[..., None] * V).sum(axis=-2))
    return tg.sigmoid((seen[..., None, :] @ V)[..., 0, :])


def squared(y: Any, target: Any) -> Any:
    return ((y - target) ** 2).sum() / 2


# Real-time recurrent learning -----------------------------------------------------------------------------------------


def rtrl_step(n: int, lr: float) -> Callable:
    """A step of a sequence, and of learning: S = ∂h/∂w is carried along, and the weights change at once.

    x is (trials, 2 n + 1): the input, the target, and 1 where a sequence begins.
    """

    def step(x: Any, state: tuple) -> tuple:
        V, w, h, S = state
        inputs, target, going = x[..., :n], x[..., n : 2 * n], 1 - x[..., 2 * n :]
        h, S = h * going, S * going

        def hidden(w: Any, h: Any) -> tuple:
            h = unit(inputs, w, h)
            return h.sum(), h

        def error(V: Any, h: Any) -> Any:
            return squared(outputs(inputs, h, V), target)

        (_, h), (P, J) = tg.value_and_grad(hidden, argnums=(0, 1), has_aux=True)(w, h)
        S = J * S + P
        e, (dV, dh) = tg.value_and_grad(error, argnums=(0, 1))(V, h)
        return e, (V - lr * dV, w - lr * dh * S, h, S)

    return step


def rtrl_inputs(batch: tasks.Batch, trials: int) -> np.ndarray:
    """Sequences (p, sequences · trials, n) one after another: (sequences · p, trials, 2 n + 1)."""
    begins = np.zeros((*batch.x.shape[:2], 1))
    begins[0] = 1
    x = np.concatenate([batch.x, batch.y, begins], axis=-1)
    x = x.reshape(len(x), -1, trials, x.shape[-1])
    return np.ascontiguousarray(x.swapaxes(0, 1)).reshape(-1, trials, x.shape[-1])


def rtrl(seed: int, small: bool, p: int, lr: float, sequences: int, trials: int = 10) -> Figures:
    """Trials side by side; each is over when it gets both sequences right, which is looked at now and then."""
    rng, task, n = np.random.default_rng(seed), tasks.NoiseFreeLag(p), p + 1
    trials, sequences, chunk = (2, 64, 32) if small else (trials, sequences, max(1, 20_000 // p**2 * 4))
    V, w = weights_of(rng, trials, n)
    state, step = (V, w, np.zeros((trials, 1)), np.zeros((trials, n + 1))), rtrl_step(n, lr)
    solved = np.zeros(trials, int)
    with progress(sequences, f"RTRL, p={p}", seed) as bar, tg.no_grad():
        for done in range(chunk, sequences + 1, chunk):
            _, after = tg.scan(step, rtrl_inputs(task.batch(chunk * trials, rng), trials), state, compiled=True)
            state = tuple(np.asarray(part) for part in after)
            solved[(solved == 0) & right(task, *state[:2])] = done
            bar.update(chunk)
            if solved.all():
                break
    return summary(solved, done, V, w)


# Back-propagation through time ----------------------------------------------------------------------------------------


def bptt(seed: int, small: bool, p: int, lr: float, sequences: int, trials: int = 10) -> Figures:
    """The same net, the same trials; the weights change after each sequence."""
    rng, task = np.random.default_rng(seed), tasks.NoiseFreeLag(p)
    trials, sequences, every = (2, 8, 4) if small else (trials, sequences, 100)
    V, w = parameters = [tg.tensor(part, requires_grad=True) for part in weights_of(rng, trials, p + 1)]
    solved = np.zeros(trials, int)
    with progress(sequences, f"BPTT, p={p}", seed) as bar:
        for done in range(1, sequences + 1):
            x, target = (part.astype(float) for part in task.batch(trials, rng)[:2])
            squared(outputs(x, hidden_units(w, x), V), target).backward()
            descend(parameters, lr)
            if done % every == 0:
                solved[(solved == 0) & right(task, V.data, w.data)] = done
            bar.update()
    return summary(solved, done, V, w)


def hidden_units(w: Any, xs: np.ndarray) -> tg.Tensor:
    """What the hidden unit is at each step, (time, trials, 1)."""
    return tg.scan(lambda x, h: (unit(x, w, h),) * 2, xs, np.zeros((xs.shape[1], 1)))[0]


def descend(parameters: list[tg.Tensor], lr: float) -> None:
    for p in parameters:
        if p.grad is not None:
            p.data, p.grad = p.data - lr * p.grad.data, None


# Both -----------------------------------------------------------------------------------------------------------------


def weights_of(rng: np.random.Generator, trials: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-0.2, 0.2, (trials, n + 1, n)), rng.uniform(-0.2, 0.2, (trials, n + 1))


def right(task: tasks.NoiseFreeLag, V: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Which trials get both sequences right, at all steps: so would they 10,000."""
    batch, good = task.batch(64, 0), np.ones(len(V), bool)
    for symbol in (task.p - 1, task.p):
        b = int(np.flatnonzero(batch.x[0, :, symbol])[0])
        h = np.zeros((len(V), 1))
        for x, target in zip(batch.x[:, b], batch.y[:, b]):
            x = np.broadcast_to(x, (len(V), len(x)))
            h = np.asarray(unit(x, w, h))
            good &= abs(np.asarray(outputs(x, h, V)) - target).max(axis=-1) < task.tolerance
    return good


def summary(solved: np.ndarray, tried: int, V: Any, w: Any) -> Figures:
    """Of all trials: how many succeeded, after how many sequences each, and how many the others were given."""
    succeeded = solved[solved > 0].tolist()
    return {"solved": len(succeeded), "trials": len(solved), "sequences": succeeded, "tried": tried,
            "weights": (V.size + w.size) // len(solved)}  # fmt: skip


# The neural sequence chunker ------------------------------------------------------------------------------------------


def chunker(seed: int, small: bool, p: int, lr: float, sequences: int) -> Figures:
    """Two levels (Schmidhuber, 1992): the lower one predicts; what it did not expect is all that the higher one sees.

    The higher net, of the same kind, predicts the next unexpected input from those before; between them its hidden unit
    keeps what it is. The lower net has one more output, which learns to say what that hidden unit is: so it is taught
    to keep, step by step, what the higher one found worth keeping. Success is that of the lower net. Unexpected: the
    first input, and what an output was off by ``tolerance`` for. Gradients are those of back-propagation through time.
    """
    rng, task, n = np.random.default_rng(seed), tasks.NoiseFreeLag(p), p + 1
    sequences, every = (8, 4) if small else (sequences, 100)
    shapes = (n + 1, n + 1), (n + 1,), (n + 1, n), (n + 1,)  # V and w of the lower net, and of the higher one
    V, w, V_high, w_high = weights = [tg.tensor(rng.uniform(-0.2, 0.2, (1, *s)), requires_grad=True) for s in shapes]
    solved = np.zeros(1, int)
    with progress(sequences, f"table 2 chunker p={p}", seed) as bar:
        for done in range(1, sequences + 1):
            x, target = (part.astype(float) for part in task.batch(1, rng)[:2])
            y = outputs(x, hidden_units(w, x), V)
            missed = abs(y.numpy()[..., :n] - target).max(axis=-1)[:, 0] >= task.tolerance
            seen = np.concatenate([x[:1], target[missed]])  # the unexpected inputs; the last is only predicted
            kept = hidden_units(w_high, seen[:-1]) if len(seen) > 1 else np.zeros((0, 1, 1))
            error = squared(y[..., :n], target)
            if len(seen) > 1:
                at = np.concatenate([[0], np.cumsum(missed)[:-1]])  # how many have come before each step
                held = kept.detach().numpy()[np.minimum(at, len(kept) - 1)]
                error = error + squared(outputs(seen[:-1], kept, V_high), seen[1:]) + squared(y[..., n:], held)
            error.backward()
            descend(weights, lr)
            bar.update()
            if done % every == 0 and right(task, V.data[..., :n], w.data).all():
                solved[:] = done
                break
    return summary(solved, done, V, w)


# The figure -----------------------------------------------------------------------------------------------------------

PUBLISHED = {  # the share of successful trials
    "table2-rtrl-p4-lr1": 0.78, "table2-rtrl-p4-lr4": 0.56, "table2-rtrl-p4-lr10": 0.22, "table2-rtrl-p10": 0.0,
    "table2-rtrl-p100": 0.0, "table2-bptt-p100": 0.0, "table2-chunker-p100": 0.33, "table2-lstm-p100": 1.0,
}  # fmt: skip


def draw(lines: dict[str, list[dict]], path: Path) -> list[Path]:
    """The shares of successful trials, as published, and ours."""
    found = {name: [line["figures"] for line in lines[name]] for name in PUBLISHED if lines.get(name)}
    if not found:
        return []
    ours = [sum(f["solved"] for f in fs) / sum(f.get("trials", 1) for f in fs) for fs in found.values()]
    figure, axes = pyplot().subplots(figsize=(8, 3), layout="constrained")
    at = np.arange(len(found))
    axes.bar(at - 0.2, [PUBLISHED[name] for name in found], 0.4, label="published")
    axes.bar(at + 0.2, ours, 0.4, label="ours")
    axes.set_xticks(at, [name.removeprefix("table2-").replace("-", "\n") for name in found])
    axes.set(ylabel="share of successful trials", ylim=(0, 1.05))
    axes.legend()
    return [saved(figure, path)]
