"""The examples, in a small size: they run, they can be stopped, and go on as if they had not been."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def digits():
    for package in ("sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(package)
    return example("sequential_digits")


def weights(folder, name):
    saved = tg.load(folder / f"{name}-checkpoint.npz")
    del saved["run"]["seconds"]
    return saved


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


def test_sequential_digits_runs_as_a_program(tmp_path):
    for package in ("sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(package)
    command = [sys.executable, EXAMPLES / "sequential_digits.py", "--smoke", "--permuted", "--out", tmp_path / "runs"]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("lstm", "gru", "irnn", "logistic regression", "most frequent digit"):
        assert words in done.stdout
    assert (tmp_path / "runs" / "digits.png").stat().st_size > 10_000


def test_sequential_digits_learns_and_measures(digits, tmp_path):
    (run,) = digits.main(["--smoke", "--cell", "gru", "--epochs", "2", "--out", str(tmp_path)])
    assert run.parameters == 3 * (8 * (1 + 8) + 2 * 8) + 10 * 9
    assert len(run.accuracy) == 2 and run.before.shape == run.after.shape == (64,)
    assert (run.before > 0).all() and run.before[0] < run.before[-1]  # at first, the gradient vanishes
    best = tg.load(tmp_path / "gru-best.npz")
    assert best["cell.weight_hh"].shape == (24, 8) and best["cell.weight_hh"].dtype == np.float32


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(digits, tmp_path, monkeypatch, capsys, stop):
    common = ["--smoke", "--cell", "lstm", "--cell", "rnn", "--out"]
    digits.main([*common, str(tmp_path / "whole")])

    epochs, original = itertools.count(), digits.accuracy

    def stopping(*arguments):
        if next(epochs) == stop:  # in the first cell's second or third epoch, after its steps
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(digits, "accuracy", stopping)
    (run,) = digits.main([*common, str(tmp_path / "halves")])
    assert len(run.accuracy) == stop and "Stopped" in capsys.readouterr().out
    assert (tmp_path / "halves" / "digits.png").exists()
    monkeypatch.undo()
    digits.main([*common, str(tmp_path / "halves"), "--resume"])
    for name in ("lstm", "rnn"):
        assert equal(weights(tmp_path / "whole", name), weights(tmp_path / "halves", name))
        whole, halves = (tg.load(tmp_path / part / f"{name}-best.npz") for part in ("whole", "halves"))
        assert equal(whole, halves)
    again = digits.main([*common, str(tmp_path / "halves"), "--resume"])  # all is done: only the table and the figure
    assert [len(run.accuracy) for run in again] == [3, 3]


def test_a_run_is_not_resumed_with_other_settings(digits, tmp_path):
    digits.main(["--smoke", "--cell", "rnn", "--epochs", "1", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="was made with other settings"):
        digits.main(["--smoke", "--cell", "rnn", "--epochs", "1", "--lr", "0.5", "--resume", "--out", str(tmp_path)])


def test_stopped_before_anything_was_learnt(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(digits, "accuracy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert digits.main(["--smoke", "--out", str(tmp_path)]) == []
    assert not (tmp_path / "digits.png").exists()


# The others --------------------------------------------------------------------------------------------------------

OTHERS = {  # the figure that each leaves; or, without one, the table
    "bptt": "bptt.png",
    "compiled_loop": "compiled_loop.png",
    "five_modes": "table.txt",
    "own_cell": "table.txt",
    "timescales": "timescales.png",
    "vanishing": "vanishing.png",
    "write_your_own": "table.txt",
}


def test_all_examples_are_run_here_and_listed():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {*OTHERS, "sequential_digits"}
    listed = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    assert all(f"python examples/{name}.py" in listed for name in names)


@pytest.mark.parametrize("name", OTHERS)
def test_an_example_runs_as_a_program(tmp_path, name):
    if OTHERS[name].endswith(".png"):
        pytest.importorskip("matplotlib")
    command = [sys.executable, EXAMPLES / f"{name}.py", "--smoke", "--out", tmp_path / "runs"]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not done.stderr and len(done.stdout.splitlines()) > 5
    made = tmp_path / "runs" / OTHERS[name]
    if made.suffix == ".png":
        assert made.stat().st_size > 10_000
    else:
        assert done.stdout.startswith(made.read_text(encoding="utf-8"))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # it leaves nothing elsewhere


def test_five_modes_run_free_and_with_a_teacher(tmp_path):
    modes = example("five_modes")
    for language, inputs, outputs in (
        (modes.successor, 1, 1), (modes.countdown, 10, 10), (modes.ones, 9, 1), (modes.running_maximum, 12, 12),
        (modes.translation, 8, 8),
    ):  # fmt: skip
        x, y = language(np.random.default_rng(0), 5)
        assert (x.shape, y.shape) == ((inputs, 5), (outputs, 5))
    model = modes.Translator(8, np.random.default_rng(0))
    alone = model(x).numpy()
    said = alone.argmax(axis=-1)  # a teacher who says just what it says itself changes nothing
    np.testing.assert_allclose(model(x, said).numpy(), alone, rtol=1e-5, atol=1e-6)
    told = model(x, np.roll(said, 1, axis=-1)).numpy()
    assert np.array_equal(told[0], model(x, said).numpy()[0])  # the first step hears nobody


def doubled(module):
    """The module, its parameters in float64."""
    for part in module.modules():
        for name, p in vars(part).items():
            if isinstance(p, tg.nn.Parameter):
                setattr(part, name, tg.nn.Parameter(p.data.astype(np.float64)))
    return module


def scanned(cell):
    def f(x, weights):
        with cell.replaced(weights):
            return tg.scan(cell, x)[0]

    return f


def test_own_cell_needs_no_derivative_and_padding_touches_nothing(tmp_path):
    own = example("own_cell")
    cell = doubled(own.MinimalGatedCell(2, 3, rng=0))
    x = np.random.default_rng(0).standard_normal((4, 2, 2))
    tg.check_gradients(scanned(cell), x, dict(cell.named_parameters()), order=2)
    x, tags, lengths = own.peaks(np.random.default_rng(0), 7, 20)
    assert np.isnan(x).any() and (tags[1] == ((x[1] > x[0]) & (x[1] > x[2]))[..., 0]).all()
    hs, _ = own.network(4, True, np.random.default_rng(0)).eval()(x, lengths=lengths)
    assert np.isfinite(hs.numpy()).all()


@pytest.mark.parametrize("name", ["IndRNNCell", "MinGRUCell", "LRUCell", "OrthogonalCell"])
def test_cells_that_are_written_by_the_reader(name):
    rng = np.random.default_rng(0)
    cell = doubled(getattr(example("write_your_own"), name)(3, 4, rng=0))
    for p in cell.parameters():  # some are at first where a rule has a kink
        p.data = p.data + 0.1 * rng.standard_normal(p.shape)
    x = rng.standard_normal((5, 2, 3))
    if name == "OrthogonalCell":
        _, (_, W) = tg.scan(cell, x)
        np.testing.assert_allclose(W.numpy() @ W.numpy().T, np.eye(4), atol=1e-12)
    tg.check_gradients(scanned(cell), x, dict(cell.named_parameters()))
    ys, _ = tg.scan(cell, x, lengths=np.array([5, 2]))
    alone, _ = tg.scan(cell, x[:2, 1:])
    np.testing.assert_allclose(ys[:2, 1:].numpy(), alone.numpy(), rtol=1e-12)


@pytest.mark.parametrize("around", ["all_in_the_loop", "nullcontext"])
def test_a_loop_that_is_compiled_with_and_without_passes(around):
    compiled = example("compiled_loop")
    cell, x = doubled(compiled.CoupledCell(3, 4, rng=0)), np.random.default_rng(0).standard_normal((6, 2, 3))
    expected = tg.gradients(tg.scan(cell, x, compiled=False)[0].sum(), list(cell.parameters()))
    with getattr(compiled, around)():
        program = compiled.scanning.program_of(cell, x, backend="numpy")
        found = tg.gradients(tg.scan(cell, x, compiled="numpy")[0].sum(), list(cell.parameters()))
    before, _ = program.backward_source.split("for t in")
    assert ("np.multiply(" in before) == (around == "nullcontext")  # what waits for nothing is computed before the loop
    for g, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-12)


def test_adding_is_the_sum_of_two_marked_numbers():
    x, y = example("write_your_own").adding(np.random.default_rng(0), 6, 10)
    assert (x[..., 1].sum(axis=0) == 2).all() and (x[:5, :, 1].sum(axis=0) == 1).all()
    np.testing.assert_allclose(y, np.where(x[..., 1] == 1, x[..., 0], 0).sum(axis=0), rtol=1e-6)


def test_vanishing_powers_and_sizes(tmp_path):
    vanishing = example("vanishing")
    powers = [vanishing.power(w, n) for w in (1.1, 0.9) for n in (50, 49)]
    np.testing.assert_allclose(powers, [117.39, 106.72, 0.0051538, 0.0057264], rtol=1e-4)
    cell = tg.nn.RNNCell(4, vanishing.HIDDEN, nonlinearity="linear", bias=False, rng=0)
    found = vanishing.sizes(cell, np.ones((4, 4), np.float32))
    W = cell.weight_hh.numpy().astype(np.float64)
    known = [np.linalg.norm(np.linalg.matrix_power(W, n)) / vanishing.HIDDEN**0.5 for n in (3, 2, 1, 0)]
    np.testing.assert_allclose(found, known, rtol=1e-4)


def test_leaky_units_remember_what_is_known(tmp_path):
    pytest.importorskip("matplotlib")
    found = example("timescales").main(["--smoke", "--out", str(tmp_path)])
    for a in (0.5, 0.1, 0.02):
        response, gradient = found[f"leaky, a = {a}"]
        np.testing.assert_allclose(gradient / gradient[0], (1 - a) ** np.arange(30), rtol=1e-4)
        np.testing.assert_allclose(response[5] / response[0], (1 - a) ** 5, rtol=1e-4)
