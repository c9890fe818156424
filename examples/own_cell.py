"""A cell of one's own, in twelve lines; and what the package does with it, without a thirteenth.

The minimal gated unit (Zhou et al., 2016) is written here as its two equations: no derivative, no loop over time, no
mask, no special case. Then two layers of it are trained, in both directions, with zoneout, on sequences of several
lengths, in windows, each computed again segment by segment on the way back: all of it at once.

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


def network(hidden: int, both: bool, rng: np.random.Generator, checkpoint: bool = True) -> nn.Recurrent:
    """Two layers, with zoneout, in one direction or both."""

    def layers(below: int) -> list[nn.Cell]:
        return [nn.Zoneout(MinimalGatedCell(n, hidden, rng), p=0.05, rng=rng) for n in (1, below)]

    width = 2 * hidden if both else hidden
    return nn.Recurrent(layers(width), bidirectional=layers(width) if both else False, checkpoint=checkpoint)


def peaks(rng: np.random.Generator, batch: int, time: int) -> tuple[np.ndarray, ...]:
    """Sequences of several lengths, each step tagged that is larger than both of its neighbours: one is yet to come."""
    x = rng.random((time, batch, 1), np.float32)
    lengths = rng.integers(time // 5, time + 1, batch)
    x[np.arange(time)[:, None] >= lengths] = np.nan  # padding: whatever is there touches nothing
    padded = np.pad(np.nan_to_num(x[..., 0]), ((1, 1), (0, 0)))
    return x, (padded[1:-1] > padded[:-2]) & (padded[1:-1] > padded[2:]), lengths


def tagging(both: bool, batches: int, options: argparse.Namespace) -> str:
    """Train it, in windows of 25 of at most 75 steps, and say how many tags are right."""
    rng = np.random.default_rng(options.seed)
    net, readout = network(16, both, rng), nn.Linear(32 if both else 16, 1, rng=rng)
    parameters, losses = [*net.parameters(), *readout.parameters()], []
    optimizer = optim.Adam(parameters, lr=1e-2)
    for _ in range(batches):
        x, tags, lengths = peaks(rng, 32, 75)
        mask = np.arange(75)[:, None] < lengths

        def loss(hs, steps, tags=tags, mask=mask):
            return nn.binary_cross_entropy_with_logits(readout(hs)[..., 0], tags[steps], mask=mask[steps])

        for _, value, _ in bptt.truncated(net, x, loss, k1=25, lengths=lengths):
            optim.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(value.item())
    x, tags, lengths = peaks(rng, 500, 75)
    with tg.no_grad():
        guesses = readout(net.eval()(x, lengths=lengths)[0]).numpy()[..., 0] > 0
    right = (guesses == tags)[np.arange(75)[:, None] < lengths].mean()
    return f"loss {losses[0]:.3f} -> {np.mean(losses[-10:]):.3f}, tags that are right: {right:.0%}"


def guessing(options: argparse.Namespace) -> str:
    """What to compare with."""
    _, tags, lengths = peaks(np.random.default_rng(options.seed), 500, 75)
    return f"tags that are right: {1 - tags[np.arange(75)[:, None] < lengths].mean():.0%}"


def recomputed(time: int, options: argparse.Namespace) -> list[tuple[str, str]]:
    """The gradient of a long sequence, plain and checkpointed: the memory that the tape takes."""
    x = np.random.default_rng(options.seed).standard_normal((time, 16, 1), np.float32)
    rows, gradients = [], []
    for checkpoint in False, True:
        net = network(16, True, np.random.default_rng(options.seed), checkpoint)
        tracemalloc.start()
        with tg.compiled(False):
            ys, _ = net(x)
            gradients.append(tg.gradients((ys * ys).mean(), list(net.parameters())))
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        rows.append((f"the gradient of {time:,} steps, checkpoint={checkpoint}", f"{peak:.1f} MiB"))
    same = all(np.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*gradients))
    return [*rows, ("are the two gradients the same?", "yes" if same else "no")]


def main(arguments: list[str] | None = None) -> list[tuple[str, str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/own_cell"), help="folder for the table")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see whether it works")
    options = parser.parse_args(arguments)
    batches, time = (2, 100) if options.smoke else (60, 1000)

    rows = [
        ("two layers, one direction, all of it at once", tagging(False, batches, options)),
        ("two layers, both directions, all of it at once", tagging(True, batches, options)),
        ("who tags nothing at all", guessing(options)),
        *recomputed(time, options),
    ]
    lines = [f"{run:<48}{result}" for run, result in rows]
    print("\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
