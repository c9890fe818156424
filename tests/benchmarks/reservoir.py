"""Running a reservoir against ReservoirPy, in one command that prints its tables:

    python -m tests.benchmarks.reservoir [--only TABLE ...] [--rounds N] [--seconds S] [--write docs/benchmarks.md]

Measured is one series of 5000 steps, forward alone, in float64, from the same weights: those that ReservoirPy would
draw, 10 % of W and of W_in, sparse as it keeps them; and dense ones. Each computes in a process of its own, and they
take turns, as in ``loop.py``; ratios are of the same round. Before anything is timed, everybody's states are compared
with those of the equations.

With ``--smoke``, the same in a tiny size and without ReservoirPy, in a few seconds: whether it runs.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc
from collections.abc import Callable
from time import perf_counter
from typing import Any

from . import loop
from .loop import Participant, ratio, right, titled, turns

LEAK, RADIUS = 0.3, 0.9
STEPS, UNITS, MANY = 5000, (100, 500, 1000), 10_000
DENSITIES = {"sparse": 0.1, "dense": 1.0}
BENCHMARK, PEERS = {"benchmark": "reservoir"}, ("ReservoirPy", "SciPy")


def main() -> int:
    about_it = {"measured": "One series, forward alone, float64, in ms.", "peers": PEERS}
    return loop.run("reservoir", "## Reservoirs", TABLES, 0.5, TASKS, **about_it)


# The tables -----------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> tuple[str, bool]:
    table, ok = [], True
    names = ["numpy", "numba", *([] if options.smoke else ["tape", "reservoirpy"])]
    for kind in DENSITIES:
        for size in [(40, 20)] if options.smoke else [(STEPS, units) for units in UNITS]:
            p = turns(kind, size, names, options, **BENCHMARK)
            ok &= right(p)
            shown = [p[name].shown() if name in p else "" for name in ("reservoirpy", "tape", "numpy", "numba")]
            ratios = [ratio(p, name, "reservoirpy") for name in ("numpy", "numba")]
            table.append([f"{kind}, {size[1]} units", *shown, *ratios, "≤ 1"])
    header = [
        "reservoir",
        "ReservoirPy",
        "tape",
        "NumPy",
        "Numba",
        "NumPy / ReservoirPy",
        "Numba / ReservoirPy",
        "target",
    ]
    return titled("Running a reservoir", f"{STEPS} steps. Medians; in brackets the least of all.", header, table), ok


def memory(options: argparse.Namespace) -> tuple[str, bool]:
    """What Python and NumPy held at most while a large reservoir was made and run, and how long that took."""
    units, table, ok = 200 if options.smoke else MANY, [], True
    for name in ["numpy"] if options.smoke else ["numpy", "numba"]:
        p = Participant(name, "ten connections", (100, units), **BENCHMARK)
        p.take_turn("large")
        p.stop()
        ok &= right({name: p})
        found = p.rounds[0] if p.rounds else {}
        table.append(
            [f"{units} units, {name}", *[f"{found[key]:.3g}" if found else p.failed for key in ("make", "run", "peak")]]
        )
    header = ["ten connections a unit", "made, s", "100 steps, ms", "peak, MB"]
    return titled("A large reservoir", f"(A dense matrix would have {units**2 * 8 / 1e6:,.0f} MB.)", header, table), ok


TABLES: dict[str, Callable] = {f.__name__: f for f in (run, memory)}


# In their processes ---------------------------------------------------------------------------------------------------


def given(kind: str, size: tuple) -> tuple:
    """What everybody starts from: our cell, whose weights all have, and the inputs."""
    import numpy as np

    from tinygrad_rnn import nn

    steps, units = size
    options = {"density": DENSITIES[kind], "input_density": DENSITIES[kind], "leak": LEAK, "spectral_radius": RADIUS}
    cell = nn.Reservoir(1, units, rng=0, **options)
    return cell, np.random.default_rng(1).uniform(-1, 1, (steps, 1, 1))


def ours(mode: Any) -> Callable:
    def made(kind: str, size: tuple) -> Callable:
        import tinygrad_rnn as tg

        cell, xs = given(kind, size)

        def states() -> Any:
            with tg.no_grad():
                return tg.scan(cell, xs, compiled=mode)[0].data[:, 0]

        return states

    return made


def reservoirpys(kind: str, size: tuple) -> Callable:
    import reservoirpy
    from scipy import sparse

    cell, xs = given(kind, size)
    keep = sparse.csr_array if kind == "sparse" else lambda w: getattr(w, "toarray", lambda: w)()
    w, w_ih = keep(cell.matrix()), keep(cell.weight_ih.numpy())
    return lambda: reservoirpy.nodes.Reservoir(W=w, Win=w_ih, lr=LEAK).run(xs[:, 0])


RUNS: dict[str, Callable] = {
    "tape": ours(False),
    "numpy": ours("numpy"),
    "numba": ours("numba"),
    "reservoirpy": reservoirpys,
}


def check(made: dict, name: str, cell: str, size: tuple) -> dict:
    """How far the states of a few steps are from the equations'."""
    import numpy as np

    few = (40, size[1])
    reservoir, xs = given(cell, few)
    w, w_ih, h, states = reservoir.matrix(), reservoir.weight_ih.numpy(), np.zeros(size[1]), []
    for x in xs[:, 0]:
        h = (1 - LEAK) * h + LEAK * np.tanh(w_ih @ x + w @ h)
        states.append(h)
    return {"error": float(np.abs(RUNS[name](cell, few)() - np.array(states)).max())}


def time(made: dict, name: str, cell: str, size: tuple, seconds: float) -> dict:
    states = made.get((cell, size)) or made.setdefault((cell, size), RUNS[name](cell, size))
    return loop.timed(states, seconds)


def large(made: dict, name: str, cell: str, size: tuple) -> dict:
    import numpy as np

    import tinygrad_rnn as tg
    from tinygrad_rnn import nn

    tracemalloc.start()
    begin = perf_counter()
    reservoir = nn.Reservoir(1, size[1], rng=0)
    made_in = perf_counter() - begin
    xs = np.random.default_rng(1).uniform(-1, 1, (size[0], 1, 1))

    def states() -> None:
        with tg.no_grad():
            tg.scan(reservoir, xs, compiled=name)

    states()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return {"make": made_in, "peak": peak, "run": 1e3 * loop.timed(states, 0.1)["least"]}


TASKS = {task.__name__: task for task in (check, time, large)}


if __name__ == "__main__":
    sys.exit(main())
