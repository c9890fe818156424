"""``python -m examples.lectures``: it runs the scripts of the lectures' figures, and says what goes wrong."""

from __future__ import annotations

import ast
import codeop
import importlib
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_rnn as tg
from examples.lectures import blocks
from tinygrad_rnn import nn

ROOT = Path(__file__).parent.parent
LECTURES = ROOT / "examples" / "lectures"
PNG = b"\x89PNG\r\n\x1a\n"

FINE = """
import matplotlib, matplotlib.pyplot as plt
from beside import WIDTH
for _ in range(2):
    plt.figure()
    plt.plot([1, 2])
assert matplotlib.rcParams["lines.linewidth"] == matplotlib.rcParamsDefault["lines.linewidth"]
matplotlib.rcParams["lines.linewidth"] = WIDTH
"""


def lectures(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "examples.lectures", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=cwd)


@pytest.fixture
def main():
    pytest.importorskip("matplotlib")
    runner = pytest.importorskip("examples.lectures.__main__")
    yield runner.main
    import matplotlib.pyplot as plt

    plt.close("all")
    plt.rcdefaults()


@pytest.fixture
def folder(tmp_path):
    """Scripts of our own, one module beside them, and one file that is no figure's."""
    made = tmp_path / "scripts"
    made.mkdir()
    for name, text in {"plot_b": FINE, "plot_a": FINE, "beside": "WIDTH = 9", "plot_none": "", "plot_bad": "1 / 0",
                       "plot_left": "raise SystemExit(3)"}.items():  # fmt: skip
        (made / f"{name}.py").write_text(text, encoding="utf-8")
    return made


def test_it_is_a_program_that_saves_figures_and_says_where(tmp_path):
    pytest.importorskip("matplotlib")
    done = lectures("plot_unrolled.py", "unrolled", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    *_, last = done.stdout.splitlines()
    path, seconds, unit = last.split()
    assert Path(path) == Path("runs/lectures/unrolled.png") and float(seconds) > 0 and unit == "s"
    assert (tmp_path / path).read_bytes().startswith(PNG)
    assert len(list((tmp_path / "runs/lectures").iterdir())) == 1


def test_a_name_that_is_unknown_is_an_error_that_lists_the_known(tmp_path):
    done = lectures("unrolled", "nonsense", cwd=tmp_path)
    assert done.returncode == 1 and not done.stdout and not list(tmp_path.iterdir())
    first, *known = done.stderr.splitlines()
    assert first == "NAME: there is no nonsense; there are:"
    assert [name.strip() for name in known] == sorted(p.stem.removeprefix("plot_") for p in LECTURES.glob("plot_*.py"))


def test_the_list_is_that_of_the_scripts(main, folder, capsys):
    assert main(["--list"], folder) == 0
    assert capsys.readouterr().out.split() == ["a", "b", "bad", "left", "none"]
    assert main(["--list", "b"], folder) == 0
    assert capsys.readouterr().out.split() == ["b"]


def test_figures_are_numbered_and_each_script_begins_afresh(main, folder, tmp_path, capsys):
    import matplotlib.pyplot as plt

    plt.figure()  # of somebody else
    assert main(["b", "a", "--out", str(tmp_path / "out")], folder) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "a_2.png", "b.png", "b_2.png"]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'out' / 'b.png'}, {tmp_path / 'out' / 'b_2.png'}  ") and "a.png" in second
    assert str(folder) not in sys.path
    sys.modules.pop("beside")


def test_a_script_that_fails_is_named_and_the_others_run(main, folder, tmp_path, capsys):
    assert main(["bad", "none", "a", "--out", str(tmp_path / "out")], folder) == 1
    out, err = capsys.readouterr()
    assert "ZeroDivisionError" in err and "plot_none.py left no figure" in err
    assert err.splitlines()[-1] == "failed: bad, none" and len(out.splitlines()) == 1
    assert (tmp_path / "out" / "a_2.png").exists() and not (tmp_path / "out" / "bad.png").exists()
    sys.modules.pop("beside")


def test_a_script_that_exits_has_failed(main, folder, tmp_path, capsys):
    assert main(["left", "--out", str(tmp_path / "out")], folder) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "failed: left"


BLOCKS = '''
"""
A title
=======
"""
from __future__ import annotations
import matplotlib.pyplot as plt
import numpy as np

# %%
# Computed here,
y = np.arange(3)
def late(x: undefined): return x

# %%
# drawn there.
figure, axes = plt.subplots(1, 2)
for ax in axes:
    ax.plot(y)
'''


@pytest.fixture
def script(tmp_path):
    """Writes a script that goes on with the text given, and names it."""
    pytest.importorskip("matplotlib")

    def write(after: str) -> Path:
        path = tmp_path / "plot_blocks.py"
        path.write_text(BLOCKS.lstrip() + after, encoding="utf-8")
        return path

    return write


def test_blocks_share_names_and_their_figures_are_taken(script):
    import matplotlib.pyplot as plt

    main, path = sys.modules["__main__"], sys.path.copy()
    figures = blocks.run(script("""
# %%
assert not plt.get_fignums() and late(y) is y and __name__ == "__main__"
def early(x: undefined_too): ...
plt.figure()
plt.text(0, 0, "words are something, too")
plt.figure()
plt.imshow([[1]])
"""))  # fmt: skip
    assert [len(figure.axes) for figure in figures] == [2, 1, 1] and not plt.get_fignums()
    assert sys.modules["__main__"] is main and sys.path == path


