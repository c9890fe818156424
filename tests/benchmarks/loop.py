"""Compiled scans against their peers, in one command that prints its tables:

    python -m tests.benchmarks.loop [--only TABLE ...] [--rounds N] [--seconds S] [--write docs/benchmarks.md]

Measured are the forward and the backward pass of a cell over a sequence, in float32: from the gradient of the outputs
to those of the inputs and of all parameters. Each framework computes in a process of its own, and they take turns, as
in ``engine.py``; ratios are of the same round. Before anything is timed, everybody's gradients are compared with those
of the tape in double precision. JAX's cells are written as ours are, a step in a few lines, and run by a jitted
``lax.scan``; PyTorch has ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``.

With ``--smoke``, the same in a tiny size and without peers, in a few seconds: whether it runs; the times say nothing.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from .participant import ROOT, TOLERANCE, Failure, Worker
from .table import replace_section

SIZES = [(100, 1, 32, 64), (100, 32, 64, 128), (784, 32, 1, 100), (1000, 16, 16, 32), (100, 64, 256, 512)]
SECOND, LAST = SIZES[1], SIZES[-1]
TINY = (40, 2, 3, 4)
CELLS = {
    "elman": "Elman (tanh RNN)",
    "lstm": "LSTM",
    "gru": "GRU, reset after",
    "gru_before": "GRU, reset before",
    "mgu": "minimal gated unit, from outside",
    "residual": "LSTM, residual (I = H)",
    "cfn": "chaos-free network (Laurent and von Brecht, 2017)",
}
PROTOTYPE = {size: ms / 1e3 for size, ms in zip(SIZES, (2.0, 18, 99, 38, 318))}  # what NumPy alone took it
KERNELS = "SKYLAKEX"  # OpenBLAS's for processors with AVX-512
OTHER = f"numba, {KERNELS}"
VARIANTS = {OTHER: ("numba", {"OPENBLAS_CORETYPE": KERNELS})}


def main() -> int:
    return run("loop", "## Compiled scans", TABLES, 0.3)


def run(
    name: str, section: str, tables: dict[str, Callable], seconds: float, tasks: dict[str, Callable] | None = None,
    **about_it: Any,
) -> int:  # fmt: skip
    """Measure what was asked for of a benchmark; 1 if one of ours failed, or computes something else."""
    options = arguments(name, tables, seconds)
    if options.worker:
        serve(options.worker, tasks)
        return 0
    texts, failed = [], False
    for table in options.only or tables:
        text, ok = tables[table](options)
        texts.append(text)
        failed |= not ok
        print(text, flush=True)
    if options.write:
        command = " ".join([f"python -m tests.benchmarks.{name}", *sys.argv[1:]])
        replace_section(options.write, section, f"{about(command, options, **about_it)}\n" + "\n".join(texts))
    return int(failed)


def arguments(name: str, tables: Iterable[str], seconds: float) -> argparse.Namespace:
    """Those of this benchmark, or of one that goes like it."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks.{name}")
    parser.add_argument("--only", nargs="+", choices=tables, metavar="TABLE", help=f"print only: {', '.join(tables)}")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each, in turns (default: 7)")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"how long one repeats (default: {seconds})")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables to their section of a file, too")
    parser.add_argument("--smoke", action="store_true", help="a tiny size, one round, no peers: whether it runs")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 1, 0.01
    return options


# The tables: each a function that measures, and returns its text, and whether all of ours is right -------------------


def lstm(options: argparse.Namespace) -> tuple[str, bool]:
    names = ["numpy", "numba", "torch", "jax", *([OTHER] if has_other_kernels() else [])]
    header = ["T, B, I, H", "torch.nn.LSTM", "JAX", "NumPy", "Numba", f"Numba, {KERNELS}", "Numba / JAX", "target",
              "Numba / torch", "target", "NumPy / prototype's", "target"]  # fmt: skip
    table, ok = [], True
    for size in [TINY] if options.smoke else SIZES:
        p = turns("lstm", size, ["numpy", "numba"] if options.smoke else names, options)
        ok &= right(p)
        shown = [p[name].shown() if name in p else "" for name in ("torch", "jax", "numpy", "numba", OTHER)]
        jax, old = ("≤ 1.1" if size == LAST else "≤ 0.8"), PROTOTYPE.get(size)
        against = f"{p['numpy'].median() / old:.2f}" if old and p["numpy"].rounds else ""
        ratios = [ratio(p, "numba", "jax"), jax, ratio(p, "numba", "torch"), "≤ 1.0", against, "≤ 1.1"]
        table.append([", ".join(map(str, size)), *shown, *ratios])
        if size == LAST and OTHER in p:
            ratios = [ratio(p, OTHER, "jax"), "≤ 0.8", ratio(p, OTHER, "torch"), "≤ 1.0", "", ""]
            table.append([f"the same, {KERNELS}", *[""] * 5, *ratios])
    return titled("LSTM", "Medians; in brackets the least of all.", header, table), ok


