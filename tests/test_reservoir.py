"""Reservoirs: against the equations in plain NumPy, the theorems that are known of them, and ReservoirPy's."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import spectrum
from tinygrad_rnn.ops import sparse

sp = pytest.importorskip("scipy.sparse")


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def matrix_of(cell):
    return spectrum.dense(cell.matrix())


def by_hand(cell, xs, leak, f, h=None):
    """The states of all steps, as the docstring says: one sum after another."""
    w, w_ih, b = matrix_of(cell), cell.weight_ih.numpy(), cell.bias.numpy()
    h = np.zeros((xs.shape[1], cell.units)) if h is None else h
    states = []
    for x in xs:
        new = np.stack([f(w_ih @ x[i] + w @ h[i] + b) for i in range(len(h))])
        h = (1 - leak) * h + leak * new
        states.append(h)
    return np.array(states)


# The step -------------------------------------------------------------------------------------------------------------

KINDS = {
    "plain": ({}, 1.0, np.tanh),
    "leaky": ({"leak": 0.3, "bias_scaling": 0.5}, 0.3, np.tanh),
    "a leak for each": ({"leak": np.linspace(0.1, 1, 12)}, np.linspace(0.1, 1, 12), np.tanh),
    "feedback": ({"feedback_size": 2, "leak": 0.5}, 0.5, np.tanh),
    "relu": ({"nonlinearity": "relu", "spectral_radius": 0.4}, 1.0, lambda x: np.maximum(x, 0)),
    "of the user's": ({"nonlinearity": np.sin, "leak": 0.9}, 0.9, np.sin),
}


@pytest.mark.parametrize("compiled", [False, "numpy", "numba"])
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_is_the_equations(kind, is_sparse, compiled):
    if compiled == "numba":
        pytest.importorskip("numba")
    options, leak, f = KINDS[kind]
    cell = nn.Reservoir(3, 12, density=0.4, sparse=is_sparse, rng=0, **options)
    xs = draw(40, 2, cell.input_size)
    states, last = nn.scan(cell, xs, compiled=compiled)
    expected = by_hand(cell, xs, leak, f)
    np.testing.assert_allclose(states.data, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(last.data, states.data[-1])
    assert not states.requires_grad and not [*cell.parameters()]


def test_one_sequence_and_a_batch_are_the_same():
    cell, xs = nn.Reservoir(2, 30, sparse=True, rng=0), draw(35, 3, 2)
    together = nn.scan(cell, xs)[0].data
    for i in range(3):
        np.testing.assert_allclose(
            nn.scan(cell, xs[:, i : i + 1])[0].data[:, 0], together[:, i], rtol=1e-12, atol=1e-14
        )


def test_lengths_leave_padding_out():
    cell, xs = nn.Reservoir(2, 30, leak=0.5, sparse=True, rng=0), draw(40, 2, 2)
    xs[25:, 1] = np.nan
    states, last = nn.scan(cell, xs, lengths=[40, 25])
    alone, end = nn.scan(cell, xs[:25, 1:])
    np.testing.assert_allclose(states.data[:25, 1], alone.data[:, 0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(last.data[1], end.data[0], rtol=1e-12, atol=1e-14)
    assert not states.data[25:, 1].any()


def test_states_are_reservoirpys():
    rpy = pytest.importorskip("reservoirpy.nodes")
    cell = nn.Reservoir(2, 50, leak=0.3, bias_scaling=0.4, spectral_radius=1.1, rng=3)
    xs = draw(60, 2)
    theirs = rpy.Reservoir(
        W=matrix_of(cell), Win=cell.weight_ih.numpy(), bias=cell.bias.numpy(), lr=0.3, activation="tanh"
    )
    np.testing.assert_allclose(nn.scan(cell, xs[:, None])[0].data[:, 0], theirs.run(xs), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
def test_gradients_pass_through_it(is_sparse):
    """They are right, by differences, of all that can be trained; of what cannot, there are none."""
    cell = nn.Reservoir(1, 6, leak=0.4, density=0.5, bias_scaling=0.1, sparse=is_sparse, trainable=True, rng=0)
    weights = dict(cell.named_parameters())
    assert list(weights) == ["weight_ih", "bias", "leak", "weight_hh"]

    def run(x, weights):
        with cell.replaced(weights):
            return nn.scan(cell, x, compiled=False)[0]

    tg.check_gradients(run, draw(5, 2, 1), weights, order=2)


@pytest.mark.parametrize("compiled", [False, "numpy"])
def test_a_sparse_matrix_has_the_gradients_of_a_dense_one(compiled):
    cells = [nn.Reservoir(1, 20, sparse=s, trainable=True, rng=0) for s in (True, False)]
    xs, found = draw(40, 2, 1), []
    for cell in cells:
        (nn.scan(cell, xs, compiled=compiled)[0] ** 2).sum().backward()
        found.append(cell.weight_hh.grad.data)
    rows = np.repeat(np.arange(20), np.diff(cells[0].indptr.numpy()))
    np.testing.assert_allclose(found[0], found[1][rows, cells[0].indices.numpy()], rtol=1e-10, atol=1e-12)


def test_noise_is_drawn_while_it_is_trained_and_can_be_repeated():
    xs = draw(40, 2, 1)
    noisy, again, other = [nn.Reservoir(1, 10, noise=0.1, rng=seed) for seed in (0, 0, 1)]
    quiet = nn.Reservoir(1, 10, rng=0)
    assert (nn.scan(noisy.eval(), xs)[0].data == nn.scan(quiet, xs)[0].data).all()
    first = nn.scan(noisy.train(), xs)[0].data
    assert (first == nn.scan(again, xs)[0].data).all()
    assert (first != nn.scan(other, xs)[0].data).any()
    assert 0.02 < (first - nn.scan(quiet, xs)[0].data).std() < 0.3


# How it is drawn ------------------------------------------------------------------------------------------------------

DRAWN = [
    {}, {"density": 1.0}, {"density": 0.05}, {"topology": "ring"}, {"topology": "orthogonal"},
    {"distribution": "normal"}, {"distribution": "bernoulli"}, {"dtype": np.float32}, {"units": 400, "sparse": True},
    {"units": 400, "sparse": False},
]  # fmt: skip


@pytest.mark.parametrize("options", DRAWN, ids=str)
def test_the_spectral_radius_is_the_one_that_was_asked_for(options):
    options = {"units": 100, **options}
    cell = nn.Reservoir(1, options.pop("units"), spectral_radius=1.25, rng=0, **options)
    w = matrix_of(cell)
    rounding = 1e-4 if w.dtype == np.float32 else 1e-9
    assert np.abs(np.linalg.eigvals(w.astype(float))).max() == pytest.approx(1.25, rel=rounding)
    assert cell.spectral_radius() == pytest.approx(1.25, rel=rounding)
    assert w.dtype == cell.weight_ih.dtype == np.dtype(options.get("dtype", float))


def test_topologies():
    ring, full = [matrix_of(nn.Reservoir(1, 7, topology=t, spectral_radius=0.8, rng=0)) for t in ("ring", "orthogonal")]
    np.testing.assert_allclose(ring, 0.8 * np.roll(np.eye(7), 1, axis=0))
    np.testing.assert_allclose(full @ full.T, 0.64 * np.eye(7), atol=1e-12)
    given = draw(7, 7)
    for matrix in (given, sp.coo_matrix(given), tg.tensor(given), given.tolist()):
        cell = nn.Reservoir(1, 7, topology=matrix, spectral_radius=None)
        np.testing.assert_array_equal(matrix_of(cell), given)


def test_densities_and_scalings():
    cell = nn.Reservoir(
        2, 1000, density=0.02, input_scaling=[0.1, 10.0], input_density=0.5, bias_scaling=2.0, feedback_size=1,
        feedback_scaling=0.01, distribution="bernoulli", spectral_radius=None, rng=0,
    )  # fmt: skip
    assert (matrix_of(cell) != 0).mean() == pytest.approx(0.02, rel=0.05)
    assert set(np.abs(matrix_of(cell)[matrix_of(cell) != 0])) == {1.0}
    w = np.abs(cell.weight_ih.numpy())
    assert [w[:, i].max() for i in range(3)] == [0.1, 10.0, 0.01]
    assert (w != 0).mean() == pytest.approx(0.5, rel=0.1)
    assert set(np.abs(cell.bias.numpy())) == {2.0}
    assert (matrix_of(nn.Reservoir(1, 1000, rng=0)) != 0).sum(axis=1).mean() == pytest.approx(10, rel=0.05)


def test_seeds():
    a, b, c = [nn.Reservoir(2, 40, bias_scaling=1.0, rng=seed).state_dict() for seed in (0, 0, 1)]
    assert all((a[k] == b[k]).all() for k in a)
    assert all((a[k] != c[k]).any() for k in a)
    rng = np.random.default_rng(0)
    first, second = [nn.Reservoir(2, 40, rng=rng).weight_ih.numpy() for _ in range(2)]
    assert (first != second).any()
    is_dense, is_sparse = [matrix_of(nn.Reservoir(1, 60, sparse=s, rng=4)) for s in (False, True)]
    np.testing.assert_allclose(is_dense, is_sparse, rtol=1e-12)


def test_auto_is_sparse_where_it_saves_time():
    kept = [nn.Reservoir(1, n, density=d, rng=0).indices is not None for n, d in ((100, 0.1), (500, 0.1), (500, 0.9))]
    assert kept == [False, True, False]
    assert nn.Reservoir(1, 500, density=0.1, sparse=False, rng=0).indices is None


def test_ten_thousand_units_work_in_memory():
    tracemalloc.start()
    try:
        cell = nn.Reservoir(1, 10_000, density=0.001, topology="random", rng=0)
        states, _ = nn.scan(cell, draw(40, 1, 1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6 < 10_000**2 * 8
    assert states.shape == (40, 1, 10_000) and 0 < np.abs(states.data).max() <= 1


def test_it_is_saved_copied_and_pickled():
    for options in ({"sparse": True}, {"sparse": False}, {"sparse": True, "trainable": True}):
        cell, other = [nn.Reservoir(2, 25, leak=0.5, density=0.2, rng=seed, **options) for seed in (0, 0)]
        xs = draw(10, 1, 2)
        expected = nn.scan(cell, xs)[0].data
        other.weight_ih = nn.Parameter(0 * cell.weight_ih.data)
        other.load_state_dict(cell.state_dict())
        for twin in (other, copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
            assert (nn.scan(twin, xs)[0].data == expected).all()
    with pytest.raises(ValueError, match="does not fit"):
        nn.Reservoir(2, 25, density=0.2, sparse=True, rng=1).load_state_dict(cell.state_dict())


# What is refused ------------------------------------------------------------------------------------------------------

NILPOTENT = np.triu(draw(20, 20), 1)
SHUFFLED = np.random.default_rng(0).permutation(20)
NO_LOOP = {
    "triangular": {"topology": NILPOTENT},
    "triangular, the units in any order": {"topology": NILPOTENT[SHUFFLED][:, SHUFFLED]},
    "sparse": {"topology": sp.csr_matrix(NILPOTENT), "sparse": True},
    "zero": {"topology": np.zeros((20, 20))},
    "drawn without connections": {"density": 1e-9},
    "drawn without a loop": {"density": 0.01, "rng": 5},
}


@pytest.mark.parametrize("kind", NO_LOOP)
def test_a_nilpotent_matrix_is_not_scaled(kind):
    options = {"rng": 0, **NO_LOOP[kind]}
    with pytest.raises(ValueError, match=r"spectral_radius: .*(nilpotent|no connections).*another seed"):
        nn.Reservoir(1, 20, **options)
    cell = nn.Reservoir(1, 20, spectral_radius=None, **options)
    assert cell.spectral_radius() == 0


REFUSED = {
    "units": ({"units": 0}, "units: expected a whole number"),
    "input_size": ({"input_size": -1}, "input_size"),
    "leak of 0": ({"leak": 0.0}, "leak: expected a number above 0"),
    "leak above 1": ({"leak": 1.1}, "leak"),
    "leak NaN": ({"leak": np.nan}, "leak"),
    "leaks": ({"leak": [0.5, 0.5]}, "leak: expected .* or 10 of them"),
    "radius": ({"spectral_radius": -1}, "spectral_radius: expected a finite number, at least 0"),
    "radius NaN": ({"spectral_radius": np.nan}, "spectral_radius"),
    "density of 0": ({"density": 0.0}, "density: expected a number above 0"),
    "density above 1": ({"density": 1.5}, "density"),
    "density of a ring": ({"topology": "ring", "density": 0.5}, "density: it is for the random topology"),
    "topology": ({"topology": "star"}, "topology: expected 'random', 'ring'"),
    "a matrix of another size": ({"topology": np.eye(3)}, r"topology: expected a matrix \(10, 10\)"),
    "a matrix that is not square": ({"topology": np.ones((10, 9))}, "topology: expected a square matrix"),
    "a matrix with NaN": ({"topology": np.full((10, 10), np.nan)}, "topology: expected finite"),
    "distribution": ({"distribution": "cauchy"}, "distribution: expected one of"),
    "input_scaling": ({"input_scaling": [1.0, 2.0, 3.0]}, "input_scaling: expected a finite number, or 2 of them"),
    "input_scaling inf": ({"input_scaling": np.inf}, "input_scaling"),
    "input_density": ({"input_density": 0}, "input_density"),
    "bias_scaling": ({"bias_scaling": "much"}, "bias_scaling: expected a finite number"),
    "noise": ({"noise": -0.1}, "noise: expected a finite number, at least 0"),
    "nonlinearity": ({"nonlinearity": "step"}, "nonlinearity"),
    "sparse": ({"sparse": "maybe"}, "sparse: expected True, False or 'auto'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_settings_that_make_no_sense(kind):
    options, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        nn.Reservoir(**{"input_size": 2, "units": 10, "rng": 0, **options})


def test_inputs_that_do_not_fit():
    cell = nn.Reservoir(2, 10, feedback_size=1, rng=0)
    with pytest.raises(tg.errors.ShapeError, match="Reservoir: xs: expected 3 features"):
        nn.scan(cell, draw(5, 1, 2))
    with pytest.raises(TypeError, match=r"Reservoir: xs: expected float64.*astype\('float64'\)"):
        nn.scan(cell, draw(5, 1, 3).astype(np.float32))
    with pytest.raises(tg.errors.StateError, match="Reservoir"):
        nn.scan(cell, draw(5, 1, 3), np.zeros((2, 10)))
    with pytest.raises(TypeError, match="expected float32"):
        nn.Reservoir(1, 5, density=1, trainable=True, dtype=np.float32)(np.ones((1, 1)))


def test_without_scipy(monkeypatch):
    real = sparse.importlib.import_module

    def without(name, *args):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr("tinygrad_rnn.nn.reservoir.has_scipy", lambda: False)
    monkeypatch.setattr(spectrum, "has_scipy", lambda: False)
    monkeypatch.setattr(sparse.importlib, "import_module", without)
    sparse.sparse_arrays.cache_clear()
    cell = nn.Reservoir(1, 500, rng=0)
    assert cell.indices is None and cell.spectral_radius() == pytest.approx(0.9, rel=1e-9)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad_rnn\[reservoir\]'"):
        nn.Reservoir(1, 50, sparse=True, rng=0)


# What is known of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 60, 300])
def test_radii_are_those_of_all_eigenvalues(size):
    w = draw(size, size, seed=size)
    expected = np.abs(np.linalg.eigvals(w)).max()
    assert spectrum.spectral_radius(w) == pytest.approx(expected, rel=1e-9)
    assert spectrum.spectral_radius(sp.csr_matrix(w)) == pytest.approx(expected, rel=1e-9)
    leak = np.linspace(0.1, 1, size)
    expected = np.abs(np.linalg.eigvals(np.diag(leak) @ w + np.diag(1 - leak))).max()
    assert spectrum.effective_spectral_radius(w, leak) == pytest.approx(expected, rel=1e-9)
    assert spectrum.effective_spectral_radius(sp.coo_matrix(w), leak) == pytest.approx(expected, rel=1e-9)


def test_radii_of_what_is_no_square_matrix():
    for w in (np.ones((2, 3)), np.ones(3), [["a"]], np.ones((2, 2), complex)):
        with pytest.raises(ValueError, match="expected a square matrix of numbers"):
            spectrum.spectral_radius(w)
    assert spectrum.spectral_radius(np.zeros((0, 0))) == 0
    assert spectrum.spectral_radius([[2, 0], [0, -3]]) == 3


@pytest.mark.parametrize("leak", [1.0, 0.4])
@pytest.mark.parametrize("size", [0.5, 0.95, 1.5])
def test_proposition_4(leak, size):
    """4a: with a contraction, all states become one. 4b: with an effective radius above 1, 0 repels without input."""
    w = draw(30, 30)
    w *= size / (np.linalg.norm(w, 2) if size < 1 else np.abs(np.linalg.eigvals(w)).max())
    cell = nn.Reservoir(1, 30, topology=w, spectral_radius=None, leak=leak, rng=0)
    found = cell.echo_state_property()
    assert found.contraction == pytest.approx(1 - leak + leak * np.linalg.norm(w, 2))
    assert found.effective_radius == pytest.approx(cell.effective_spectral_radius())
    assert found.holds is (True if size < 1 else False if found.effective_radius > 1 else None)
    xs, starts = draw(300, 1, 1), draw(2, 1, 30)
    if size < 1:
        a, b = [nn.scan(cell, xs, start)[1].data for start in starts]
        assert np.abs(a - b).max() <= found.contraction**300 * np.linalg.norm(starts[0] - starts[1]) + 1e-13
    else:
        assert found.holds is False
        assert np.abs(nn.scan(cell, 0 * xs, 1e-6 * starts[0])[1].data).max() > 0.01


def test_proposition_4_says_nothing_where_it_says_nothing():
    between = np.array([[0.9, 10.0], [0.0, 0.9]])  # of radius .9 and norm 10
    assert spectrum.echo_state_property(between).holds is None
    assert spectrum.echo_state_property(2 * np.eye(2), nonlinearity="relu").holds is None
    assert spectrum.echo_state_property(3 * np.eye(2), nonlinearity="sigmoid").holds is True
    with pytest.raises(ValueError, match="nonlinearity: expected one of 'tanh'"):
        nn.Reservoir(1, 5, density=1.0, nonlinearity=np.sin, rng=0).echo_state_property()


# Several --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, "numpy"])
def test_a_group_is_its_reservoirs_side_by_side(compiled):
    cells = [nn.Reservoir(2, n, leak=a, sparse=s, rng=n) for n, a, s in ((15, 0.2, True), (20, 1.0, False))]
    group, xs = nn.GroupedReservoir(cells), draw(40, 3, 2)
    states, last = nn.scan(group, xs, compiled=compiled)
    assert group.units == 35 and len(last) == 2
    for part, end, cell in zip(group.split(states), last, cells):
        alone, at_last = nn.scan(cell, xs, compiled=False)
        np.testing.assert_allclose(part.data, alone.data, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(end.data, at_last.data, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("compiled", [False, "numpy"])
def test_a_deep_one_is_a_scan_of_a_scan(compiled):
    lower, upper = nn.Reservoir(2, 15, rng=0), nn.Reservoir(15, 10, leak=0.3, rng=1)
    xs = draw(40, 3, 2)
    states, _ = nn.scan(nn.DeepReservoir([lower, upper]), xs, compiled=compiled)
    below = nn.scan(lower, xs, compiled=False)[0].data
    above = nn.scan(upper, below, compiled=False)[0].data
    np.testing.assert_allclose(states.data, np.concatenate([below, above], axis=-1), rtol=1e-12, atol=1e-13)


def test_several_that_do_not_fit():
    a, b = nn.Reservoir(2, 10, rng=0), nn.Reservoir(3, 10, rng=0)
    with pytest.raises(ValueError, match=r"cells\[1\]: expected input_size 2"):
        nn.GroupedReservoir([a, b])
    with pytest.raises(ValueError, match=r"cells\[1\]: expected input_size 10"):
        nn.DeepReservoir([a, b])
    for cells in ([], [nn.RNNCell(1, 2)], [3]):
        with pytest.raises(TypeError, match="cells: expected a list of reservoirs"):
            nn.GroupedReservoir(cells)
