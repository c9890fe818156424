"""How far back an impulse is remembered: leaky units, a skip over time, dilation, a clockwork, beside plain tanh units.

Two runs over zeros, one of them with an impulse at the first step: how far apart the outputs are later on is the
response. The gradient of the last output with regard to the input of each step is the same, read backward: what comes
back over a lag is what can be learned over that lag. All layers have 32 units, and recurrent weights (those of the
skip, too) of spectral radius 0.7: they differ in how a state is connected with those before it, and in nothing else.

The slow units of the clockwork read an input only when they tick. At the first step all do, so an impulse there stays;
in the gradient, only the lags come back at which a slow unit was listening: multiples of 16 and 64.

Of leaky units without recurrent weights, h' = (1 - a) h + a φ(W x), the gradient is known: (1 - a)^lag of what it is at
lag 0. The table compares.

    python examples/timescales.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn

HIDDEN, RADIUS, SEEN = 32, 0.7, 1e-3  # SEEN: what share of the largest response counts as remembered


def scaled(weight: tg.Tensor) -> None:
    weight.data = nn.init.with_spectral_radius(weight.data, RADIUS)


def plain(rng: np.random.Generator, inputs: int = 1) -> nn.Cell:
    cell = nn.RNNCell(inputs, HIDDEN, bias=False, rng=rng)
    scaled(cell.weight_hh)
    return cell


def leaky(leak: float, rng: np.random.Generator) -> nn.Cell:
    return nn.LeakyCell(1, HIDDEN, leak, bias=False, recurrent=False, rng=rng)


def skip(rng: np.random.Generator) -> nn.Cell:
    cell = nn.TimeSkip(plain(rng), skip=20, rng=rng)
    scaled(cell.weights)
    return cell


def clockwork(rng: np.random.Generator) -> nn.Cell:
    cell = nn.ClockworkCell(1, HIDDEN, periods=(1, 4, 16, 64), bias=False, rng=rng)
    scaled(cell.weight_hh)
    return cell


LAYERS = {
    "tanh units": lambda rng: [plain(rng)],
    "leaky, a = 0.5": lambda rng: [leaky(0.5, rng)],
    "leaky, a = 0.1": lambda rng: [leaky(0.1, rng)],
    "leaky, a = 0.02": lambda rng: [leaky(0.02, rng)],
    "skip of 20": lambda rng: [skip(rng)],
    "dilations 1, 4, 16": lambda rng: [nn.Dilated(plain(rng, n), d) for n, d in ((1, 1), (HIDDEN, 4), (HIDDEN, 16))],
    "clockwork 1, 4, 16, 64": lambda rng: [clockwork(rng)],
}


def response(model: nn.Module, time: int) -> np.ndarray:
    """How far an impulse at the first step moves the outputs of all steps: a batch of two, with it and without."""
    x = np.zeros((time, 2, 1), np.float32)
    x[0, 0] = 1
    with tg.no_grad():
        ys = model(x)[0].numpy().astype(np.float64)
    return np.linalg.norm(ys[:, 0] - ys[:, 1], axis=-1)


def gradient(model: nn.Module, time: int) -> np.ndarray:
    """The size of the derivative of the last output by the input, for each lag, around zeros.

    The i-th sequence of a batch is differentiated by its i-th unit, so that one walk gives all of them.
    """
    x = tg.tensor(np.zeros((time, HIDDEN, 1), np.float32), requires_grad=True)
    ys, _ = model(x)
    return np.linalg.norm(tg.gradients(ys[-1].trace(), x).numpy().astype(np.float64)[::-1, :, 0], axis=-1)


def reach(sizes: np.ndarray) -> int:
    """The last lag at which more than SEEN of the largest is left."""
    return int(np.flatnonzero(sizes > SEEN * sizes.max()).max(initial=0))


def draw(found: dict[str, tuple], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(14, 5), sharey=True, layout="constrained")
    titles = "Response to an impulse", "Gradient of the last output by the inputs"
    for axes, title, i in zip(both, titles, range(2)):
        for name, measured in found.items():
            size = measured[i] / measured[i].max()
            style = "." if name.startswith("clockwork") and i else "-"  # it has gaps
            axes.semilogy(np.where(size > 1e-7, size, np.nan), style, label=name)
        axes.axhline(SEEN, color="gray", linestyle=":", label="counts as remembered")
        axes.set(title=title, xlabel="lag: steps since", ylim=(1e-6, 2))
        axes.grid(alpha=0.3)
    both[0].set_ylabel("share of the largest")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[str, tuple]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=513)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/timescales"), help="folder for the figure")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see whether it works")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smoke:
        options.steps = min(options.steps, 30)

    found = {}
    print(f"{f'of {options.steps} steps':<24}{'parameters':>12}{'response up to lag':>20}{'gradient up to lag':>20}")
    for name, make in LAYERS.items():
        model = nn.Recurrent(make(np.random.default_rng(options.seed)))
        found[name] = response(model, options.steps), gradient(model, options.steps)
        parameters = sum(p.size for p in model.parameters())
        print(f"{name:<24}{parameters:>12,}{reach(found[name][0]):>20}{reach(found[name][1]):>20}")
    print(f"\n{'gradient at lag 20':<24}{'measured':>12}{'(1 - a)^20':>20}")
    for a in (0.5, 0.1, 0.02):
        sizes = found[f"leaky, a = {a}"][1]
        print(f"{f'leaky, a = {a}':<24}{sizes[20] / sizes[0]:>12.4g}{(1 - a) ** 20:>20.4g}")
    draw(found, options.out / "timescales.png")
    print(f"\nFigure: {options.out / 'timescales.png'}")
    return found


if __name__ == "__main__":
    main()
