"""Echo-state networks: against the equations in plain NumPy, scikit-learn's own machinery, and what theory says."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import tuning

T = 300
RNG = np.random.default_rng(0)
U = RNG.uniform(-1, 1, (T, 2))
Y = np.stack([np.roll(U[:, 0], 1) * U[:, 1], np.roll(U[:, 1], 2)], axis=1)
SETTINGS = {"units": 20, "leak": 0.6, "bias_scaling": 0.3, "washout": 30, "ridge": 1e-3, "rng": 1, "compiled": "numpy"}


def network(**options):
    return nn.EchoStateNetwork(**{**SETTINGS, **options})


def states_by_hand(net, xs, fed_back=None):
    """h_t = (1 - a) h + a tanh(W_in [u; y] + W h + b) from 0, of one series."""
    cell = net.reservoir_
    w, w_ih, b = cell.matrix(), cell.weight_ih.numpy(), cell.bias.numpy()
    h, states = np.zeros(cell.units), []
    for t, x in enumerate(xs):
        heard = x if fed_back is None else np.concatenate([x, fed_back[t - 1] if t else 0 * fed_back[0]])
        h = (1 - net.leak) * h + net.leak * np.tanh(w_ih @ heard + w @ h + b)
        states.append(h)
    return np.array(states)


def ridge_by_hand(x, y, ridge):
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    w = np.linalg.solve((x - mean_x).T @ (x - mean_x) + ridge * np.eye(x.shape[1]), (x - mean_x).T @ (y - mean_y))
    return w, mean_y - mean_x @ w


def mackey_glass(length, washout=300):
    """y' = .2 y(t-17) / (1 + y(t-17)^10) - .1 y, by Euler's steps of .1, every tenth; tanh(y - 1)."""
    y = [1.2] * 171
    for _ in range(10 * (length + washout)):
        y.append(y[-1] + 0.1 * (0.2 * y[-171] / (1 + y[-171] ** 10) - 0.1 * y[-1]))
    return np.tanh(np.array(y[171 + 10 * washout :: 10])[:length] - 1)[:, None]


def narma10(length, seed):
    u, d = np.random.default_rng(seed).uniform(0, 0.5, length), np.zeros(length)
    for t in range(9, length - 1):
        d[t + 1] = 0.3 * d[t] + 0.05 * d[t] * d[t - 9 : t + 1].sum() + 1.5 * u[t - 9] * u[t] + 0.1
    return u[:, None], d[:, None]


# Fitting and predicting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direct", "compiled"), [(True, "auto"), (False, "auto"), (True, "numpy"), (True, False)])
def test_it_is_its_equations(direct, compiled):
    net = network(direct=direct, compiled=compiled).fit(U[:200], Y[:200])
    states = states_by_hand(net, U)
    features = np.concatenate([states, U], axis=1) if direct else states
    w, c = ridge_by_hand(features[30:200], Y[30:200], 1e-3)
    np.testing.assert_allclose(net.readout_.weight, w.T, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(net.predict(U), features @ w + c, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(net.predict(U[200:], state="fitted"), (features @ w + c)[200:], rtol=1e-7, atol=1e-9)
    residual = ((Y - features @ w - c) ** 2)[30:].sum(axis=0) / ((Y[30:] - Y[30:].mean(axis=0)) ** 2).sum(axis=0)
    assert net.score(U, Y) == pytest.approx((1 - residual).mean(), rel=1e-7)


def test_targets_are_fed_back_while_it_is_fitted_and_outputs_afterwards():
    net = network(feedback=True, direct=False).fit(U[:200], Y[:200])
    states = states_by_hand(net, U[:200], Y)
    w, c = ridge_by_hand(states[30:], Y[30:200], 1e-3)
    np.testing.assert_allclose(net.readout_.weight, w.T, rtol=1e-6, atol=1e-9)
    cell, h, y, expected = net.reservoir_, np.zeros(20), np.zeros(2), []
    for u in U[200:240]:
        heard = np.concatenate([u, y])
        h = 0.4 * h + 0.6 * np.tanh(cell.weight_ih.numpy() @ heard + cell.matrix() @ h + cell.bias.numpy())
        y = h @ w + c
        expected.append(y)
    np.testing.assert_allclose(net.predict(U[200:240]), expected, rtol=1e-5, atol=1e-7)


def test_layouts():
    """The same three series as a batch, and as a list; each from the state 0; and a list of different lengths."""
    u, y = U.reshape(100, 3, 2), Y.reshape(100, 3, 2)
    batch = network().fit(u, y)
    as_list = network().fit([u[:, i] for i in range(3)], [y[:, i] for i in range(3)])
    np.testing.assert_allclose(as_list.readout_.weight, batch.readout_.weight, rtol=1e-8)
    found = batch.predict(u)
    assert found.shape == (100, 3, 2)
    for i, part in enumerate(batch.predict([u[:, i] for i in range(3)])):
        np.testing.assert_allclose(part, found[:, i], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(batch.predict(u[:, i]), found[:, i], rtol=1e-9, atol=1e-12)

    lengths = [100, 40, 61]
    uneven = network().fit([u[:n, i] for i, n in enumerate(lengths)], [y[:n, i] for i, n in enumerate(lengths)])
    each = [states_by_hand(uneven, u[:n, i]) for i, n in enumerate(lengths)]
    features = np.concatenate([np.concatenate([h, u[:n, i]], 1)[30:] for i, (h, n) in enumerate(zip(each, lengths))])
    w, _ = ridge_by_hand(features, np.concatenate([y[30:n, i] for i, n in enumerate(lengths)]), 1e-3)
    np.testing.assert_allclose(uneven.readout_.weight, w.T, rtol=1e-6, atol=1e-9)
    for i, n in enumerate(lengths):
        np.testing.assert_allclose(uneven.state_.data[i], each[i][-1], rtol=1e-9, atol=1e-12)
        assert (uneven.output_[i] == y[n - 1, i]).all()


def test_one_output_may_lack_its_axis():
    flat, column = network().fit(U, Y[:, 0]), network().fit(U, Y[:, :1])
    assert flat.predict(U).shape == (T,)
    np.testing.assert_array_equal(flat.predict(U), column.predict(U)[:, 0])
    assert flat.score(U, Y[:, 0]) == column.score(U, Y[:, :1])
    parts = network().fit([U, U[:100]], [Y[:, 0], Y[:100, 0]]).predict([U[:7]])
    assert [part.shape for part in parts] == [(7,)]


def test_parts_of_a_series_are_fitted_as_the_whole():
    for options in ({}, {"feedback": True}):
        whole, pieces = network(**options).fit(U, Y), network(**options)
        for a, b in ((0, 10), (10, 10), (10, 90), (90, 250), (250, T)):
            pieces.partial_fit(U[a:b], Y[a:b])
        np.testing.assert_allclose(pieces.readout_.weight, whole.readout_.weight, rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(pieces.state_.data, whole.state_.data)
        pieces.partial_fit(U, Y, reset=True)
        twice = network(**options).fit([U, U], [Y, Y])
        np.testing.assert_allclose(pieces.readout_.weight, twice.readout_.weight, rtol=1e-6, atol=1e-9)


def test_the_same_seed_is_the_same_network():
    a, b, c = [network(rng=seed, noise=1e-3).fit(U, Y).predict(U) for seed in (0, 0, 1)]
    assert (a == b).all() and (a != c).any()
    net = network().fit(U, Y)
    assert (net.predict(U) == net.predict(U)).all() and (
        net.fit(U, Y).predict(U) == network().fit(U, Y).predict(U)
    ).all()


@pytest.mark.parametrize("compiled", [False, "numpy"])
def test_a_deep_reservoir_with_feedback(compiled):
    def deep():
        return nn.DeepReservoir([nn.Reservoir(2, 15, feedback_size=2, rng=0), nn.Reservoir(15, 10, leak=0.5, rng=1)])

    net = network(reservoir=deep(), feedback=True, compiled=compiled).fit(U, Y)
    states = nn.scan(deep(), np.concatenate([U, np.concatenate([0 * Y[:1], Y[:-1]])], 1)[:, None])[0].data[:, 0]
    w, _ = ridge_by_hand(np.concatenate([states, U], 1)[30:], Y[30:], 1e-3)
    np.testing.assert_allclose(net.readout_.weight, w.T, rtol=1e-6, atol=1e-9)
    assert net.generate(5, U[:5]).shape == (5, 2)
    with pytest.raises(tg.errors.ShapeError, match="reservoir: expected input_size 2: 2 features of X; got 4"):
        network(reservoir=deep()).fit(U, Y)


def test_single_precision():
    net = network(dtype=np.float32).fit(U, Y)
    assert net.predict(U).dtype == np.float32 and net.reservoir_.weight_hh.dtype == np.float32
    np.testing.assert_allclose(net.predict(U), network().fit(U, Y).predict(U), atol=0.02)


def test_it_can_be_copied_and_pickled():
    net = network(feedback=True, noise=0.01).fit(U, Y)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert (twin.predict(U) == net.predict(U)).all()
        assert (twin.fit(U, Y).predict(U) == net.predict(U)).all()


# Running freely -------------------------------------------------------------------------------------------------------


def test_it_hears_its_outputs_as_inputs():
    s = mackey_glass(500)
    net = network(leak=0.5, ridge=1e-8).fit(s[:399], s[1:400])
    h, u, expected, cell = net.state_.data[0], s[399], [], net.reservoir_
    for _ in range(50):
        h = 0.5 * h + 0.5 * np.tanh(cell.weight_ih.numpy() @ u + cell.matrix() @ h + cell.bias.numpy())
        u = net.readout_.predict(np.concatenate([h, u]))
        expected.append(u)
    np.testing.assert_allclose(net.generate(50), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(net.generate(50, after=(s[:399], s[1:400])), expected, rtol=1e-6, atol=1e-8)
    many = net.generate(20, after=(np.stack([s[:399], s[10:409]], 1), np.stack([s[1:400], s[11:410]], 1)))
    np.testing.assert_allclose(many[:, 0], expected[:20], rtol=1e-6, atol=1e-8)
    assert many.shape == (20, 2, 1) and net.generate(0).shape == (0, 1)


def test_without_inputs_there_is_what_is_fed_back():
    s = mackey_glass(700)
    net = network(units=100, leak=0.4, spectral_radius=0.8, feedback=True, ridge=1e-10, washout=100).fit(None, s[:600])
    assert net.n_features_in_ == 0
    h, y, expected, cell = net.state_.data[0], s[599], [], net.reservoir_
    for _ in range(40):
        h = 0.6 * h + 0.4 * np.tanh(cell.weight_ih.numpy() @ y + cell.matrix() @ h + cell.bias.numpy())
        y = net.readout_.predict(h)
        expected.append(y)
    found = net.generate(40)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert np.abs(found - s[600:640])[:20].max() < 0.02
    np.testing.assert_allclose(net.generate(40, after=(None, s[:600])), found, rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match=r"X: expected a series, got None: generate\(steps\)"):
        net.predict(None)


def test_mackey_glass_is_foretold():
    """Lukoševičius' protocol, with 300 units, where he has 7e-6 to 1e-4 over 500 steps; here over 200."""
    s = mackey_glass(2301)
    net = nn.EchoStateNetwork(
        300, leak=0.3, spectral_radius=1.25, input_scaling=0.5, bias_scaling=0.5, ridge=1e-8, washout=100, rng=0
    )
    free = net.fit(s[:2000], s[1:2001]).generate(200)
    assert ((free - s[2001:2201]) ** 2).mean() < 1e-5


