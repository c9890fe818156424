"""Four published cells that the package does not have, each in a few lines, beside LSTM: the adding problem.

A sequence of pairs: a number, and a mark, which is 1 at two of the steps. At the end, the sum of the two numbers that
were marked is asked for (Hochreiter and Schmidhuber, 1997). Always saying 1 has a mean squared error of 1/6.

    python examples/write_your_own.py

They differ in what carries the past: in the IndRNN, each unit has one weight to itself (Li et al., 2018); the gates of
the minGRU do not look at the state (Feng et al., 2024); the LRU has complex eigenvalues within the unit circle (Orvieto
et al., 2023); the orthogonal RNN a matrix that can only turn the state (Helfrich et al., 2018).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim


class IndRNNCell(nn.Cell):
    """h' = relu(W x + u * h + b): each unit sees of the past only itself."""

    def __init__(self, input_size, hidden_size, rng=None):
        rng = np.random.default_rng(rng)
        self.input_size, self.hidden_size, self.state_size = input_size, hidden_size, hidden_size
        self.input = nn.Linear(input_size, hidden_size, rng=rng)
        self.u = nn.Parameter(rng.uniform(0, 1, hidden_size).astype(np.float32))

    def step(self, x, h):
        h = tg.relu(self.input(x) + self.u * h)
        return h, h


class MinGRUCell(nn.Cell):
    """h' = (1 - z) * h + z * n: z and n are of the input alone, so that the recurrence is linear in h."""

    def __init__(self, input_size, hidden_size, rng=None):
        rng = np.random.default_rng(rng)
        self.input_size, self.hidden_size, self.state_size = input_size, hidden_size, hidden_size
        self.input = nn.Linear(input_size, 2 * hidden_size, rng=rng)

    def step(self, x, h):
        z, n = tg.split(self.input(x), 2, axis=-1)
        h = h + tg.sigmoid(z) * (n - h)
        return h, h


class LRUCell(nn.Cell):
    """h' = λ * h + γ * B x, y = Re(C h) + D x: complex numbers, each as two real ones. The state is (real, imaginary).

    λ = exp(-exp(ν) + iθ) cannot leave the unit circle; γ = √(1 - |λ|²) keeps the size of h whatever λ is.
    """

    def __init__(self, input_size, hidden_size, rng=None, slowest=0.999, fastest=0.9):
        rng = np.random.default_rng(rng)
        self.input_size, self.hidden_size, self.state_size = input_size, hidden_size, (hidden_size, hidden_size)
        size = np.sqrt(rng.uniform(fastest**2, slowest**2, hidden_size))
        self.nu = nn.Parameter(np.log(-np.log(size)).astype(np.float32))
        self.theta = nn.Parameter(rng.uniform(0, np.pi / 10, hidden_size).astype(np.float32))
        self.B = nn.Linear(input_size, 2 * hidden_size, bias=False, rng=rng)
        self.C = nn.Linear(2 * hidden_size, hidden_size, rng=rng)
        self.D = nn.Linear(input_size, hidden_size, bias=False, rng=rng)

    def step(self, x, state):
        re, im = state
        size = tg.exp(-tg.exp(self.nu))
        cos, sin, gamma = size * tg.cos(self.theta), size * tg.sin(self.theta), tg.sqrt(1 - size * size)
        x_re, x_im = tg.split(self.B(x), 2, axis=-1)
        re, im = cos * re - sin * im + gamma * x_re, sin * re + cos * im + gamma * x_im
        return self.C(tg.concatenate([re, -im], axis=-1)) + self.D(x), (re, im)


class OrthogonalCell(nn.Cell):
    """h' = modrelu(V x + W h): W = (I + A)⁻¹ (I - A) is orthogonal, if A is M - Mᵀ times a number, whatever M is.

    It is the identity at first. It is computed once for a sequence, and carried in the state, which is (h, W).
    """

    def __init__(self, input_size, hidden_size, rng=None):
        rng = np.random.default_rng(rng)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.input = nn.Linear(input_size, hidden_size, bias=False, rng=rng)
        self.M = nn.Parameter(np.zeros((hidden_size, hidden_size), np.float32))
        self.bias = nn.Parameter(np.zeros(hidden_size, np.float32))

    def initial_state(self, x):
        A, eye = 0.1 * (self.M - self.M.T), np.eye(self.hidden_size, dtype=x.dtype)
        return np.zeros((*x.shape[:-1], self.hidden_size), x.dtype), tg.solve(eye + A, eye - A)

    def step(self, x, state):
        h, W = state
        h = self.input(x) + h @ W.T
        h = tg.sign(h) * tg.relu(abs(h) + self.bias)
        return h, (h, W)


CELLS = {  # and how fast each learns best
    IndRNNCell: 3e-3,
    MinGRUCell: 3e-3,
    LRUCell: 3e-3,
    OrthogonalCell: 3e-3,
    nn.LSTMCell: 1e-2,
}


class Adder(nn.Module):
    """What a cell gets is a layer of relu units: so even one that is linear can tell what is marked."""

    def __init__(self, cell: type[nn.Cell], hidden: int, rng: np.random.Generator):
        self.input = nn.Linear(2, hidden, rng=rng)
        self.cell, self.output = cell(hidden, hidden, rng=rng), nn.Linear(hidden, 1, rng=rng)

    def forward(self, xs):
        ys, _ = tg.scan(self.cell, tg.relu(self.input(xs)))
        return self.output(ys[-1])[:, 0]


def adding(rng: np.random.Generator, batch: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (steps, batch, 2), with a mark in each half, and the sums."""
    x = rng.random((steps, batch, 2), np.float32)
    marks = np.stack([rng.integers(steps // 2, size=batch), rng.integers(steps // 2, steps, batch)])
    x[..., 1] = (np.arange(steps)[:, None, None] == marks).any(axis=1)
    return x, x.prod(axis=-1).sum(axis=0)


def main(arguments: list[str] | None = None) -> list[tuple]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help="of a sequence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/write_your_own"), help="folder for the table")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see whether it works")
    options = parser.parse_args(arguments)

    lines, rows = [f"{'cell':<18}{'parameters':>10}{'loss at first':>15}{'at last':>9}{'test':>9}{'seconds':>9}"], []
    print(lines[0])
    for cell, lr in CELLS.items():
        start, rng = time.perf_counter(), np.random.default_rng(options.seed)
        model, losses = Adder(cell, 32, rng), []
        optimizer = optim.Adam(model.parameters(), lr=lr)
        for _ in range(3 if options.smoke else 800):
            x, y = adding(rng, 32, options.steps)
            loss = nn.mse(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        x, y = adding(rng, 500, options.steps)
        with tg.no_grad():
            test = nn.mse(model(x), y).item()
        parameters, seconds = sum(p.size for p in model.cell.parameters()), time.perf_counter() - start
        rows.append((cell.__name__, parameters, losses[0], np.mean(losses[-20:]), test, seconds))
        lines.append("{:<18}{:>10,}{:>15.4f}{:>9.4f}{:>9.4f}{:>9.1f}".format(*rows[-1]))
        print(lines[-1], flush=True)
    lines.append(f"{'always 1':<43}{'':>9}{1 / 6:>9.4f}")
    print(lines[-1])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