def tape(options: argparse.Namespace) -> tuple[str, bool]:
    table, ok = [], True
    for size in [TINY] if options.smoke else SIZES[:2]:
        p = turns("lstm", size, ["tape", "numpy", "numba"], options)
        ok &= right(p)
        times = [p[name].shown() for name in ("tape", "numpy", "numba")]
        target = "≤ 0.10" if size[1] == 1 else ""
        table.append([", ".join(map(str, size)), *times, ratio(p, "numpy", "tape"), ratio(p, "numba", "tape"), target])
    header = ["T, B, I, H", "tape", "NumPy", "Numba", "NumPy / tape", "Numba / tape", "target"]
    return titled("Against the tape (LSTM)", "", header, table), ok


def cells(options: argparse.Namespace) -> tuple[str, bool]:
    table, ok = [], True
    for cell in CELLS:
        size = TINY if options.smoke else SECOND
        p = turns(cell, size, ["numpy"] if options.smoke else ["numpy", "numba", "torch", "jax"], options)
        ok &= right(p)
        times = [p[name].shown() if name in p else "" for name in ("torch", "jax", "numpy", "numba")]
        table.append([CELLS[cell], *times, ratio(p, "numba", "jax"), "≤ 0.8", ratio(p, "numba", "torch")])
    header = ["cell", "torch", "JAX", "NumPy", "Numba", "Numba / JAX", "target", "Numba / torch"]
    return titled("Other cells", f"T, B, I, H = {', '.join(map(str, SECOND))}.", header, table), ok


def memory(options: argparse.Namespace) -> tuple[str, bool]:
    """The greatest that Python and NumPy held at any moment, each in a process of its own."""
    table, ok = [], True
    for size in [TINY] if options.smoke else [SECOND, LAST]:
        for cell in ["lstm"] if options.smoke else ["lstm", "gru_before", "mgu"]:
            p = {name: Participant(name, cell, size) for name in ("tape", "numpy", "numba")}
            for participant in p.values():
                participant.take_turn("peak")
                participant.stop()
            ok &= right(p)
            shown = [f"{x.rounds[0]['peak']:.1f}" if x.rounds else x.failed for x in p.values()]
            ratios = [f"{p[a].rounds[0]['peak'] / p['tape'].rounds[0]['peak']:.2f}" if p[a].rounds else "" for a in p]
            table.append([f"{CELLS[cell]}; {', '.join(map(str, size))}", *shown, *ratios[1:], "≤ 1"])
    header = ["cell; T, B, I, H", "tape, MB", "NumPy, MB", "Numba, MB", "NumPy / tape", "Numba / tape", "target"]
    return titled("Peak memory", "What Python and NumPy held at most, forward and backward.", header, table), ok


def start(options: argparse.Namespace) -> tuple[str, bool]:
    """The time until there is a program, in new processes: first with an empty cache of kernels, then with that."""
    table, ok = [], True
    for cell in ["lstm"] if options.smoke else CELLS:
        size = TINY if options.smoke else SECOND
        with tempfile.TemporaryDirectory() as cache:
            environment = {"TINYGRAD_RNN_CACHE": cache}
            p = [Participant(name, cell, size, environment) for name in ("numpy", "numba", "numba")]
            for participant in p:
                participant.take_turn("first")
                participant.stop()
        ok &= right({x.name: x for x in p})
        plain, new, cached = [x.rounds[0] if x.rounds else {"trace": float("nan"), "compile": float("nan")} for x in p]
        times = [plain["trace"], new["trace"], new["compile"], cached["compile"]]
        table.append([CELLS[cell], *[f"{1e3 * t:.0f}" for t in times]])
    table.append(["target", "≤ 100", "≤ 100", "≤ 3000", "≤ 500"])
    header = ["cell", "trace and generate: NumPy, ms", "Numba, ms", "its compile, no cache, ms", "with the cache, ms"]
    return titled("Until there is a program", "", header, table), ok