WOULD_BE_LOST = [
    ("plt.subplots(2, 2)[1][0, 1].plot(y)", "line 14: nothing is drawn on axes 1, 3, 4 of its figure 2;"),
    ("plt.figure()", "line 14: nothing is drawn on its figure 2;"),
    ("# %%\naxes[0].plot(y)", "line 19: it draws into the figure of an earlier block"),
    ("# %%\naxes[1].set_title('late')\n# %%\ny", "line 19: it draws into the figure of an earlier block"),
    ("#%%\naxes[0].lines[0].set_color('C1')", "line 19: it draws into the figure of an earlier block"),
]


@pytest.mark.parametrize(("after", "error"), WOULD_BE_LOST)
def test_what_no_reader_would_see_is_an_error(script, after, error):
    with pytest.raises(RuntimeError, match=f"^plot_blocks.py, the block at {error}"):
        blocks.run(script(after))


def test_tracebacks_have_the_lines_of_the_file(script):
    with pytest.raises(ZeroDivisionError) as caught:
        blocks.run(script("\n# %%\n\n1 / 0"))
    assert (caught.traceback[-1].lineno + 1, Path(caught.traceback[-1].path).name) == (22, "plot_blocks.py")


@pytest.mark.parametrize("path", sorted(LECTURES.glob("plot_*.py")), ids=lambda path: path.stem)
def test_blocks_are_those_of_the_gallery(path):
    """Each statement is in the same block here and there (where the docstring is a block of its own)."""
    parser = pytest.importorskip("sphinx_gallery.py_source_parser")
    theirs = [[block.lineno - 1 + statement.lineno for statement in ast.parse(block.content).body]
              for block in parser.split_code_and_text_blocks(path)[1] if block.type == "code"]  # fmt: skip
    (_, first), *others = blocks.blocks(path)
    ours = [[statement.lineno for statement in body] for body in (first.body[1:], *(code.body for _, code in others))]
    assert [lines for lines in ours if lines] == theirs


@pytest.mark.parametrize(("after", "error"), [("", None), *WOULD_BE_LOST])
def test_the_book_fails_where_a_reader_would_see_nothing(script, tmp_path, monkeypatch, after, error):
    """What the gallery calls after each block saves the figures, or names the script and the block."""
    import matplotlib.pyplot as plt

    scrapers = pytest.importorskip("sphinx_gallery.scrapers")
    monkeypatch.syspath_prepend(ROOT / "docs")
    monkeypatch.delitem(sys.modules, "book", raising=False)
    book, path, names = importlib.import_module("book"), script(after), {}
    monkeypatch.delitem(sys.modules, "book")
    images = scrapers.ImagePathIterator(str(tmp_path / "image_{0}.png"))
    about = {"src_file": str(path), "image_path_iterator": images, "execute_script": True}
    options = {"image_srcset": [], "matplotlib_animations": (False,), "compress_images": (), "src_dir": str(tmp_path)}

    compiled = codeop.Compile()

    def build():
        for line, code in blocks.blocks(path):
            exec(compiled(code, str(path), "exec"), names)
            book.figures(SimpleNamespace(lineno=line), about, options)

    if error is None:
        build()
        assert [p.name for p in tmp_path.glob("*.png")] == ["image_1.png"]
    else:
        with pytest.raises(RuntimeError, match=f"^plot_blocks.py, the block at {error}"):
            build()
    assert not plt.get_fignums()


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.syspath_prepend(LECTURES)
    yield importlib.import_module("lecture_graphs")
    sys.modules.pop("lecture_graphs")


def test_paths_are_counted_as_combinatorics_has_it(graphs):
    """Through L layers and T steps there are T + L - 1 states, and as many paths as ways to place the L - 1 ascents."""
    time, layers = 7, 3
    xs = [tg.tensor(np.ones((1, 1)), requires_grad=True) for _ in range(time)]
    ys, _ = nn.Recurrent([graphs.CountingCell() for _ in range(layers)])(tg.stack(xs))
    for t in range(time):
        for s, found in enumerate(graphs.paths(ys[t], xs)):
            lag = t - s
            assert found == (None if lag < 0 else (lag + layers, math.comb(lag + layers - 1, layers - 1)))


def test_edges_are_paths_of_one_step(graphs):
    xs = {f"x{t}": tg.tensor(np.ones((1, 1)), requires_grad=True) for t in range(5)}
    with nn.watching() as seen:
        nn.scan(nn.Dilated(graphs.CountingCell(), 2), tg.stack(list(xs.values())))
    found = graphs.edges(xs | {f"h{t}": h for t, h in enumerate(seen["h"])})
    assert set(found) == {(f"x{t}", f"h{t}") for t in range(5)} | {(f"h{t}", f"h{t + 2}") for t in range(3)}
    assert len(found) == 8


@pytest.mark.slow
def test_all_scripts_run(main, tmp_path):
    assert main(["--out", str(tmp_path)]) == 0
    assert {path.stem.removeprefix("plot_") for path in LECTURES.glob("plot_*.py")} <= {
        p.stem for p in tmp_path.iterdir()
    }


@pytest.mark.parametrize("path", sorted(LECTURES.glob("plot_*.py")), ids=lambda path: path.stem)
def test_scripts_are_made_for_the_gallery(path):
    """A title in the docstring, no figure saved or shown, and nothing that is drawn in the colour of a page."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    title, line, empty, *_ = ast.get_docstring(tree).splitlines()
    assert set(line) == {"="} and len(line) >= len(title) and not empty
    calls = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
    assert not calls & {"savefig", "show"}
    keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg]
    colors = {getattr(word.value, "value", None) for word in keywords if word.arg == "c" or "color" in word.arg}
    assert not colors & {"k", "black", "w", "white"}
