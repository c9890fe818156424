"""The sweep of published results: it runs in a small size, is resumed where it was stopped, and writes its table."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg

for package in ("tqdm", "matplotlib", "sklearn"):
    pytest.importorskip(package)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def place():
    """What ``python -m examples.reproduce`` finds, as it is run from the root of the repository."""
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture
def sweep():
    return importlib.import_module("examples.reproduce.sweep")


@pytest.fixture
def command():
    return importlib.import_module("examples.reproduce.__main__")


CALLS = []


def squares(seed, small, factor=1):
    """An experiment that takes no time."""
    CALLS.append(seed)
    if seed == 13:
        raise KeyboardInterrupt
    return {"value": factor * np.float64(seed**2), "curve": np.arange(2), "small": small}


@pytest.fixture
def experiment(sweep):
    CALLS.clear()

    def make(name="squares", **settings):
        return sweep.Experiment(name, "squares | of seeds", "0, 1, 4 (Euclid)", "at most 4", squares,
                                lambda figures: f"{max(f['value'] for f in figures):g}",
                                lambda figures: all(f["value"] <= 4 for f in figures), settings, seeds=3)  # fmt: skip

    return make


def test_runs_are_kept_and_not_run_again(sweep, experiment, tmp_path):
    lines = sweep.run_all([experiment()], None, tmp_path)
    assert [line["figures"]["value"] for line in lines["squares"]] == [0, 1, 4]
    assert lines["squares"][2]["figures"]["curve"] == [0, 1]
    again = sweep.run_all([experiment()], 5, tmp_path)
    assert CALLS == [0, 1, 2, 3, 4]
    assert again["squares"][:3] == lines["squares"]


def test_what_is_finished_so_far(sweep, experiment, tmp_path):
    sweep.run_all([experiment()], 2, tmp_path)
    lines = sweep.run_all([experiment(), experiment("others")], None, tmp_path, finished=True)
    assert CALLS == [0, 1]
    assert [line["seed"] for line in lines["squares"]] == [0, 1] and lines["others"] == []
    assert sweep.table([experiment(), experiment("others")], lines).count("\n") == 3


def test_other_settings_are_other_runs(sweep, experiment, tmp_path):
    sweep.run_all([experiment()], 2, tmp_path)
    other = sweep.run_all([experiment(factor=3)], 2, tmp_path)
    small = sweep.run_all([experiment()], 2, tmp_path, small=True)
    assert [line["figures"]["value"] for line in other["squares"]] == [0, 3]
    assert all(line["figures"]["small"] for line in small["squares"])
    assert CALLS == [0, 1] * 3


def test_a_sweep_that_was_stopped_goes_on(sweep, experiment, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweep.run_all([experiment()], 20, tmp_path)
    assert [*range(14)] == CALLS
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "cut of')  # by the power, in the middle of a line
    with pytest.raises(KeyboardInterrupt):
        sweep.run_all([experiment()], 20, tmp_path)
    assert [*range(14), 13] == CALLS
    sweep.run_all([experiment(factor=2)], 1, tmp_path)
    values = [json.loads(line)["figures"]["value"] for line in (tmp_path / "results.jsonl").read_text().splitlines()
              if not line.startswith('{"key": "cut of')]  # fmt: skip
    assert values == [seed**2 for seed in range(13)] + [0]


def test_side_by_side(sweep, tmp_path):
    """Other processes find the functions of the experiments by their modules."""
    pytest.importorskip("joblib")
    longlag = importlib.import_module("examples.reproduce.longlag")
    reber = next(e for e in longlag.EXPERIMENTS if e.name == "reber")
    here = sweep.run_all([reber], 2, tmp_path / "one", small=True)["reber"]
    there = sweep.run_all([reber], 2, tmp_path / "two", small=True, jobs=2)["reber"]
    assert [line["figures"] for line in here] == [line["figures"] for line in there]
    assert [line["seed"] for line in there] == [0, 1]


def test_the_table(sweep, experiment, tmp_path):
    experiments = [experiment(), experiment("others", factor=2)]
    lines = sweep.run_all(experiments, None, tmp_path)
    rows = sweep.table(experiments, lines).splitlines()
    assert len(rows) == 4
    assert rows[0] == "| Task | Published | Target | Ours | Seeds | Time of a run | Met |"
    assert rows[2].startswith("| squares &#124; of seeds (`squares`) | 0, 1, 4 (Euclid) | at most 4 | 4 | 3 |")
    assert rows[2].endswith("| yes |")
    assert rows[3].endswith("| **no** |")


def test_the_table_goes_between_its_markers(sweep, tmp_path):
    path = tmp_path / "docs" / "results.md"
    sweep.write_between(path, "first")
    path.write_text("Before\n" + path.read_text() + "After\n")
    sweep.write_between(path, "second")
    text = path.read_text()
    assert text.startswith("Before\n") and text.endswith("After\n")
    assert "second" in text and "first" not in text
    path.write_text("no markers")
    with pytest.raises(SystemExit, match="expected the lines"):
        sweep.write_between(path, "third")
    assert path.read_text() == "no markers"


def test_names_are_unique_and_settings_can_be_kept(command):
    every = command.chosen(None)
    assert len({e.name for e in every}) == len(every)
    for e in every:
        assert e.key(0, False) == e.key(0, False)
        assert e.seeds > 0 and e.published and e.task


def test_names_that_are_not_there(command):
    with pytest.raises(SystemExit, match=r"--only nothing: there is none of this name; there are:\n  .*2a"):
        command.main(["--only", "nothing", "--list"])


def test_the_list(command, capsys):
    def names(*arguments):
        assert command.main(["--list", *arguments]) is None
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()]

    assert names("--only", "reber") == ["reber"]
    assert names("--only", "rebe", "--only", "2c") == ["reber", "reber-1997", "2c"]
    assert names("--only", "pascanu-30") == ["pascanu-30-sgd", "pascanu-30-clip", "pascanu-30-regulariser"]
    assert set(names()) > {"reber", "adding", "6a", "copy-lstm"}


QUICK = ["table2-rtrl-p4-lr4", "table2-chunker", "table2-lstm", "reber", "2c", "3c", "6a", "copy-gru", "pascanu-30-reg"]


@pytest.mark.parametrize("name", QUICK)
def test_experiments_in_a_small_size(command, name, tmp_path, capsys):
    with tg.compiled(False):
        path = command.main(["--small", "--seeds", "1", "--only", name, "--out", str(tmp_path)])
    assert path == tmp_path / "results.md"
    found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert found and all(line["experiment"].startswith(name) and line["small"] for line in found)
    for line in found:
        assert f"(`{line['experiment']}`)" in path.read_text()
    assert "Command: `python -m examples.reproduce --small" in path.read_text()
    assert "--only" in path.read_text() and "Table:" in capsys.readouterr().out
    if any(line["figures"].get("curve") for line in found):
        assert (tmp_path / "figures" / "longlag.png").stat().st_size > 5000
        assert "](figures/longlag.png)" in path.read_text()
    if name.startswith("table2"):
        assert (tmp_path / "figures" / "table2.png").stat().st_size > 5000


@pytest.mark.slow
def test_all_experiments_in_a_small_size(command, tmp_path):
    command.main(["--small", "--seeds", "1", "--out", str(tmp_path)])


# Parts of the experiments, against what they stand for


def test_rtrl_within_a_scan_is_rtrl():
    """The sensitivities that are carried along give, with a rate of almost 0, the gradient of the whole sequence."""
    table2 = importlib.import_module("examples.reproduce.table2")
    rng, task, lr = np.random.default_rng(0), tg.tasks.NoiseFreeLag(5), 1e-7
    batch = task.batch(1, 1)
    V, w = table2.weights_of(rng, 1, 6)
    with tg.no_grad():
        xs = table2.rtrl_inputs(batch, 1)
        state = (V, w, np.zeros((1, 1)), np.zeros((1, 7)))
        _, (V_after, w_after, *_) = tg.scan(table2.rtrl_step(6, lr), xs, state)
    V, w = tg.tensor(V, requires_grad=True), tg.tensor(w, requires_grad=True)
    x, y = batch.x.astype(float), batch.y.astype(float)
    table2.squared(table2.outputs(x, table2.hidden_units(w, x), V), y).backward()
    np.testing.assert_allclose((V.data - np.asarray(V_after)) / lr, V.grad.data, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose((w.data - np.asarray(w_after)) / lr, w.grad.data, rtol=1e-4, atol=1e-7)


def test_the_nets_of_table_2_have_as_many_weights_as_the_paper_counts():
    table2 = importlib.import_module("examples.reproduce.table2")
    for p, count in (4, 36), (10, 144), (100, 10404):
        V, w = table2.weights_of(np.random.default_rng(0), 3, p + 1)
        assert V[0].size + w[0].size == count
