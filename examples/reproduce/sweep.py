"""A sweep: experiments, each with several seeds, run side by side; what is finished is kept, so that it can be resumed.

An :class:`Experiment` is a published figure, and a function ``run(seed, small)`` that tries to reach it. Every
(experiment, seed) that is finished is a line of JSON in ``results.jsonl``; the table is made of these lines, whenever
they were written.
"""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tinygrad_rnn.config import processor

Figures = dict[str, Any]  # what came of one run: numbers, or lists of them (curves)


@dataclass(frozen=True, eq=False)
class Experiment:
    """A published figure, and how it is tried to reach.

    Attributes:
        name: unique, such as ``"2a-p100-lstm"``; with ``--only`` its beginning is enough.
        task: what is in the first column of the table.
        published: the figure, and its source.
        target: what is to be reached, in words.
        run: ``run(seed, small, **settings)``, a function of a module (so that another process finds it), which returns
            figures; small: in seconds, only to see that it works.
        ours: from the figures of all seeds, what is in the table.
        met: from the same, whether the target was met; None: there is none to meet.
        settings: hyperparameters, handed to run. They are kept with the results: those of other settings do not count.
        seeds: how many, if ``--seeds`` says nothing.
    """

    name: str
    task: str
    published: str
    target: str
    run: Callable[..., Figures]
    ours: Callable[[list[Figures]], str]
    met: Callable[[list[Figures]], bool] | None = None
    settings: Any = None
    seeds: int = 10

    def key(self, seed: int, small: bool) -> str:
        """What a line of the results belongs to."""
        return json.dumps([self.name, seed, small, self.settings or {}], sort_keys=True)


def run_all(experiments: list[Experiment], seeds: int | None, folder: Path, small: bool = False, jobs: int = 1,
            backend: str = "loky", finished: bool = False) -> dict[str, list[dict]]:  # fmt: skip
    """Run what is not yet in the folder, and return the lines of these experiments, by name, in the order of seeds.

    finished: run nothing, and return what there is.
    """
    wanted = [(e, seed) for e in experiments for seed in range(e.seeds if seeds is None else seeds)]
    path, done = folder / "results.jsonl", read(folder / "results.jsonl")
    todo = [(e, seed) for e, seed in wanted if e.key(seed, small) not in done and not finished]
    print(f"{len(wanted)} runs, of which {sum(e.key(seed, small) in done for e, seed in wanted)} are in {path}")
    folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(todo), unit="run", disable=not todo) as bar:
        for line in spread([(e, seed, small) for e, seed in todo], jobs, backend):
            done[line["key"]] = line
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            bar.set_description(f"{line['experiment']}, seed {line['seed']}")
            bar.update()
    lines: dict[str, list[dict]] = {e.name: [] for e in experiments}
    for e, seed in wanted:
        if (line := done.get(e.key(seed, small))) is not None:
            lines[e.name].append(line)
    return lines


def read(path: Path) -> dict[str, dict]:
    """The lines of a file of results, by key. One that was cut off, as the process was ended while writing, is left
    out."""
    lines = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            print(f"{path}: a line was cut off, and is left out: {text[:60]}...")
            continue
        lines[line["key"]] = line
    if path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    return lines