def test_divergence_is_named_and_the_steps_before_are_returned():
    s = (1.02 ** np.arange(200) * np.sin(np.arange(200) / 5))[:, None]
    net = network(nonlinearity="linear", ridge=1e-9).fit(s[:-1], s[1:])
    h, u, cell, centre = net.state_.data[0], s[-1], net.reservoir_, s[1:].mean()
    span, steps = np.abs(s[1:] - centre).max(), []
    while not steps or abs(steps[-1] - centre) <= 100 * span:
        h = 0.4 * h + 0.6 * (cell.weight_ih.numpy() @ u + cell.matrix() @ h + cell.bias.numpy())
        u = net.readout_.predict(np.concatenate([h, u]))
        steps.append(u[0])
        assert len(steps) < 1000, "this one was to diverge"
    with pytest.warns(nn.DivergenceWarning, match=f"generate: it diverged at step {len(steps) - 1}: the output is"):
        found = net.generate(len(steps) + 300)
    np.testing.assert_allclose(found[:, 0], steps[:-1], rtol=1e-6, atol=1e-7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(net.generate(len(steps) - 1), found)
    with pytest.warns(nn.DivergenceWarning):
        assert len(net.generate(len(steps), limit=1.0)) < len(found)
    with pytest.warns(nn.DivergenceWarning):  # to infinity, and not a number
        assert len(net.generate(100_000)) == len(found)


# What is refused ------------------------------------------------------------------------------------------------------

NAN = U.copy()
NAN[7, 1] = np.nan
REFUSED = {
    "washout of all": ({"washout": T}, U, Y, ValueError, f"washout: expected less than the {T} steps .* got {T}"),
    "washout below 0": ({"washout": -1}, U, Y, ValueError, "washout: expected a whole number"),
    "other lengths": ({}, U, Y[:-1], ValueError, "X, y: expected a target for each step"),
    "other layouts": ({}, U[:, None], Y, ValueError, "X, y: expected a target for each step"),
    "lists of other lengths": ({}, [U, U[:50]], [Y, Y[:60]], ValueError, "X, y: expected a target for each step"),
    "a short series among others": ({}, [U, U[:30]], [Y, Y[:30]], ValueError, "washout: expected less than the 30"),
    "other features in a list": ({}, [U, U[:, :1]], [Y, Y], ValueError, "X: expected series of the same features"),
    "ridge": ({"ridge": -1.0}, U, Y, ValueError, "ridge: expected a finite number, at least 0"),
    "NaN": ({}, NAN, Y, ValueError, r"X: expected finite numbers, got nan at \[7, 1\]"),
    "infinity": ({}, U, np.where(Y > 0, np.inf, Y), ValueError, "y: expected finite numbers"),
    "zero variance": ({}, U, np.ones((T, 2)), ValueError, "y: output 0 is the same at all steps after the washout"),
    "an output that stays": ({}, U, Y * [1, 0], ValueError, "y: output 1 is the same"),
    "no features": ({}, U[:, 0], Y, ValueError, r"X: expected \(time, features\).*pass X\[:, None\]"),
    "no time": ({}, np.float64(3), Y, ValueError, "X: expected"),
    "no inputs, no feedback": ({}, None, Y, ValueError, "X: expected inputs, as there is no feedback"),
    "nothing": ({}, None, None, ValueError, "y: expected a target for each step, which are what is learned, got None"),
    "feedback, no targets": ({"feedback": True}, U, None, ValueError, "y: .* fed back while it is fitted, got None"),
    "words": ({}, np.full((T, 1), "a"), Y, TypeError, "X: expected real numbers"),
    "an empty reservoir": ({"density": 1e-12}, U, Y, ValueError, "spectral_radius: .*no connections"),
    "a nilpotent one": ({"topology": np.eye(20, k=1)}, U, Y, ValueError, "spectral_radius: .*nilpotent"),
    "no units": ({"units": 0}, U, Y, ValueError, "units: expected a whole number, at least 1"),
    "a leak": ({"leak": 2}, U, Y, ValueError, "leak: expected a number above 0"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_fit_refuses(kind):
    options, x, y, error, message = REFUSED[kind]
    with pytest.raises(error, match=message):
        network(**options).fit(x, y)


def test_what_the_fitted_one_refuses():
    net = network()
    for call in (lambda: net.predict(U), lambda: net.generate(3), lambda: net.score(U, Y)):
        with pytest.raises(RuntimeError, match="it is not fitted yet"):
            call()
    net.fit(U, Y[:, :1])
    with pytest.raises(tg.errors.ShapeError, match="X: expected 2 features, as it was fitted to, got 1"):
        net.predict(U[:, :1])
    with pytest.raises(tg.errors.ShapeError, match="y: expected 1 features, as it was fitted to, got 2"):
        net.partial_fit(U, Y)
    with pytest.raises(tg.errors.ShapeError, match="generate: expected as many outputs as inputs"):
        net.generate(3)
    with pytest.raises(tg.errors.ShapeError, match="X: expected a batch of 1 series, as before, got 3"):
        net.partial_fit(U.reshape(100, 3, 2), Y[:, :1].reshape(100, 3, 1))
    with pytest.raises(ValueError, match="state: expected None, 'fitted'"):
        net.predict(U, state="last")
    with pytest.raises(tg.errors.ShapeError, match="X: expected 1 series, as state='fitted'"):
        net.predict(U.reshape(100, 3, 2), state="fitted")
    fed = network(feedback=True).fit(U, Y)
    with pytest.raises(tg.errors.ShapeError, match="X: expected 2 features for 3 steps of 1 series"):
        fed.generate(3)
    with pytest.raises(TypeError, match="after: expected a pair"):
        fed.generate(3, U[:3], after=U)
    for steps in (-1, 2.5):
        with pytest.raises(ValueError, match="steps: expected a whole number"):
            fed.generate(steps)


def test_a_ridge_of_0_and_few_samples_warns():
    with pytest.warns(nn.ConditionWarning, match="10 samples do not determine .*condition number"):
        network(ridge=0).fit(U[:40], Y[:40])


# scikit-learn's conventions -------------------------------------------------------------------------------------------


def test_parameters_are_scikit_learns():
    net = network()
    assert net.get_params() == {**nn.EchoStateNetwork().get_params(), **SETTINGS} == net.get_params(deep=False)
    assert net.set_params(leak=0.1, units=7) is net and (net.leak, net.units) == (0.1, 7)
    with pytest.raises(ValueError, match="lek: EchoStateNetwork has no such setting; it has units, leak"):
        net.set_params(lek=0.1)
    assert repr(nn.EchoStateNetwork(50, leak=0.5)) == "EchoStateNetwork(units=50, leak=0.5)"


def test_it_works_in_scikit_learns_machinery():
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_regressor
    from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.validation import check_is_fitted

    net, y = network(), Y[:, 0]
    twin = clone(net)
    assert twin is not net and twin.get_params() == net.get_params() and is_regressor(net)
    assert clone(network(reservoir=nn.Reservoir(2, 10, rng=0))).fit(U, y).reservoir_.units == 10
    with pytest.raises(Exception, match="not fitted"):
        check_is_fitted(net)
    check_is_fitted(net.fit(U, y))

    pipe = make_pipeline(StandardScaler(), network())
    scaled = (U - U.mean(axis=0)) / U.std(axis=0)
    assert pipe.fit(U, y).score(U, y) == pytest.approx(network().fit(scaled, y).score(scaled, y), rel=1e-9)

    splits = TimeSeriesSplit(2)
    grid = {"echostatenetwork__leak": [0.3, 0.9], "echostatenetwork__ridge": [1e-6, 1e2]}
    search = GridSearchCV(pipe, grid, cv=splits, error_score="raise").fit(U, y)
    scores = {}
    for leak in (0.3, 0.9):
        for ridge in (1e-6, 1e2):
            pipe.set_params(echostatenetwork__leak=leak, echostatenetwork__ridge=ridge)
            scores[leak, ridge] = cross_val_score(pipe, U, y, cv=splits).mean()
    best = max(scores, key=scores.get)
    assert search.best_params_ == dict(zip(grid, best)) and search.best_score_ == pytest.approx(scores[best])


# What a reservoir remembers -------------------------------------------------------------------------------------------


def test_a_line_of_units_remembers_as_many_steps_as_it_has():
    """Linear units in a line hold the last inputs, and nothing else: the capacity is their number, exactly."""
    line = nn.Reservoir(1, 8, topology=np.eye(8, k=-1), spectral_radius=None, nonlinearity="linear", rng=0)
    line.weight_ih = tg.tensor(np.eye(8)[:, :1])
    total, of_each = nn.memory_capacity(line, delays=12, steps=2000, rng=1)
    np.testing.assert_allclose(of_each[:7], 1, atol=1e-6)
    assert total == pytest.approx(7, abs=0.05)  # the first unit holds the input of now, which is no memory
    assert of_each[8:].max() < 0.02


@pytest.mark.parametrize("radius", [0.5, 0.95])
def test_no_reservoir_remembers_more_than_its_units(radius):
    found = [nn.memory_capacity(nn.Reservoir(1, 15, spectral_radius=radius, input_scaling=s, rng=0), rng=1)[0]
             for s in (0.01, 1.0)]  # fmt: skip
    assert 1 < found[1] < found[0] <= 15.5
    with pytest.raises(tg.errors.ShapeError, match="cell: expected a reservoir with one input"):
        nn.memory_capacity(nn.Reservoir(2, 15, rng=0))


# Tuning ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"feedback": True}, {"sparse": True, "density": 0.3}], ids=str)
def test_the_error_is_that_of_folds_left_out(options):
    """And its gradients are those of differences, of everything that is trained."""
    net = network(units=8, density=options.pop("density", 0.5), **options).fit(U[:90], Y[:90])
    given, reservoir = net._given(U[:90], Y[:90]), copy.deepcopy(net.reservoir_)
    states = states_by_hand(net, U[:90], Y if net.feedback else None)
    x, y = np.concatenate([states, U[:90], np.ones((90, 1))], axis=1)[30:], Y[30:90]
    folds, wrong = np.array_split(np.arange(60), 3), 0
    for fold in folds:
        rest = np.setdiff1d(np.arange(60), fold)
        w = np.linalg.solve(x[rest].T @ x[rest] + 1e-3 * np.eye(x.shape[1]), x[rest].T @ y[rest])
        wrong += ((y[fold] - x[fold] @ w) ** 2).sum()
    expected = wrong / ((y - y.mean(axis=0)) ** 2).sum()
    assert float(tuning.cross_validated(net, reservoir, given, 1e-3, 3)) == pytest.approx(expected, rel=1e-6)

    knobs = tuning.Knobs(reservoir, tuning.TRAINED)
    parameters = knobs.parameters()
    assert len(parameters) == 3 + net.feedback + 1 + 3

    def error(*values):
        stand_ins = dict(zip(map(id, parameters), values))
        twin = copy.copy(knobs)
        twin.gains = {name: stand_ins[id(p)] for name, p in knobs.gains.items()}
        twin.moves = {name: stand_ins[id(p)] for name, p in knobs.moves.items()}
        twin.leak = stand_ins[id(knobs.leak)]
        twin.turn()
        return tuning.cross_validated(net, reservoir, given, 1e-3, 3)

    tg.check_gradients(error, *parameters, rtol=1e-4)


def test_tuning_makes_narma_better_on_what_it_has_not_seen():
    u, d = narma10(1800, seed=0)
    net = nn.EchoStateNetwork(40, input_scaling=0.1, bias_scaling=0.2, ridge=1e-8, washout=100, rng=0)
    net.fit(u[:1000], d[:1000])

    def nmse():
        return float(((net.predict(u[1000:], state="fitted") - d[1000:]) ** 2).mean() / d[1000:].var())

    before, started = nmse(), copy.deepcopy(net)
    seen = []
    assert net.tune(u[:1000], d[:1000], steps=25, on_step=lambda step, error: seen.append((step, error))) is net
    found = net.tuning_
    assert nmse() < 0.7 * before
    assert seen == [*enumerate(found.errors[:-1])] and found.errors[found.best] == min(found.errors)
    assert found.spectral_radius == [pytest.approx(net.reservoir_.spectral_radius())]
    assert found.ridge == net.readout_.ridge != 1e-8 and net.ridge == 1e-8
    pattern = [n.reservoir_.weight_hh.numpy() != 0 for n in (started, net)]
    assert (pattern[0] == pattern[1]).all(), "connections stay where they are"
    started.tune(u[:1000], d[:1000], steps=25)
    assert (started.predict(u) == net.predict(u)).all(), "the same, bit for bit"


@pytest.mark.parametrize("name", tuning.TRAINED)
def test_each_setting_can_be_tuned_alone(name):
    net = network(units=10, feedback=True, leak=0.5, sparse=True).fit(U, Y)
    before = {k: v.copy() for k, v in net.reservoir_.state_dict().items()}
    net.tune(U, Y, steps=3, train=[name])
    assert min(net.tuning_.errors) < net.tuning_.errors[0]
    after = net.reservoir_.state_dict()
    changed = {k for k in before if (before[k] != after[k]).any()}
    assert changed == {
        "spectral_radius": {"weight_hh"}, "leak": {"leak"}, "input_scaling": {"weight_ih"}, "bias_scaling": {"bias"},
        "feedback_scaling": {"weight_ih"}, "weights": {"weight_ih", "weight_hh", "bias"}, "ridge": set(),
    }[name]  # fmt: skip
    columns = (before["weight_ih"] != after["weight_ih"]).any(axis=0).tolist()
    if name.endswith("put_scaling") or name == "feedback_scaling":
        assert columns == [name == "input_scaling"] * 2 + [name == "feedback_scaling"] * 2


def test_tuning_from_nothing_of_deep_reservoirs_and_lists():
    deep = nn.DeepReservoir([nn.Reservoir(2, 10, rng=0), nn.Reservoir(10, 8, leak=0.5, rng=1)])
    net = network(reservoir=deep).tune([U, U[:100]], [Y, Y[:100]], steps=4)
    assert min(net.tuning_.errors) < net.tuning_.errors[0]
    assert len(net.tuning_.spectral_radius) == len(net.tuning_.leak) == 2
    assert net.predict(U).shape == (T, 2)


def test_what_tuning_refuses():
    net = network().fit(U, Y)
    weights = net.readout_.weight.copy()
    for options, message in {
        "steps": ({"steps": 0}, "steps: expected a whole number, at least 1"),
        "folds": ({"folds": 1}, "folds: expected a whole number, at least 2"),
        "train": ({"train": ["everything"]}, "train: expected any of 'spectral_radius'"),
        "nothing there": ({"train": ["feedback_scaling"]}, "there is nothing of that to be trained"),
        "clip": ({"clip": -1}, "clip: expected a finite number"),
        "lr": ({"lr": -1}, "lr: expected"),
    }.values():
        with pytest.raises(ValueError, match=message):
            net.tune(U, Y, **options)
    with pytest.raises(tg.errors.ShapeError, match="X: expected 2 features, as it was fitted to"):
        net.tune(U[:, :1], Y)
    other = network(reservoir=nn.RNNCell(2, 5, rng=0, dtype=np.float64))
    with pytest.raises(TypeError, match="tune: expected a network whose reservoir is made of Reservoirs, got RNNCell"):
        other.tune(U, Y)
    with np.errstate(all="ignore"), pytest.raises((FloatingPointError, np.linalg.LinAlgError)):
        net.tune(U, Y, lr=1e6, steps=5)
    np.testing.assert_array_equal(net.readout_.weight, weights)
    stopped = net.tune(U, Y, steps=50, on_step=lambda step, error: step == 2)
    assert len(stopped.tuning_.errors) == 3


# A readout that is given


def test_a_readout_that_is_given_reads_out():
    """What it sees are the states and the inputs; a copy is fitted, and each fit begins with a new one."""
    u = np.sin(np.arange(300) / 5)[:, None]
    rls = nn.RLS(delta=1e-6)
    given = nn.EchoStateNetwork(20, washout=50, rng=0, readout=rls).fit(u[:-1], u[1:])
    assert rls.sizes is None and isinstance(given.readout_, nn.RLS)
    plain = nn.EchoStateNetwork(20, washout=50, rng=0, ridge=1e-6).fit(u[:-1], u[1:])
    np.testing.assert_allclose(given.predict(u[:-1])[50:], plain.predict(u[:-1])[50:], atol=1e-3)
    before = given.readout_
    assert given.fit(u[:-1], u[1:]).readout_ is not before


class Mean(nn.Readout):
    def fit(self, x, y):
        self.weight, self.intercept = np.zeros((y.shape[1], x.shape[1])), y.mean(axis=0)
        self.sizes = x.shape[1], y.shape[1]
        return self


def test_a_readout_that_is_given_has_its_limits():
    u = np.sin(np.arange(100) / 5)[:, None]
    net = nn.EchoStateNetwork(10, rng=0, readout=Mean())
    np.testing.assert_allclose(net.fit(u[:-1], u[1:]).predict(u[:-1]), u[1:].mean(), rtol=1e-12)
    with pytest.raises(TypeError, match="readout: Mean has no partial_fit: call fit"):
        net.partial_fit(u[:-1], u[1:])
    with pytest.raises(ValueError, match=r"tune: .* the network has another readout"):
        net.tune(u[:-1], u[1:])
    with pytest.raises(ValueError, match=r"ridge, intercept: .* one is given"):
        nn.EchoStateNetwork(10, rng=0, ridge=1.0, readout=Mean()).fit(u[:-1], u[1:])


def test_a_network_of_ones_own_has_its_own_settings():
    class Slow(nn.EchoStateNetwork):
        def __init__(self, units=10, slowness=2.0):
            super().__init__(units, leak=1 / slowness, rng=0)
            self.slowness = slowness

    assert Slow(slowness=4.0).get_params() == {"units": 10, "slowness": 4.0}
    assert repr(Slow(slowness=4.0)) == "Slow(slowness=4.0)"
    with pytest.raises(ValueError, match="leak: Slow has no such setting; it has units, slowness"):
        Slow().set_params(leak=1.0)


def test_a_network_of_ones_own_may_pass_settings_on():
    class Slow(nn.EchoStateNetwork):
        def __init__(self, slowness=2.0, **keywords):
            super().__init__(leak=1 / slowness, **keywords)
            self.slowness = slowness

    net = Slow(4.0, units=7)
    assert net.get_params().items() >= {"units": 7, "slowness": 4.0, "leak": 0.25}.items()
    assert repr(net) == "Slow(units=7, leak=0.25, slowness=4.0)"


@pytest.mark.parametrize("readout", [nn.RLS, "ridge", 0, nn.Linear(2, 1, rng=0)])
def test_a_readout_has_to_be_one(readout):
    u = np.sin(np.arange(100) / 5)[:, None]
    with pytest.raises(TypeError, match=r"readout: expected a readout that was made, such as nn.RLS\(\)"):
        nn.EchoStateNetwork(10, rng=0, readout=readout).fit(u[:-1], u[1:])
