"""The tasks with long lags: against transcriptions of their definitions; their counts; their baselines, simulated."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import tasks

ALL = {
    "1": lambda: tasks.EmbeddedReber(rng=0),
    "2a": lambda: tasks.NoiseFreeLag(6),
    "2b": lambda: tasks.RandomLag(6),
    "2c": lambda: tasks.VeryLongLag(8, 5),
    "3a": lambda: tasks.TwoSequence(20, 3, "3a"),
    "3b": lambda: tasks.TwoSequence(20, 3, "3b"),
    "3c": lambda: tasks.TwoSequence(20, 3, "3c"),
    "4": lambda: tasks.Adding(40),
    "5": lambda: tasks.Multiplication(40),
    "6a": lambda: tasks.TemporalOrder(2),
    "6b": lambda: tasks.TemporalOrder(3),
    "order": lambda: tasks.PascanuTemporalOrder((20, 30)),
    "copy": lambda: tasks.CopyMemory(7),
}
every_task = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


def symbols_of(batch, b, length=None):
    """The symbols of one sequence, of one-hot inputs."""
    length = len(batch.x) if batch.lengths is None else batch.lengths[b]
    assert (batch.x[:length, b].sum(axis=-1) == 1).all()
    assert not batch.x[length:, b].any()
    return batch.x[:length, b].argmax(axis=-1)


# What all have in common


@every_task
def test_the_protocol(make):
    task = make()
    batch = task.batch(5, rng=1)
    time = len(batch.x)
    assert batch.x.shape == (time, 5, task.inputs)
    assert batch.x.dtype == np.float32
    assert batch.lengths is None or (batch.lengths.shape == (5,) and batch.lengths.max() == time)
    assert batch.mask is None or batch.mask.shape == (time, 5)
    ys = np.zeros((time, 5, task.outputs), np.float32)
    answers = batch.answers(ys)
    assert answers.shape[: 2 if batch.mask is not None else 1] == ((time, 5) if batch.mask is not None else (5,))
    wrong = task.wrong(answers, batch)
    assert (wrong.shape, wrong.dtype) == ((5,), bool)
    assert "rng" not in repr(task) and type(task).__name__ in repr(task)


@every_task
def test_seeds(make):
    task, generator = make(), np.random.default_rng(3)
    one, same, other = task.batch(7, rng=3), task.batch(7, rng=generator), task.batch(7, rng=generator)
    for a, b in zip(one, same):
        np.testing.assert_array_equal(a, b)
    assert one.x.shape != other.x.shape or (one.x != other.x).any()


@every_task
def test_online_one_sequence_at_a_time(make):
    batch = make().batch(1, rng=0)
    assert batch.x.shape[1] == 1
    assert batch.lengths is None or batch.lengths[0] == len(batch.x)


@every_task
def test_right_answers_are_right_and_those_that_are_no_numbers_wrong(make):
    task = make()
    batch = task.batch(20, rng=0)
    if isinstance(task, tasks.EmbeddedReber):
        answers = task.possible(batch).astype(float)
    elif batch.y.dtype.kind == "i":
        answers = (batch.y[..., None] == np.arange(task.outputs)).astype(float)
    elif getattr(task, "variant", "") == "3c":
        answers = np.where(batch.x[0] > 0, 0.2, 0.8)
    else:
        answers = batch.y
    assert not task.wrong(answers, batch).any()
    assert not task.wrong(tg.tensor(answers), batch).any()
    assert task.wrong(answers * np.nan, batch).all()


@every_task
def test_answers_of_another_shape_are_refused(make):
    task = make()
    batch = task.batch(3, rng=0)
    with pytest.raises(ValueError, match="answers: expected"):
        task.wrong(np.zeros((3, 77)), batch)
    with pytest.raises(ValueError, match=r"ys: expected outputs \(time, batch, ...\)"):
        batch.answers(np.zeros((3, len(batch.x), task.outputs)))


@every_task
@pytest.mark.parametrize("size", [0, -1, 2.5, "3", None])
def test_sizes(make, size):
    with pytest.raises(ValueError, match="size: expected a whole number, at least 1"):
        make().batch(size, rng=0)


def test_the_last_outputs_are_those_of_each_sequence():
    batch = tasks.Adding(40).batch(6, rng=0)
    ys = tg.tensor(np.random.default_rng(0).standard_normal((*batch.x.shape[:2], 1)), requires_grad=True)
    expected = [ys.data[n - 1, b] for b, n in enumerate(batch.lengths)]
    np.testing.assert_array_equal(batch.answers(ys).data, expected)
    batch.answers(ys).sum().backward()
    assert ys.grad.data.sum() == 6


def test_counting_goes_over_as_many_as_are_asked_for():
    task, seen = tasks.NoiseFreeLag(4), []

    def outputs(batch):
        seen.append(batch.x.shape[1])
        return batch.y + 0.3 * (np.arange(batch.y.shape[1]) % 2)[:, None]

    assert task.count_wrong(outputs, 70, rng=0, size=32) == 35
    assert seen == [32, 32, 6]
    assert not task.is_solved(outputs, rng=0)
    assert sum(seen) == 70 + task.tested
    assert task.is_solved(lambda batch: batch.y, rng=0)


# 1


def reber(string):
    """Whether it is one of Reber's grammar: a transcription of its graph as a list of edges."""
    edges = {(0, "T"): 1, (0, "P"): 2, (1, "S"): 1, (1, "X"): 3, (2, "T"): 2, (2, "V"): 4, (3, "X"): 2, (3, "S"): 5,
             (4, "P"): 3, (4, "V"): 5}  # fmt: skip
    node = 0
    for symbol in string[1:-1]:
        node = edges.get((node, symbol))
    return string[0] == "B" and string[-1] == "E" and node == 5


