"""The lectures' figures, computed: runs the scripts of this folder, and saves the figures that they leave.

    python -m examples.lectures                        # all of them: a few seconds each
    python -m examples.lectures unrolled residual      # some
    python -m examples.lectures --list                 # what there is

A script, plot_NAME.py, is plain Python: it makes figures with matplotlib, and neither shows nor saves them. Each is run
as if it were alone, with matplotlib's own defaults, and its figures go to NAME.png, NAME_2.png, ... The book runs the
same scripts, and as here block by block (blocks.py). Needs matplotlib: pip install 'tinygrad_rnn[examples]'.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

from .blocks import run

HERE = Path(__file__).parent


def scripts(folder: Path = HERE) -> dict[str, Path]:
    """The scripts, by name."""
    return {path.stem.removeprefix("plot_"): path for path in sorted(folder.glob("plot_*.py"))}


def chosen(names: list[str], known: dict[str, Path]) -> dict[str, Path]:
    """Those of these names, each once; all, if there are none."""
    wanted = [name.removesuffix(".py").removeprefix("plot_") for name in names]
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"NAME: there is no {', '.join(unknown)}; there are:\n" + "\n".join(f"  {n}" for n in known))
    return {name: known[name] for name in wanted or known}


def save(figures: list, name: str, out: Path) -> list[Path]:
    """The figures as NAME.png, NAME_2.png, ..."""
    paths = [out / (f"{name}_{i}.png" if i > 1 else f"{name}.png") for i in range(1, len(figures) + 1)]
    for figure, path in zip(figures, paths):
        figure.savefig(path, dpi=130)
    return paths


def main(arguments: list[str] | None = None, folder: Path = HERE) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     prog="python -m examples.lectures")  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; by default all")
    parser.add_argument("--out", type=Path, default=Path("runs/lectures"), help="folder for the figures")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    options = parser.parse_args(arguments)
    wanted = chosen(options.names, scripts(folder))
    if options.list:
        print("\n".join(wanted))
        return 0
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("the figures need matplotlib: pip install 'tinygrad_rnn[examples]'") from None
    matplotlib.use("Agg")
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, path in wanted.items():
        began = time.perf_counter()
        try:
            if not (figures := run(path)):
                raise RuntimeError(f"{path.name} left no figure")
            paths = save(figures, name, options.out)
        except (Exception, SystemExit):
            traceback.print_exc()
            failed.append(name)
            continue
        seconds = time.perf_counter() - began
        print(f"{', '.join(map(str, paths))}  {seconds:.1f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
