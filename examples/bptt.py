"""Back-propagation through time, four ways: by hand, by the tape, term by term, and cut short.

A 2-3-2 network reads five points of the plane, one after another, and predicts the next. First its six gradients are
computed by the procedure that textbooks print (RNNBACK), and by the tape: they are the same numbers. Then the gradient
of the last step's error is taken apart, into what passes through each of the steps before it: in a longer sequence the
terms that are far back vanish. So a gradient that is cut short after k steps comes close to the whole one while k is
still small; how fast depends on the cell. What it leaves out is what could be learnt about the distant past.

    python examples/bptt.py            # prints three tables, and draws bptt.png; a few seconds

Needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.bptt import contributions, rnn_back, truncated

CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
GRADIENTS = ["dW_e", "dW_h", "dW_s", "db_e", "db_s", "dh(0)"]


def spiral(points: int) -> np.ndarray:
    """Points of the plane, (points, 2)."""
    angle = np.linspace(0, 4, points)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.linspace(0.5, 1, points)[:, None]


def by_hand_and_by_tape(rng: np.random.Generator) -> list[tuple[str, float, float]]:
    """For each of the six gradients: its norm, and the largest difference between RNNBACK and the tape."""
    points = spiral(6)
    X, y = points[:-1], points[1:]
    weights = [rng.standard_normal(shape) / 2 for shape in ((3, 2), (3, 3), (2, 3), (3,), (2,))]
    h0 = rng.standard_normal(3) / 2
    by_hand = rnn_back(X, y, h0, tuple(weights))

    leaves = [tg.tensor(array, requires_grad=True) for array in (*weights, h0)]
    W_e, W_h, W_s, b_e, b_s, h = leaves
    E = tg.tensor(0.0)
    for x, target in zip(X, y):
        h = tg.tanh(W_e @ x + W_h @ h + b_e)
        o = W_s @ h + b_s
        E = E + ((o - target) ** 2).sum() / 2
    by_tape = tg.gradients(E, leaves)
    return [
        (name, float(np.linalg.norm(a)), float(np.abs(a - b.data).max()))
        for name, a, b in zip(GRADIENTS, by_hand, by_tape)
    ]


class Predictor:
    """A cell that reads points, and an error for its prediction of the next: its first two units."""

    def __init__(self, kind: str, time: int, hidden: int, rng: np.random.Generator):
        self.cell = CELLS[kind](2, hidden, rng=rng, dtype=np.float64)
        points = spiral(time + 1) + 0.1 * rng.standard_normal((time + 1, 2))
        self.xs, self.targets = points[:-1, None], points[1:, None]

    def error(self, y: tg.Tensor, t: int) -> tg.Tensor:
        return ((y[..., :2] - self.targets[t]) ** 2).sum() / 2

    def errors(self, ys: tg.Tensor, steps: slice) -> tg.Tensor:
        return ((ys[..., :2] - self.targets[steps]) ** 2).sum() / 2

    def terms(self) -> np.ndarray:
        """The norm of what step s gives to the gradient of the error of step t, by the recurrent weights: [t, s]."""
        terms = contributions(self.cell, self.xs, self.error, self.cell.weight_hh)
        return np.linalg.norm(terms, axis=(2, 3))

    def gradient(self, k: int) -> np.ndarray:
        """The gradient of all errors by the recurrent weights, cut short after k steps."""
        self.cell.zero_grad()
        for _ in truncated(self.cell, self.xs, self.errors, 1, k):
            pass
        return self.cell.weight_hh.grad.data


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, default=40, help="the length of the longer sequence")
    parser.add_argument("--hidden", type=int, default=16, help="the number of units")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("."), help="where bptt.png goes")
    parser.add_argument("--smoke", action="store_true", help="a tiny size: does it run?")
    options = parser.parse_args(arguments)
    time, hidden = (8, 4) if options.smoke else (options.time, options.hidden)
    rng = np.random.default_rng(options.seed)

    print("A 2-3-2 network and five points: RNNBACK beside the tape\n")
    print("gradient   norm     largest difference")
    for name, norm, difference in by_hand_and_by_tape(rng):
        print(f"{name:<10} {norm:.4f}   {difference:.0e}")

    predictors = {kind: Predictor(kind, time, hidden, rng) for kind in CELLS}
    terms = {kind: predictor.terms() for kind, predictor in predictors.items()}
    back = [n for n in (0, 1, 2, 5, 10, 20, 30, 50, 100) if n < time - 1]
    print(
        f"\nThe error of step {time}: the norm of what passes through the step n before it, by the recurrent weights\n"
    )
    print("cell   " + "".join(f"n = {n:<6}" for n in back))
    for kind, norms in terms.items():
        print(f"{kind:<7}" + "".join(f"{norms[-1, -1 - n]:<10.0e}" for n in back))

    ks = sorted({k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96) if k < time} | {time})
    print("\nThe gradient of all errors, cut short after k steps: how far it is from the whole, relative to that\n")
    print("cell   " + "".join(f"k = {k:<6}" for k in ks))
    bias = {}
    for kind, predictor in predictors.items():
        whole = predictor.gradient(time)
        bias[kind] = [np.linalg.norm(predictor.gradient(k) - whole) / np.linalg.norm(whole) for k in ks]
        print(f"{kind:<7}" + "".join(f"{b:<10.0e}" for b in bias[kind]))
    draw(terms, ks, bias, options.out / "bptt.png")
    print(f"\nFigure: {options.out / 'bptt.png'}")


def draw(terms: dict, ks: list[int], bias: dict, path: Path) -> None:
    """The terms of the simple cell as a picture, and the bias of truncation of each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    norms = terms["rnn"]
    with np.errstate(divide="ignore"):
        image = left.imshow(np.log10(norms), cmap="viridis", origin="lower", vmin=np.log10(norms.max()) - 12)
    left.set(xlabel="through step s", ylabel="error of step t", title="the terms of dE/dW_h in a simple network")
    figure.colorbar(image, ax=left, label="log₁₀ of the norm")
    for kind, values in bias.items():
        right.semilogy(ks[:-1], values[:-1], "o-", label=kind)
    right.set(xlabel="k, steps back", ylabel="relative error", title="the gradient cut short after k steps")
    right.grid(alpha=0.3)
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