def test_strings_of_the_embedded_reber_grammar():
    task = tasks.EmbeddedReber(rng=5)
    assert (len(task.train), len(task.test)) == (256, 256)
    assert not set(task.train) & set(task.test)
    for string in task.train + task.test:
        assert string[0] == "B" and string[-1] == "E"
        assert string[1] == string[-2] and string[1] in "TP"
        assert reber(string[2:-2])
    assert {len(string) for string in task.train} >= {9, 10, 11}
    assert min(len(string) for string in task.train) == 9
    assert tasks.EmbeddedReber(rng=5).test == task.test


def test_each_way_is_taken_with_probability_one_half():
    task, rng = tasks.EmbeddedReber(rng=0, strings=1), np.random.default_rng(0)
    strings = [task.string(rng) for _ in range(4000)]
    assert abs(np.mean([s[1] == "T" for s in strings]) - 0.5) < 0.03
    shortest = np.mean([s in ("BTBTXSETE", "BTBPVVETE", "BPBTXSEPE", "BPBPVVEPE") for s in strings])
    assert abs(shortest - 1 / 4) < 0.03  # of each of the two inner ones: 1/2 · 1/2 · 1/2


def test_what_may_come_next():
    task = tasks.EmbeddedReber(rng=0)
    batch = task.batch_of(["BTBTXSETE", "BPBPVPXVVEPE"])
    possible = [
        ["".join(np.array(list(task.SYMBOLS))[p]) for p in steps] for steps in task.possible(batch).swapaxes(0, 1)
    ]
    assert possible[0] == ["TP", "B", "TP", "SX", "SX", "E", "T", "E", "", "", ""]
    assert possible[1] == ["TP", "B", "TP", "TV", "PV", "SX", "TV", "PV", "E", "P", "E"]
    assert batch.lengths.tolist() == [8, 11]
    assert "".join(task.SYMBOLS[i] for i in batch.y[:8, 0].argmax(-1)) == "TBTXSETE"