TABLES: dict[str, Callable] = {f.__name__: f for f in (lstm, tape, cells, memory, start)}


def titled(title: str, about: str, header: list[str], rows: list[list[str]]) -> str:
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    cells.insert(1, ["-" * width for width in widths])
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths))} |" for row in cells]
    return "\n".join([f"### {title}", "", *([about, ""] if about else []), *lines, ""])


MEASURED = "Forward and backward, float32, in ms; all gradients, that of the inputs, too."


def about(
    command: str, options: argparse.Namespace, measured: str = MEASURED, peers: Iterable[str] = ("PyTorch", "JAX")
) -> str:
    """What was run, and on what."""
    from tinygrad_rnn.config import config, version

    here = config()
    shown = ("Python", "NumPy", "BLAS", "its kernels", "its threads", "environment", "Numba")
    facts = {"Command": f"`{command}`", "Date": datetime.date.today().isoformat(), "Processor": here["processor"]}
    packages = {"PyTorch": "torch", "JAX": "jax", "ReservoirPy": "reservoirpy", "SciPy": "scipy"}
    facts |= {name: here[name] for name in shown} | {name: version(packages[name]) for name in peers}
    return "".join(f"- {name}: {value}\n" for name, value in facts.items() if value is not None) + (
        f"\n{measured} Rounds: {options.rounds},"
        "\nin turns, each framework in a process of its own. Ratios are of the same round: their median (the least to "
        "the\ngreatest); on a busy machine, that of the least times says more.\n"
    )


# Those who take part --------------------------------------------------------------------------------------------------


class Process(Worker):
    """A worker of this benchmark, or of another one that goes like it, in an environment of its own."""

    def __init__(self, name: str, environment: dict[str, str], benchmark: str = "loop"):
        command = [sys.executable, "-m", f"{__package__}.{benchmark}", "--worker", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | environment
        )
        try:
            self.about = self._answer(120)
        except BaseException:
            self.close()
            raise


@dataclass
class Participant:
    """A framework, or a mode of ours, with a cell of a size. ``rounds`` are its figures; ``failed`` says why not."""

    name: str
    cell: str
    size: tuple
    environment: dict = field(default_factory=dict)
    rounds: list = field(default_factory=list)
    failed: str = ""
    wrong: bool = False
    process: Process | None = None
    benchmark: str = "loop"

    def take_turn(self, task: str = "time", **options: Any) -> None:
        if self.failed:
            return
        name, environment = VARIANTS.get(self.name, (self.name, {}))
        try:
            if self.process is None:
                self.process = Process(name, {**environment, **self.environment}, self.benchmark)
                if task == "time":
                    error = self.process.ask("check", 120, cell=self.cell, size=self.size)["error"]
                    if not error <= TOLERANCE:
                        raise Failure(f"what it computes is wrong, by {error:.1e}")
            self.rounds.append(self.process.ask(task, 120, cell=self.cell, size=self.size, **options))
        except Failure as failure:
            self.stop()
            self.failed = str(failure)

    def stop(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None

    def median(self) -> float:
        return statistics.median(r["median"] for r in self.rounds)

    def shown(self) -> str:
        """The median and the least, in milliseconds; or why there is none."""
        if not self.rounds:
            return "" if self.failed in ("has none", "not installed") else self.failed
        return f"{1e3 * self.median():.3g} ({1e3 * min(r['least'] for r in self.rounds):.3g})"


def turns(
    cell: str, size: tuple, names: Iterable[str], options: argparse.Namespace, **keywords: Any
) -> dict[str, Participant]:
    """Everybody's times, taken in turns, the first of which is there to warm up."""
    participants = {name: Participant(name, cell, size, **keywords) for name in names}
    try:
        for _ in range(options.rounds + 1):
            for participant in participants.values():
                participant.take_turn(seconds=options.seconds)
                sleep(0.05)
    finally:
        for participant in participants.values():
            participant.stop()
            del participant.rounds[: len(participant.rounds) > 1]
    return participants


def ratio(p: dict[str, Participant], ours: str, theirs: str) -> str:
    """Of the same rounds: the median, the least and the greatest; and that of the least times of all."""
    if ours not in p or theirs not in p or not (p[ours].rounds and p[theirs].rounds):
        return ""
    found = sorted(a["median"] / b["median"] for a, b in zip(p[ours].rounds, p[theirs].rounds))
    least = min(r["least"] for r in p[ours].rounds) / min(r["least"] for r in p[theirs].rounds)
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f}); {least:.2f}"


