"""A cell of one's own, in twelve lines; and what the package does with it, without a thirteenth.

The minimal gated unit (Zhou et al., 2016) is written here as its two equations: no derivative, no loop over time, no
mask, no special case. It is then stacked, run in both directions over sequences of several lengths, given zoneout,
trained in windows over an endless stream, and recomputed segment by segment to save memory.

    python examples/own_cell.py
"""

from __future__ import annotations

import argparse
import tracemalloc
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import bptt, nn, optim


class MinimalGatedCell(nn.Cell):
    def __init__(self, input_size, hidden_size, rng=None):
        rng = np.random.default_rng(rng)
        self.input_size, self.state_size = input_size, hidden_size
        self.forget = nn.Linear(input_size + hidden_size, hidden_size, rng=rng)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size, rng=rng)

    def step(self, x, h):
        f = tg.sigmoid(self.forget(tg.concatenate([x, h], axis=-1)))
        n = tg.tanh(self.candidate(tg.concatenate([x, f * h], axis=-1)))
        h = (1 - f) * h + f * n
        return h, h


class Tagger(nn.Module):
    """Two layers, with zoneout, in one direction or both."""

    def __init__(self, hidden: int, both: bool, rng: np.random.Generator):
        def layers(below: int) -> list[nn.Cell]:
            return [nn.Zoneout(MinimalGatedCell(n, hidden, rng), p=0.05, rng=rng) for n in (1, below)]

        width = 2 * hidden if both else hidden
        self.rnn = nn.Recurrent(layers(width), bidirectional=layers(width) if both else False)
        self.readout = nn.Linear(width, 1, rng=rng)

    def forward(self, x, lengths=None):
        hs, _ = self.rnn(x, lengths=lengths)
        return self.readout(hs)[..., 0]


def peaks(rng: np.random.Generator, batch: int, time: int = 15) -> tuple[np.ndarray, ...]:
    """Sequences of several lengths, each with its largest number tagged: which that is, only the whole one tells."""
    x = rng.random((time, batch, 1), np.float32)
    lengths = rng.integers(3, time + 1, batch)
    x[np.arange(time)[:, None] >= lengths] = np.nan  # padding: whatever is there touches nothing
    return x, x[..., 0] == np.nanmax(x, axis=0)[:, 0], lengths


def tagging(both: bool, steps: int, options: argparse.Namespace) -> str:
    """Train it, and say for how many sequences all tags are right."""
    rng = np.random.default_rng(options.seed)
    model = Tagger(24, both, rng)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        x, tags, lengths = peaks(rng, 32)
        loss = nn.binary_cross_entropy_with_logits(model(x, lengths), tags, lengths=lengths)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    x, tags, lengths = peaks(rng, 500)
    with tg.no_grad():
        guesses = (model.eval()(x, lengths).numpy() > 0) & ~np.isnan(x[..., 0])
    right = np.mean((guesses == tags).all(axis=0))
    return f"loss {losses[0]:.3f} -> {np.mean(losses[-10:]):.3f}, all tags right: {right:.0%}"


def stream(time: int, options: argparse.Namespace) -> str:
    """One long sequence, to predict: windows of 25 steps, each with a step of the optimiser."""
    rng = np.random.default_rng(options.seed)
    cell, readout = MinimalGatedCell(1, 24, rng), nn.Linear(24, 1, rng=rng)
    t = np.arange(time + 1, dtype=np.float32)
    wave = (np.sin(t / 3) * np.sin(t / 7)).reshape(-1, 1, 1)
    optimizer = optim.Adam([*cell.parameters(), *readout.parameters()], lr=1e-2)
    losses = []
    for _, loss, _ in bptt.truncated(cell, wave[:-1], lambda ys, new: nn.mse(readout(ys), wave[1:][new]), k1=25):
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return f"loss {losses[0]:.3f} -> {np.mean(losses[-10:]):.4f} within {time:,} steps"


def recomputed(time: int, options: argparse.Namespace) -> list[tuple[str, str]]:
    """The gradient of a long sequence, by the plain scan and by segments: the memory that each takes."""
    cell = MinimalGatedCell(1, 24, options.seed)
    x = np.random.default_rng(options.seed).standard_normal((time, 16, 1), np.float32)
    rows, gradients = [], []
    for run in tg.scan, bptt.checkpointed:
        tracemalloc.start()
        ys, _ = run(cell, x)
        gradients.append(tg.gradients((ys * ys).mean(), list(cell.parameters())))
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        rows.append((f"the gradient of {time:,} steps, {run.__name__}", f"{peak:.1f} MiB"))
    same = all(np.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*gradients))
    return [*rows, ("are the two gradients the same?", "yes" if same else "no")]


def main(arguments: list[str] | None = None) -> list[tuple[str, str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/own_cell"), help="folder for the table")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see whether it works")
    options = parser.parse_args(arguments)
    steps, time = (3, 200) if options.smoke else (600, 5000)

    rows = [
        ("two layers, zoneout, lengths, one direction", tagging(False, steps, options)),
        ("two layers, zoneout, lengths, both directions", tagging(True, steps, options)),
        ("truncated: a stream, in windows of 25 steps", stream(time, options)),
        *recomputed(time // 2, options),
    ]
    lines = [f"{run:<48}{result}" for run, result in rows]
    print("\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