def test_a_net_without_the_second_symbol_is_wrong_in_half_of_the_strings():
    task = tasks.EmbeddedReber(rng=0)

    def outputs(batch):
        answers = task.possible(batch).astype(float)
        last = batch.lengths - 2, np.arange(len(batch.lengths))
        answers[last] = 0
        answers[(*last, task.SYMBOLS.index("T"))] = 1  # always T
        return answers

    strings = task.train + task.test
    assert task.count_wrong(outputs) == sum(s[1] == "P" for s in strings)
    assert abs(task.count_wrong(outputs) / task.tested - task.baseline) < 0.1
    assert task.count_wrong(task.possible) == 0


# 2


def test_2a():
    batch = tasks.NoiseFreeLag(10).batch(200, rng=0)
    assert batch.x.shape == batch.y.shape == (10, 200, 11)
    firsts = set()
    for b in range(200):
        xs, ys = symbols_of(batch, b), batch.y[:, b].argmax(-1)
        assert xs.tolist() == [xs[0], *range(9)]
        assert ys.tolist() == [*range(9), xs[0]]
        firsts.add(int(xs[0]))
    assert firsts == {9, 10}


def test_2b():
    batch = tasks.RandomLag(10).batch(300, rng=0)
    counts = np.zeros(11, int)
    for b in range(300):
        xs, ys = symbols_of(batch, b), batch.y[:, b].argmax(-1)
        assert xs[0] == ys[-1] and xs[0] in (9, 10)
        assert xs[1:].tolist() == ys[:-1].tolist()
        counts += np.bincount(xs[1:], minlength=11)
    assert not counts[9:].any()
    assert abs(counts[:9] / counts.sum() - 1 / 9).max() < 0.02
    answers = np.full(batch.y.shape, 5.0)
    answers[-1] = batch.y[-1]
    assert not tasks.RandomLag(10).wrong(answers, batch).any()  # only the end counts
    assert tasks.NoiseFreeLag(10).wrong(answers, batch).all()


def test_2c():
    task = tasks.VeryLongLag(20, 6)
    batch = task.batch(2000, rng=0)
    e, b_, x, y = 6, 7, 8, 9
    lengths = []
    for b in range(2000):
        symbols = symbols_of(batch, b)
        assert symbols[0] == b_ and symbols[1] in (x, y) and symbols[-1] == e
        assert (symbols[2:-1] < 6).all()
        assert batch.y[b].argmax() == symbols[1] - x
        lengths.append(len(symbols) + 1)  # with the last symbol, which is asked for
    assert min(lengths) == 20 + 4
    assert abs(np.mean(lengths) - (20 + 14)) < 1  # the paper: expected q + 14
    assert abs(np.mean(np.array(lengths) == 24) - 0.1) < 0.03
    assert task.inputs == 10


@pytest.mark.parametrize("task", [tasks.NoiseFreeLag(5), tasks.RandomLag(5), tasks.VeryLongLag(5, 5)])
def test_without_memory_the_largest_error_is_at_least_one_half(task):
    batch = task.batch(500, rng=0)
    answers = batch.y.copy()
    answers[-1 if answers.ndim == 3 else slice(None), ..., -2:] = 0.5
    error = abs(answers - batch.y)
    assert error.max() == task.baseline
    assert task.wrong(answers, batch).all()


# 3


@pytest.mark.parametrize("variant", ["3a", "3b", "3c"])
def test_3(variant):
    task = tasks.TwoSequence(100, 3, variant)
    batch = task.batch(4000, rng=0)
    assert (batch.lengths.min(), batch.lengths.max()) == (100, 110)
    first = batch.x[:3, :, 0]
    second_class = first.sum(axis=0) < 0
    if variant == "3b":
        assert abs(abs(first).mean() - 1) < 0.02
        assert abs((abs(first) - 1).var() - 0.2) < 0.02
    else:
        np.testing.assert_array_equal(first, np.where(second_class, -1, 1) * np.ones((3, 1)))
    inside = (np.arange(110)[:, None] < batch.lengths) & (np.arange(110) >= 3)[:, None]
    assert abs(batch.x[..., 0][inside].var() - 0.2) < 0.005
    assert not batch.x[..., 0][~inside & (np.arange(110) >= 3)[:, None]].any()
    targets = batch.y[:, 0]
    if variant == "3c":
        assert abs(targets[~second_class].mean() - 0.2) < 0.03 and abs(targets[second_class].mean() - 0.8) < 0.03
        assert abs(targets[second_class].var() - 0.1) < 0.02
    elif variant == "3a":
        np.testing.assert_array_equal(targets, ~second_class)
    assert abs(second_class.mean() - 0.5) < 0.05
    middle = np.full((4000, 1), np.mean(task.targets))
    expected = abs(middle - batch.y).mean() if variant == "3b" else task.distances(middle, batch).mean()
    assert abs(expected - task.baseline) < 1e-6


