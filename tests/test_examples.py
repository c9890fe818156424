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
