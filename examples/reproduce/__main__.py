"""Published results of recurrent networks, reproduced: a table of what was published, and of what comes out here.

    python -m examples.reproduce                              # all of it: hours
    python -m examples.reproduce --only 2a --seeds 3          # those whose names begin so, three seeds each
    python -m examples.reproduce --jobs 4                     # side by side, in 4 processes (joblib)
    python -m examples.reproduce --backend dask               # on the cluster of $DASK_SCHEDULER_ADDRESS; or ray
    python -m examples.reproduce --small                      # seconds: to see that it works
    python -m examples.reproduce --finished                   # nothing is run: the table of what is finished so far

What is finished is kept in runs/reproduce/results.jsonl, and not run again: after Ctrl-C, the same command goes on. The
table goes into docs/results.md, the figures beside it (with --small: into the folder of the runs). Needs matplotlib,
tqdm, scikit-learn and joblib: pip install 'tinygrad_rnn[reproduce]'; it is faster with 'tinygrad_rnn[fast]'.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from . import digits, longlag, series, text
from .sweep import Experiment, about, run_all, table, write_between

MODULES = (
    longlag,
    series,
    digits,
    text,
)  # each with a list EXPERIMENTS, and a function draw(lines, folder) that returns paths of figures


def chosen(only: list[str] | None) -> list[Experiment]:
    """Those of these names, or whose names begin so, in the order of the modules."""
    every = [e for module in MODULES for e in module.EXPERIMENTS]
    names = {e.name for e in every}
    for name in only or ():
        if not any(known.startswith(name) for known in names):
            raise SystemExit(f"--only {name}: there is none of this name; there are:\n" + listed(every))
    fits = [(lambda e, n=name: e.name == n if n in names else e.name.startswith(n)) for name in only or [""]]
    return [e for e in every if any(fit(e) for fit in fits)]


def listed(experiments: list[Experiment]) -> str:
    return "\n".join(f"  {e.name:<24} {e.task}" for e in experiments)


def main(arguments: list[str] | None = None) -> Path | None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     prog="python -m examples.reproduce")  # fmt: skip
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="may be repeated; the beginning of a name is enough"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="0 ... N-1; by default what each experiment needs")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="how many runs at a time")
    parser.add_argument("--backend", choices=["loky", "dask", "ray"], default="loky", help="of joblib")
    parser.add_argument("--small", action="store_true", help="tiny runs, which reproduce nothing")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--finished", action="store_true", help="run nothing: the table of what is finished so far")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="folder for what is finished")
    parser.add_argument("--table", type=Path, help="file for the table; default docs/results.md")
    options = parser.parse_args(arguments)
    experiments = chosen(options.only)
    if options.list:
        print(listed(experiments))
        return None
    path = options.table or (options.out / "results.md" if options.small else Path("docs/results.md"))
    try:
        lines = run_all(experiments, options.seeds, options.out, options.small, options.jobs, options.backend,
                        options.finished)  # fmt: skip
    except KeyboardInterrupt:
        raise SystemExit("\nStopped; the same command goes on.") from None
    folder = path.parent / "figures"
    figures = [figure for module in MODULES for figure in module.draw(lines, folder)]
    command = "python -m examples.reproduce " + shlex.join(sys.argv[1:] if arguments is None else arguments)
    text = f"{about(command.strip(), lines)}\n{table(experiments, lines)}"
    text += "".join(f"\n![{figure.stem}](figures/{figure.name})\n" for figure in figures)
    write_between(path, text)
    print(f"\n{table(experiments, lines)}\nTable: {path}")
    return path


if __name__ == "__main__":
    main()