def test_variants_of_3():
    with pytest.raises(ValueError, match="variant: expected one of '3a', '3b', '3c', got 'a'"):
        tasks.TwoSequence(variant="a")


# 4, 5


@pytest.mark.parametrize(("kind", "least", "neutral"), [(tasks.Adding, -1, 0), (tasks.Multiplication, 0, 1)])
def test_4_and_5(kind, least, neutral):
    T = 100
    task = kind(T)
    batch = task.batch(5000, rng=0)
    assert (batch.lengths.min(), batch.lengths.max()) == (100, 110)
    firsts, seconds, one = [], [], 0
    for b, n in enumerate(batch.lengths):
        numbers, marks = batch.x[:n, b].T
        assert not batch.x[n:, b].any()
        assert marks[0] == marks[-1] == -1
        at = np.flatnonzero(marks == 1)
        assert set(marks[1:-1]) <= {0, 1} and len(at) in (1, 2)
        assert least <= numbers.min() and numbers.max() <= 1
        pair = numbers[at]
        if len(at) == 1:  # one of the two is the first
            one += 1
            assert numbers[0] == neutral
            pair = np.append(pair, neutral)
        else:
            firsts.append(at[0])
            seconds.append(at[1])
        expected = 0.5 + pair.sum() / 4 if kind is tasks.Adding else pair.prod()
        assert batch.y[b, 0] == pytest.approx(expected, abs=1e-6)
    assert max(firsts) <= 9 and max(seconds) <= T // 2 - 1
    assert abs(one / 5000 - task.at_first) < 0.015
    mean = batch.y.mean()
    assert ((batch.y - mean) ** 2).mean() == pytest.approx(task.baseline, rel=0.05)
    assert not task.wrong(batch.y + 0.039, batch).any()
    assert task.wrong(batch.y - 0.041, batch).all()


def test_the_baseline_of_adding_is_a_sixth_of_a_fourth_squared_but_for_the_first_pair():
    """Two numbers from [-1, 1] have a sum of variance 2/3; the target is a fourth of it."""
    assert tasks.Adding(10_000).baseline == pytest.approx(2 / 3 / 16, rel=0.06)
    assert tasks.Multiplication(10_000).baseline == pytest.approx(1 / 9 - 1 / 16, rel=0.3)


# 6, and Pascanu's


@pytest.mark.parametrize(("signals", "places"), [(2, [(10, 20), (50, 60)]), (3, [(10, 20), (33, 43), (66, 76)])])
def test_6(signals, places):
    task = tasks.TemporalOrder(signals)
    batch = task.batch(3000, rng=0)
    seen = [set() for _ in places]
    for b, n in enumerate(batch.lengths):
        text = "".join(task.SYMBOLS[i] for i in symbols_of(batch, b))
        assert 100 <= n <= 110 and text[0] == "E" and text[-1] == "B"
        at = [i for i, symbol in enumerate(text) if symbol in "XY"]
        for place, where in zip(at, seen):
            where.add(place)
        assert len(at) == signals and set(text[1:-1]) <= set("abcdXY")
        assert batch.y[b].argmax() == int("".join("01"["XY".index(text[i])] for i in at), 2)
    assert seen == [set(range(first, last + 1)) for first, last in places]
    classes = np.bincount(batch.y.argmax(-1), minlength=2**signals) / 3000
    assert abs(classes - 2.0**-signals).max() < 0.03
    guess = np.zeros_like(batch.y)
    guess[:, 0] = 1
    assert task.wrong(guess, batch).mean() == pytest.approx(task.baseline, abs=0.03)