def timed(e: Experiment, seed: int, small: bool) -> dict:
    """One run, as a line of the results."""
    start = time.perf_counter()
    figures = e.run(seed, small, **(e.settings or {}))
    return {
        "key": e.key(seed, small), "experiment": e.name, "seed": seed, "small": small, "settings": e.settings or {},
        "seconds": round(time.perf_counter() - start, 3), "date": datetime.date.today().isoformat(),
        "processor": processor(), "figures": plain(figures),
    }  # fmt: skip


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays as what JSON has."""
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def spread(runs: list[tuple], jobs: int, backend: str) -> Iterator[dict]:
    """The lines of these runs, as they come: here, one after another, or over processes, or a cluster, by joblib."""
    if backend == "loky" and jobs == 1:
        yield from (timed(*run) for run in runs)
        return
    try:
        import joblib

        client = cluster(backend)
    except ImportError as error:
        raise SystemExit(f"--jobs, --backend {backend}: {error}: pip install 'tinygrad_rnn[reproduce]', and for a "
                         "cluster distributed, or ray") from None  # fmt: skip
    threads = {"inner_max_num_threads": 1} if backend == "loky" else {}
    with client, joblib.parallel_config(backend, n_jobs=-1 if backend == "dask" else jobs, **threads):
        yield from in_parallel(joblib, runs, jobs)


def in_parallel(joblib: Any, runs: list[tuple], jobs: int) -> Iterator[dict]:
    """As they come, if the backend can; else, a few at a time."""
    try:
        parallel, at_once = joblib.Parallel(return_as="generator_unordered", batch_size=1), len(runs)
    except ValueError:
        parallel, at_once = joblib.Parallel(batch_size=1), jobs if jobs > 0 else 64
    for begin in range(0, len(runs), max(at_once, 1)):
        yield from parallel(joblib.delayed(timed)(*run) for run in runs[begin : begin + at_once])


def cluster(backend: str) -> AbstractContextManager:
    """What a backend needs. Dask: a cluster, that of $DASK_SCHEDULER_ADDRESS, or one on this machine."""
    if backend == "dask":
        from distributed import Client

        return Client()
    if backend == "ray":
        from ray.util.joblib import register_ray

        register_ray()
    return nullcontext()


# The table ------------------------------------------------------------------------------------------------------------

HEADER = ["Task", "Published", "Target", "Ours", "Seeds", "Time of a run", "Met"]


def table(experiments: Iterable[Experiment], lines: dict[str, list[dict]]) -> str:
    """The results in Markdown: one row for each experiment."""
    rows = [HEADER, ["---"] * len(HEADER)]
    for e in experiments:
        if not (found := lines.get(e.name)):
            continue
        figures = [line["figures"] for line in found]
        met = "" if e.met is None else "yes" if e.met(figures) else "**no**"
        seconds = duration(statistics.median(line["seconds"] for line in found))
        rows.append([f"{e.task} (`{e.name}`)", e.published, e.target, e.ours(figures), str(len(found)), seconds, met])
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def about(command: str, lines: dict[str, list[dict]]) -> str:
    """With which command the table was made, when, and on what."""
    import tinygrad_rnn as tg

    dates = sorted({line["date"] for found in lines.values() for line in found})
    machines = sorted({line["processor"] for found in lines.values() for line in found})
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    system = f"{platform.system()}, Python {platform.python_version()}, NumPy {np.__version__}, tinygrad_rnn"
    return (
        f"Command: `{command}`. Runs of {days}, on {', '.join(machines)}; one core a run.\n"
        f"{system} {tg.__version__}. Seeds are 0, 1, 2, ...\n"
    )


BEGIN, END = "<!-- results: written by python -m examples.reproduce -->", "<!-- end of results -->"


def write_between(path: Path, text: str) -> None:
    """Put text between the two markers of a file; a new one gets them, and a title."""
    old = path.read_text(encoding="utf-8") if path.exists() else f"# Published results, reproduced\n\n{BEGIN}\n{END}\n"
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise SystemExit(f"{path}: expected the lines {BEGIN!r} and {END!r}, once each, in this order: the table comes "
                         "between them")  # fmt: skip
    before, _, rest = old.partition(BEGIN)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


# What experiments have in common --------------------------------------------------------------------------------------


def count(values: Iterable[Any]) -> int:
    return sum(bool(value) for value in values)


def median_of(figures: list[Figures], name: str) -> float:
    return statistics.median(f[name] for f in figures)


def progress(total: int, name: str, seed: int) -> tqdm:
    """A bar for one long run; it goes when the run is over. (Silent in other processes than the first.)"""
    return tqdm(total=total, desc=f"  {name}, seed {seed}", leave=False, disable=in_a_worker(), mininterval=1)


def in_a_worker() -> bool:
    import multiprocessing

    return multiprocessing.parent_process() is not None
