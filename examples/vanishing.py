"""Gradients that vanish and explode, and how they are tamed: how large the last state's derivatives by the others are.

What a loss at step T says to step t is multiplied by the product of the derivatives of all steps between. The smallest
case is h' = w h, where that product is a power of w. The table gives it for 50 factors, and for 49, which is all that
there are between the first and the last of 50 states.

The figure, left: of cells with 32 units, that get noise as input, the root mean square of the singular values of
∂s_T/∂s_t: how much longer or shorter a vector comes back, on average. s is the state h; of an LSTM, it is c. With the
same weights linear units explode, and tanh, which is flat where its input is large, does not. A forget gate that is
open when training begins, an identity, or a state that is only changed keep a gradient near its size.

Right: what clipping does about one that has exploded (Pascanu et al., 2013). The network is one unit, x' = w σ(x) + b,
whose state after 50 steps shall be 0.7. Its loss has a cliff, and a step along the gradient there leads far away, to
where nothing had been learned. Clipped, the same descent follows the cliff down.

    python examples/vanishing.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.analysis import Descent, descent, surface

HIDDEN = 32


class ResidualRNNCell(nn.RNNCell):
    """h' = h + 0.05 tanh(...): a state that is changed, not replaced."""

    def step(self, x, h):
        change, _ = super().step(x, h)
        h = h + 0.05 * change
        return h, h


def rnn(radius: float, seed: int, kind: type[nn.Cell] = nn.RNNCell, nonlinearity: str = "tanh") -> nn.Cell:
    cell = kind(4, HIDDEN, nonlinearity=nonlinearity, rng=seed)
    cell.weight_hh.data = nn.init.with_spectral_radius(cell.weight_hh.data, radius)
    return cell


CELLS = {
    "tanh, radius 0.5": lambda seed: rnn(0.5, seed),
    "tanh, radius 1": lambda seed: rnn(1.0, seed),
    "tanh, radius 1.5": lambda seed: rnn(1.5, seed),
    "linear, radius 1.5": lambda seed: rnn(1.5, seed, nonlinearity="linear"),
    "IRNN": lambda seed: nn.IRNNCell(4, HIDDEN, rng=seed),
    "residual, radius 1": lambda seed: rnn(1.0, seed, ResidualRNNCell),
    "LSTM, forget bias 0": lambda seed: nn.LSTMCell(4, HIDDEN, forget_bias=0.0, rng=seed),
    "LSTM, forget bias 1": lambda seed: nn.LSTMCell(4, HIDDEN, forget_bias=1.0, rng=seed),
    "LSTM, forget bias 5": lambda seed: nn.LSTMCell(4, HIDDEN, forget_bias=5.0, rng=seed),
}


def sizes(cell: nn.Cell, xs: np.ndarray) -> np.ndarray:
    """The root mean square of the singular values of ∂s_T/∂s_t, for each t.

    The batch is one sequence, as often as there are units: the i-th copy is differentiated by its i-th unit. So one
    walk gives all rows of all the matrices.
    """
    state, seen = None, []
    for x in xs:
        _, state = cell(np.repeat(x[None], HIDDEN, axis=0), state)
        seen.append(state[1] if isinstance(state, tuple) else state)
    rows = tg.gradients(seen[-1].trace(), seen)
    return np.array([np.sqrt(np.sum(np.square(J.numpy(), dtype=np.float64)) / HIDDEN) for J in rows])


def power(w: float, factors: int) -> float:
    """∂h/∂h_0 of h' = w h, after so many steps, by the tape."""
    h = start = tg.tensor(1.0, requires_grad=True)
    for _ in range(factors):
        h = w * h
    return tg.gradients(h, start).item()


def loss(w, b):
    """(x - 0.7)² after 50 steps of x' = w σ(x) + b, from 0.5."""
    x = 0.5
    for _ in range(50):
        x = w * tg.sigmoid(x) + b
    return (x - 0.7) ** 2


def draw(measured: dict[str, np.ndarray], ways: dict[str, Descent], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    for name, values in measured.items():
        style = "--" if name.startswith("LSTM") else "-"
        left.semilogy(range(1, len(values) + 1), values, style, label=name)
    left.set(title="How much of a gradient comes back to step t", xlabel="step t", ylabel="size of ∂s_T/∂s_t")
    left.grid(alpha=0.3)
    left.legend(fontsize="small", loc="lower right")
    cliff = surface(loss, np.linspace(4.2, 5.4, 300), np.linspace(-3, -1.8, 300), vectorized=True)
    cliff.plot(right, cmap="Blues")
    for (name, way), color in zip(ways.items(), ("C3", "C1")):
        way.plot(right, color=color, label=name)
    right.set(title="A cliff: x' = w σ(x) + b, 50 times", xlabel="w", ylabel="b", xlim=(4.2, 5.4), ylim=(-3, -1.8))
    right.legend(loc="lower left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[str, np.ndarray]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/vanishing"), help="folder for the figure")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see whether it works")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        options.steps = min(options.steps, 10)

    print(f"{'h = w h':<22}{'50 factors':>12}{'49 factors':>12}")
    for w in (1.1, 0.9):
        print(f"{f'w = {w}':<22}{power(w, 50):>12.5g}{power(w, 49):>12.5g}")
    xs = np.random.default_rng(options.seed).standard_normal((options.steps, 4), np.float32)
    measured = {name: sizes(make(options.seed), xs) for name, make in CELLS.items()}
    print(f"\n{f'of {options.steps} steps':<22}{'s_T by s_1':>12}{'by the middle':>15}")
    for name, values in measured.items():
        print(f"{name:<22}{values[0]:>12.3g}{values[len(values) // 2]:>15.3g}")
    print(f"\n{'100 steps of SGD':<22}{'largest gradient':>18}{'w at last':>12}{'b at last':>12}{'loss':>12}")
    ways = {}
    for name, clip in ("as it is", None), ("clipped to norm 3", 3.0):
        way = ways[name] = descent(loss, (5.0, -2.5), lr=0.01, steps=100, clip=clip)
        w, b = way.points[-1]
        print(f"{name:<22}{way.norms.max():>18.4g}{w:>12.4g}{b:>12.4g}{way.losses[-1]:>12.4g}")
    draw(measured, ways, options.out / "vanishing.png")
    print(f"\nFigure: {options.out / 'vanishing.png'}")
    return measured


if __name__ == "__main__":
    main()