def right(p: dict[str, Participant]) -> bool:
    """Whether all of ours gave figures."""
    ours = [x for name, x in p.items() if name not in ("torch", "jax", "reservoirpy")]
    for x in p.values():
        if x.failed not in ("", "has none", "not installed"):
            print(f"{x.name}, {x.cell}, {x.size}: {x.failed}", file=sys.stderr)
    return all(not x.failed or x.failed == "not installed" for x in ours)


def has_other_kernels() -> bool:
    """Whether the processor has AVX-512, and NumPy's BLAS does not use it."""
    from tinygrad_rnn.config import config, has_avx512

    return has_avx512() and config()["its kernels"] in ("Haswell", "Zen")


# In their processes ---------------------------------------------------------------------------------------------------


def serve(name: str, tasks: dict[str, Callable] | None = None) -> None:
    """Say that there is somebody; then answer one task after the other, a JSON line each."""
    answers, made, tasks = sys.stdout, {}, TASKS if tasks is None else tasks
    with redirect_stdout(sys.stderr):
        print(json.dumps({"name": name} if installed(name) else {"failed": "not installed"}), file=answers, flush=True)
        for line in sys.stdin:
            task, options = (asked := json.loads(line)).pop("task"), asked
            try:
                cell, size = options.pop("cell"), tuple(options.pop("size"))
                figures = tasks[task](made, name, cell, size, **options)
            except Exception as error:
                figures = {"failed": str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"}
            print(json.dumps(figures), file=answers, flush=True)


def installed(name: str) -> bool:
    return name in ("tape", "numpy") or find_spec(name) is not None


def check(made: dict, name: str, cell: str, size: tuple) -> dict:
    """How far the gradients of a few steps are from those of the tape, in double precision."""
    import numpy as np

    few = (4, *size[1:])
    exact = arrays_of(RUNS["tape"](cell, few, np.float64)())
    found = arrays_of(RUNS[name](cell, few, np.float32)())
    return {"error": max(float(abs(a - b).max() / max(abs(b).max(), 1e-30)) for a, b in zip(found, exact, strict=True))}


def time(made: dict, name: str, cell: str, size: tuple, seconds: float) -> dict:
    import numpy as np

    run = made.get((cell, size)) or made.setdefault((cell, size), RUNS[name](cell, size, np.float32))
    return timed(run, seconds)


def timed(run: Callable, seconds: float) -> dict:
    """The median and the least of the times that it takes, of as many as there are in so many seconds."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < 4:
        begin = perf_counter()
        run()
        times.append(perf_counter() - begin)
    return {"median": statistics.median(times[1:]), "least": min(times)}


def peak(made: dict, name: str, cell: str, size: tuple) -> dict:
    import numpy as np

    run = RUNS[name](cell, size, np.float32)
    RUNS[name](cell, (2, *size[1:]), np.float32)()  # a program is for any number of steps: now there is one
    gc.collect()
    tracemalloc.start()
    for _ in range(2):
        run()
    return {"peak": tracemalloc.get_traced_memory()[1] / 1e6}


def first(made: dict, name: str, cell: str, size: tuple) -> dict:
    """The time of the trace with all that is written from it; and of what else the first run takes longer."""
    import numpy as np

    from tinygrad_rnn.compile import scanning

    if name == "numba":
        import numba  # noqa: F401  what it takes to import is not counted

    spent, make = [], scanning.made

    def timed(*args: Any) -> Any:
        begin = perf_counter()
        try:
            return make(*args)
        finally:
            spent.append(perf_counter() - begin)

    scanning.made = timed
    run = RUNS[name](cell, size, np.float32)
    begin = perf_counter()
    run()
    whole = perf_counter() - begin
    begin = perf_counter()
    run()
    return {"trace": sum(spent), "compile": whole - sum(spent) - (perf_counter() - begin)}


TASKS = {task.__name__: task for task in (check, time, peak, first)}


def arrays_of(gradients: Iterable[Any]) -> list:
    import numpy as np

    return [np.asarray(g.numpy() if hasattr(g, "numpy") else g) for g in gradients]


def given(cell: str, size: tuple, dtype: Any) -> tuple:
    """What everybody starts from: our cell, the inputs, and the gradient of the outputs."""
    import numpy as np

    T, B, I, H = size  # noqa: E741  the sizes' usual names
    rng = np.random.default_rng(0)
    sizes = (H if cell == "residual" else I, H)
    ours = our_cells()[cell](*sizes, dtype=dtype)
    for p, single in zip(ours.parameters(), our_cells()[cell](*sizes, dtype=np.float32).parameters()):
        p.data = single.data.astype(dtype)
    x = rng.standard_normal((T, B, sizes[0])).astype(dtype)
    return ours, x, rng.standard_normal((T, B, H)).astype(dtype)


# The cells, ours ------------------------------------------------------------------------------------------------------


def our_cells() -> dict[str, Callable]:
    """From the sizes, a cell; the last two are what users write."""
    import numpy as np

    import tinygrad_rnn as tg
    from tinygrad_rnn import nn

    class MinimalGatedCell(nn.Cell):
        def __init__(self, input_size: int, hidden_size: int, dtype: Any):
            options = {"rng": np.random.default_rng(0), "dtype": dtype}
            self.input_size, self.state_size = input_size, hidden_size
            self.forget = nn.Linear(input_size + hidden_size, hidden_size, **options)
            self.candidate = nn.Linear(input_size + hidden_size, hidden_size, **options)

        def step(self, x: Any, h: Any) -> tuple:
            f = tg.sigmoid(self.forget(tg.concatenate([x, h], axis=-1)))
            n = tg.tanh(self.candidate(tg.concatenate([x, f * h], axis=-1)))
            h = (1 - f) * h + f * n
            return h, h

    class ChaosFreeCell(nn.Cell):
        def __init__(self, input_size: int, hidden_size: int, dtype: Any):
            options = {"rng": np.random.default_rng(0), "dtype": dtype}
            self.input_size, self.state_size = input_size, hidden_size
            self.of_h_forget = nn.Linear(hidden_size, hidden_size, **options)
            self.of_x_forget = nn.Linear(input_size, hidden_size, bias=False, **options)
            self.of_h_input = nn.Linear(hidden_size, hidden_size, **options)
            self.of_x_input = nn.Linear(input_size, hidden_size, bias=False, **options)
            self.content = nn.Linear(input_size, hidden_size, bias=False, **options)

        def step(self, x: Any, h: Any) -> tuple:
            forget = tg.sigmoid(self.of_h_forget(h) + self.of_x_forget(x))
            let_in = tg.sigmoid(self.of_h_input(h) + self.of_x_input(x))
            h = forget * tg.tanh(h) + let_in * tg.tanh(self.content(x))
            return h, h

    return {
        "elman": lambda i, h, dtype: nn.RNNCell(i, h, rng=0, dtype=dtype),
        "lstm": lambda i, h, dtype: nn.LSTMCell(i, h, rng=0, dtype=dtype),
        "gru": lambda i, h, dtype: nn.GRUCell(i, h, rng=0, dtype=dtype),
        "gru_before": lambda i, h, dtype: nn.GRUCell(i, h, reset_after=False, rng=0, dtype=dtype),
        "mgu": MinimalGatedCell,
        "residual": lambda i, h, dtype: nn.Residual(nn.LSTMCell(i, h, rng=0, dtype=dtype)),
        "cfn": ChaosFreeCell,
    }


def ours(mode: Any, cell: str, size: tuple, dtype: Any) -> Callable[[], list]:
    import tinygrad_rnn as tg

    module, x, g = given(cell, size, dtype)
    x, parameters = tg.tensor(x, requires_grad=True), [*module.parameters()]

    def run() -> list:
        ys, _ = tg.scan(module, x, compiled=mode)
        return tg.gradients(ys, [x, *parameters], g)

    return run


# PyTorch's ------------------------------------------------------------------------------------------------------------


def torchs(cell: str, size: tuple, dtype: Any) -> Callable[[], list]:
    import torch

    kinds = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    if cell not in kinds:
        raise Failure("has none")
    module, x, g = given(cell, size, dtype)
    layer = kinds[cell](x.shape[-1], g.shape[-1])
    layer.load_state_dict({f"{name}_l0": torch.tensor(p.numpy()) for name, p in module.named_parameters()})
    x, g = torch.tensor(x, requires_grad=True), torch.tensor(g)
    parameters = [getattr(layer, f"{name}_l0") for name, _ in module.named_parameters()]
    return lambda: torch.autograd.grad(layer(x)[0], [x, *parameters], g)


# JAX's ----------------------------------------------------------------------------------------------------------------


def jax_cells() -> dict[str, Callable]:
    """Steps ``(p, state, x) -> (state, y)``, with the parameters by our names."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    def affine(p: dict, name: str, x: Any) -> Any:
        y = x @ p[f"{name}.weight"].T
        return y + p[f"{name}.bias"] if f"{name}.bias" in p else y

    def of_input(p: dict, x: Any) -> Any:
        return x @ p["weight_ih"].T + p["bias_ih"]

    def of_state(p: dict, h: Any) -> Any:
        return h @ p["weight_hh"].T + p["bias_hh"]

    def elman(p: dict, h: Any, x: Any) -> tuple:
        h = jnp.tanh(of_input(p, x) + of_state(p, h))
        return h, h

    def lstm(p: dict, state: tuple, x: Any) -> tuple:
        h, c = state
        i, f, g, o = jnp.split(of_input(p, x) + of_state(p, h), 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def residual(p: dict, state: tuple, x: Any) -> tuple:
        state, y = lstm({name.removeprefix("cell."): array for name, array in p.items()}, state, x)
        return state, x + y

    def gru(p: dict, h: Any, x: Any) -> tuple:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = jnp.split(of_input(p, x), 3, -1), jnp.split(of_state(p, h), 3, -1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + r * h_n)
        h = n + z * (h - n)
        return h, h

    def gru_before(p: dict, h: Any, x: Any) -> tuple:
        size = h.shape[-1]
        x_r, x_z, x_n = jnp.split(of_input(p, x), 3, -1)
        w, b = p["weight_hh"], p["bias_hh"]
        h_r, h_z = jnp.split(h @ w[: 2 * size].T + b[: 2 * size], 2, -1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + (r * h) @ w[2 * size :].T + b[2 * size :])
        h = n + z * (h - n)
        return h, h

    def mgu(p: dict, h: Any, x: Any) -> tuple:
        f = sigmoid(affine(p, "forget", jnp.concatenate([x, h], -1)))
        n = jnp.tanh(affine(p, "candidate", jnp.concatenate([x, f * h], -1)))
        h = (1 - f) * h + f * n
        return h, h

    def cfn(p: dict, h: Any, x: Any) -> tuple:
        forget = sigmoid(affine(p, "of_h_forget", h) + affine(p, "of_x_forget", x))
        let_in = sigmoid(affine(p, "of_h_input", h) + affine(p, "of_x_input", x))
        h = forget * jnp.tanh(h) + let_in * jnp.tanh(affine(p, "content", x))
        return h, h

    return {f.__name__: f for f in (elman, lstm, residual, gru, gru_before, mgu, cfn)}


def jaxs(cell: str, size: tuple, dtype: Any) -> Callable[[], list]:
    import jax
    import jax.numpy as jnp

    module, x, g = given(cell, size, dtype)
    step = jax_cells()[cell]
    parameters = {name: jnp.asarray(p.numpy()) for name, p in module.named_parameters()}
    x, g = jnp.asarray(x), jnp.asarray(g)
    zeros = jnp.zeros(g.shape[1:], g.dtype)
    state = (zeros, zeros) if cell in ("lstm", "residual") else zeros

    def loss(x: Any, p: dict) -> Any:
        _, ys = jax.lax.scan(lambda state, x: step(p, state, x), state, x)
        return jnp.sum(ys * g)

    gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def run() -> list:
        _, (dx, d) = jax.block_until_ready(gradients(x, parameters))
        return [dx, *[d[name] for name in parameters]]

    return run


RUNS: dict[str, Callable] = {
    "tape": lambda *args: ours(False, *args),
    "numpy": lambda *args: ours("numpy", *args),
    "numba": lambda *args: ours("numba", *args),
    "torch": torchs,
    "jax": jaxs,
}


if __name__ == "__main__":
    sys.exit(main())
