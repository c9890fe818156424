"""The loop of a cell, compiled: what is derived from twelve lines, and what that saves.

The cell is an LSTM whose gates to write and to forget are one, f = 1 - i (Greff et al., 2017). Its step is all that is
written here. First its back-propagation through time is printed, as it was derived from that. Then one gradient, of the
mean of all outputs squared by all weights, is timed: on the tape, where each operation of each step is a call from
Python, and an entry; by a program in NumPy that does the same operations, step by step, in arrays made before; by
the program that was printed, which has less to do in its loop; and, if Numba is installed, by its kernels. The
gradients are held against each other.

The smaller what a step computes, the more of its time is Python's. A first scan is slower: its step is traced, and, for
Numba, compiled, unless a run before has left that on disk.

    OPENBLAS_NUM_THREADS=1 python examples/compiled_loop.py
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.compile import passes, program, scanning

SIZES = [(100, 1, 32, 64), (100, 16, 32, 64), (1000, 16, 16, 32), (100, 32, 64, 128)]  # time, batch, features, units
SMALL = [(40, 1, 2, 3), (40, 2, 2, 3)]


class CoupledCell(nn.Cell):
    def __init__(self, input_size, hidden_size, rng=None):
        self.input_size, self.state_size = input_size, (hidden_size, hidden_size)
        self.gates = nn.Linear(input_size + hidden_size, 3 * hidden_size, rng=rng)

    def step(self, x, state):
        h, c = state
        z = self.gates(tg.concatenate([x, h], axis=-1))
        z_i, z_g, z_o = tg.split(z, 3, axis=-1)
        i, g, o = tg.sigmoid(z_i), tg.tanh(z_g), tg.sigmoid(z_o)
        c = c + i * (g - c)
        h = o * tg.tanh(c)
        return h, (h, c)


class Unmoved(passes.Direction):
    """All that is different at each step waits for its turn, be it known before."""

    def __init__(self, values, carries, given):
        super().__init__(values, carries, given)
        self.loop = self.after = self.varying & self.values


OTHERS: OrderedDict = OrderedDict()


@contextmanager
def all_in_the_loop() -> Iterator[None]:
    """Programs made in this block do all in the loop: those passes alone are run that have to be."""
    needed = [passes.hold_steady, passes.totals, passes.own_places]
    with (
        mock.patch.object(passes, "Direction", Unmoved),
        mock.patch.object(program, "PASSES", needed),
        mock.patch.object(scanning, "PROGRAMS", OTHERS),
    ):
        yield


WAYS = {  # how a scan is run, and within what
    "tape": (False, nullcontext),
    "NumPy, all in the loop": ("numpy", all_in_the_loop),
    "NumPy": ("numpy", nullcontext),
    "Numba": ("numba", nullcontext),
}
if not importlib.util.find_spec("numba"):
    del WAYS["Numba"]


def measured(size: tuple[int, ...], times: int, seed: int) -> dict[str, list[float]]:
    """For each way, the milliseconds that gradients take, the first one and others; the ways take turns."""
    length, batch, features, units = size
    xs = np.random.default_rng(seed).standard_normal((length, batch, features), np.float32)
    cell = CoupledCell(features, units, rng=seed)
    found, gradients = {name: [] for name in WAYS}, {}
    for _ in range(1 + times):
        for name, (mode, around) in WAYS.items():
            with around():
                start = time.perf_counter()
                ys, _ = tg.scan(cell, xs, compiled=mode)
                gradients[name] = tg.gradients((ys * ys).mean(), list(cell.parameters()))
                found[name].append(1000 * (time.perf_counter() - start))
    for gs in gradients.values():
        for g, expected in zip(gs, gradients["tape"], strict=True):
            np.testing.assert_allclose(g, expected, rtol=1e-3, atol=1e-6)
    return found


def draw(best: dict[tuple, dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 5), layout="constrained")
    width = 0.8 / len(WAYS)
    for i, name in enumerate(WAYS):
        times = [found[name] for found in best.values()]
        bars = axes.bar(np.arange(len(best)) + (i - (len(WAYS) - 1) / 2) * width, times, width, label=name)
        ratios = [found["tape"] / found[name] for found in best.values()]
        axes.bar_label(bars, [f"{ms:.3g}" + (f"\n{r:.1f}×" if i else "") for ms, r in zip(times, ratios)], fontsize=8)
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_xticks(range(len(best)), ["{} steps, batch {}\n{} features, {} units".format(*size) for size in best])
    axes.set(ylabel="milliseconds", title="One gradient of a cell of twelve lines (×: times faster than on the tape)")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[tuple, dict[str, list[float]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="how often each gradient is timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/compiled_loop"), help="folder for the figure")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see whether it works")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    sizes, times = (SMALL, 2) if options.smoke else (SIZES, options.times)

    cell, xs = CoupledCell(3, 4, rng=options.seed), np.zeros((100, 2, 3), np.float32)
    print(scanning.program_of(cell, xs, backend="numpy").backward_source)
    print(f"{'milliseconds: fastest':<24}" + "".join(f"{name:>24}" for name in WAYS))
    measurements = {size: measured(size, times, options.seed) for size in sizes}
    best = {size: {name: min(ms[1:]) for name, ms in found.items()} for size, found in measurements.items()}
    for size, found in best.items():
        ratios = [f"{ms:.2f}" + f"{found['tape'] / ms:>8.1f} x" for ms in found.values()]
        print(f"{'T={} B={} I={} H={}'.format(*size):<24}" + "".join(f"{text:>24}" for text in ratios))
    print(f"{'and the first':<24}")
    for size, found in measurements.items():
        first = [f"{ms[0]:.0f}" for ms in found.values()]
        print(f"{'T={} B={} I={} H={}'.format(*size):<24}" + "".join(f"{text:>24}" for text in first))
    draw(best, options.out / "compiled_loop.png")
    print(f"\nFigure: {options.out / 'compiled_loop.png'}")
    return measurements


if __name__ == "__main__":
    main()