@pytest.mark.parametrize("signals", [1, 4, "2", None])
def test_signals(signals):
    with pytest.raises(ValueError, match="signals: expected 2"):
        tasks.TemporalOrder(signals)


def test_temporal_order_as_pascanu_has_it():
    task = tasks.PascanuTemporalOrder((50, 60))
    lengths, rng = set(), np.random.default_rng(0)
    for _ in range(60):
        batch = task.batch(20, rng)
        T = len(batch.x)
        lengths.add(T)
        for b in range(20):
            text = "".join(task.SYMBOLS[i] for i in symbols_of(batch, b))
            first, second = (i for i, symbol in enumerate(text) if symbol in "AB")
            assert T // 10 <= first <= 2 * T // 10 and 4 * T // 10 <= second <= 5 * T // 10
            assert batch.y[b] == ["AA", "AB", "BA", "BB"].index(text[first] + text[second])
    assert lengths == set(range(50, 61))
    batch = task.batch(4000, 0)
    assert task.wrong(np.eye(4)[np.zeros(4000, int)], batch).mean() == pytest.approx(task.baseline, abs=0.03)
    assert (task.allowed, task.tested) == (99, 10_000)  # less than 1 %


@pytest.mark.parametrize("T", [5, (60, 50), (50,), (1, 2, 3), "50", (50.0, 60.0)])
def test_lengths_of_temporal_order(T):
    with pytest.raises(ValueError, match="T: expected"):
        tasks.PascanuTemporalOrder(T)


# Copy memory


def test_copy_memory():
    T = 12
    batch = tasks.CopyMemory(T).batch(300, rng=0)
    assert batch.x.shape == (T + 20, 300, 10)
    said = np.zeros(10, int)
    for b in range(300):
        xs = symbols_of(batch, b)
        assert xs[10:].tolist() == [0] * (T - 1) + [9] + [0] * 10
        assert batch.y[:, b].tolist() == [0] * (T + 10) + xs[:10].tolist()
        said += np.bincount(xs[:10], minlength=10)
    assert said[0] == said[9] == 0
    assert abs(said[1:9] / 3000 - 1 / 8).max() < 0.03


def test_the_baseline_of_copy_memory():
    task = tasks.CopyMemory(50)
    batch = task.batch(64, rng=0)
    scores = np.full((*batch.y.shape, 9), -1e3, np.float64)
    scores[:-10, ..., 0] = 0
    scores[-10:, ..., 1:] = 0  # any of the eight
    loss = tg.nn.cross_entropy(tg.tensor(scores), batch.y)
    assert loss.item() == pytest.approx(task.baseline, rel=1e-6)
    assert task.baseline == pytest.approx(10 * math.log(8) / 70)
    assert task.wrong(scores, batch).all()


# Settings that make no sense


@pytest.mark.parametrize("make", [
    lambda: tasks.NoiseFreeLag(1), lambda: tasks.RandomLag(0), lambda: tasks.VeryLongLag(0, 5),
    lambda: tasks.VeryLongLag(5, -1), lambda: tasks.TwoSequence(2, 3), lambda: tasks.TwoSequence(10, 0),
    lambda: tasks.Adding(10), lambda: tasks.Adding(100.0), lambda: tasks.Multiplication(True),
    lambda: tasks.CopyMemory(0), lambda: tasks.EmbeddedReber(strings=0),
])  # fmt: skip
def test_settings(make):
    with pytest.raises(ValueError, match="expected a whole number, at least"):
        make()


def test_a_task_of_ones_own():
    class Nothing(tasks.Task):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing: a task draws its sequences in batch\(\)"):
        Nothing().batch(1)
    with pytest.raises(NotImplementedError, match=r"Nothing: a task judges answers in wrong\(\)"):
        Nothing().wrong(None, None)
