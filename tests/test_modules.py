"""The plain modules: embeddings, dropout, normalisation, and modules around and after modules."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.dropout import Dropout
from tinygrad_rnn.nn.embedding import Embedding
from tinygrad_rnn.nn.norm import LayerNorm
from tinygrad_rnn.nn.residual import DenseBlock, HighwayBlock, ResidualBlock
from tinygrad_rnn.nn.sequential import Sequential


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def gradients_of(module, *inputs, order=2):
    """Check them, with regard to inputs and parameters."""
    parameters = list(module.parameters())

    def f(inputs, weights):
        for p, w in zip(parameters, weights):
            p._data, p.node = w._data, w.node
        return module(*inputs)

    tg.check_gradients(f, inputs, [p.data for p in parameters], order=order)


# Embedding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_idx", [None, 0, -1])
def test_embedding_is_torchs(padding_idx):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Embedding(5, 3, padding_idx=padding_idx, dtype=torch.float64)
    ours = Embedding(5, 3, padding_idx=padding_idx, rng=0, dtype=np.float64)
    with torch.no_grad():
        theirs.weight += 1  # the row of the padding, too: it is what it is, only not trained
    ours.load_state_dict({name: p.numpy() for name, p in theirs.state_dict().items()})
    indices, g = np.array([[0, 4, 4], [2, 0, 4]]), draw(2, 3, 3)
    y, z = ours(indices), theirs(torch.tensor(indices))
    np.testing.assert_array_equal(y.data, z.detach().numpy())
    (y * g).sum().backward()
    (z * torch.tensor(g)).sum().backward()
    np.testing.assert_allclose(ours.weight.grad.data, theirs.weight.grad.numpy(), rtol=1e-12)


def test_embedding_takes_rows_and_adds_gradients():
    table = Embedding(6, 2, padding_idx=-2, rng=0, dtype=np.float64)
    assert table.padding_idx == 4 and not table.weight.data[4].any()
    indices = np.array([3, 4, 3])
    np.testing.assert_array_equal(table(indices).data, table.weight.data[indices])
    table(tg.tensor(indices)).sum().backward()
    np.testing.assert_array_equal(table.weight.grad.data[:, 0], [0, 0, 0, 2, 0, 0])
    gradients_of(Embedding(6, 2, padding_idx=5, rng=0, dtype=np.float64), np.array([[3, 1], [3, 0]]))
    assert table(np.zeros((0, 4), int)).shape == (0, 4, 2) and table(np.array(5)).shape == (2,)
    weight = Embedding(1000, 10, rng=0).weight.data
    assert weight.dtype == np.float32 and abs(weight.std() - 1) < 0.03 and abs(weight.mean()) < 0.03


def test_embedding_on_every_backend(xp):
    table = Embedding(6, 2, padding_idx=1, rng=0)
    indices = np.array([[3, 1], [3, 0]])
    expected = table(indices)
    if xp is not np:
        table.to("cuda")
    y = table(xp.asarray(indices))
    np.testing.assert_array_equal(y.numpy(), expected.data)
    y.sum().backward()
    np.testing.assert_array_equal(table.weight.grad.numpy()[:, 0], [1, 0, 0, 2, 0, 0])


def test_words_into_an_lstm():
    table, cell = Embedding(10, 3, rng=0), nn.LSTMCell(3, 4, rng=0)
    ys, _ = tg.scan(cell, table(np.random.default_rng(0).integers(0, 10, (5, 2))))
    ys.sum().backward()
    assert ys.shape == (5, 2, 4) and table.weight.grad.shape == (10, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: e(np.array([0.0])), TypeError, r"indices: expected an array of integers, got float64 \(1,\)"),
        (lambda e: e([1, 2]), TypeError, r"^Embedding: indices: expected an array or a tensor, got list: make one of "
                                         r"it, with np.asarray\(indices\)$"),
        (lambda e: e(np.array([True])), TypeError, "expected an array of integers, got bool"),
        (lambda e: e(np.array([4, 5])), IndexError, "Embedding: indices: expected 0 to 4, got 4 to 5"),
        (lambda e: e(np.array([-1])), IndexError, "expected 0 to 4, got -1 to -1"),
        (lambda e: Embedding(5, 3, padding_idx=5), ValueError, "padding_idx: expected one of 5 embeddings, got 5"),
        (lambda e: Embedding(0, 3), ValueError, "num_embeddings: expected a whole number, at least 1, got 0"),
        (lambda e: Embedding(2, 3.0), ValueError, "embedding_dim: expected a whole number, at least 1, got 3.0"),
    ],
)  # fmt: skip
def test_embedding_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call(Embedding(5, 3, rng=0))


# Dropout -------------------------------------------------------------------------------------------------------------


def test_dropout_drops_what_its_seed_says():
    x = draw(50, 40)
    layer = Dropout(0.3, rng=5)
    dropped = np.random.default_rng(5).random((50, 40), np.float32) < 0.3
    y = layer(x)
    np.testing.assert_allclose(y.data, np.where(dropped, 0, x / 0.7), rtol=1e-15)
    assert abs(dropped.mean() - 0.3) < 0.04
    assert not np.array_equal(layer(x).data, y.data)
    np.testing.assert_array_equal(Dropout(0.3, rng=5)(x).data, y.data)
    assert layer(x.astype(np.float32)).dtype == np.float32 and layer(np.zeros((0, 3))).shape == (0, 3)
    assert abs(Dropout(0.8, rng=0)(np.ones(100000)).data.mean() - 1) < 0.02


def test_dropout_is_nothing_without_p_and_without_training():
    x = tg.tensor(draw(3))
    assert Dropout(0)(x) is x and Dropout(0.5).eval()(x) is x
    layer = Dropout(0.5, rng=0).eval()
    layer(x)
    np.testing.assert_array_equal(layer.train()(x).data, Dropout(0.5, rng=0)(x).data)


def test_the_gradient_of_dropout_is_masked_alike(xp):
    layer, x = Dropout(0.5, rng=0), tg.tensor(xp.asarray(np.ones(1000)), requires_grad=True)
    y = layer(x)
    (y * y).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 4 * y.numpy())
    assert y.device == x.device

    def f(x):
        layer.rng = np.random.default_rng(0)
        return layer(x) ** 2

    tg.check_gradients(f, draw(4), order=2)


@pytest.mark.parametrize("p", [1, -0.1, float("nan"), "0.5", None])
def test_dropout_refuses(p):
    with pytest.raises(ValueError, match=r"p: expected a probability in \[0, 1\), got"):
        Dropout(p)


def test_dropout_refuses_lists():
    with pytest.raises(TypeError, match=r"dropout: expected an array or a tensor, got list: make one of it, with np"):
        Dropout(0.5)([1.0])


def test_dropout_refuses_integers():
    with pytest.raises(TypeError, match="dropout: expected floating-point numbers, got int64"):
        Dropout(0.5)(np.arange(3))


# LayerNorm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [4, (4,), (3, 4)])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"elementwise_affine": False}, {"eps": 0.1}])
def test_layer_norm_is_torchs(shape, options):
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.LayerNorm(shape, dtype=torch.float64, **options), LayerNorm(shape, dtype=float, **options)
    state = {name: p.detach().numpy() + draw(*p.shape) for name, p in theirs.named_parameters()}
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.tensor(a) for name, a in state.items()})
    x, g = 3 + draw(5, 3, 4), draw(5, 3, 4, seed=2)
    a, b = tg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(a), theirs(b)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-12, atol=1e-13)
    (y * g).sum().backward()
    (z * torch.tensor(g)).sum().backward()
    np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-11, atol=1e-13)
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(p.grad.data, getattr(theirs, name).grad.numpy(), rtol=1e-12, atol=1e-13)


def test_layer_norm_in_its_limits():
    norm = LayerNorm(3)
    constant = tg.tensor(np.full((2, 3), 1e3, np.float32), requires_grad=True)
    y = norm(constant)
    y.sum().backward()
    assert not y.data.any() and not constant.grad.data.any() and y.dtype == np.float32
    assert norm(np.zeros((0, 3), np.float32)).shape == (0, 3)
    huge = norm(np.array([1e15, 0, -1e15], np.float32)).data
    np.testing.assert_allclose(huge, [1.5**0.5, 0, -(1.5**0.5)], rtol=1e-5)
    gradients_of(LayerNorm((2, 3), dtype=float), draw(4, 2, 3))
    assert repr(norm) == "LayerNorm((3,), eps=1e-05)"
    assert repr(LayerNorm(3, bias=False)) == "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=False)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LayerNorm(4)(np.ones((4, 3), "f")), tg.ShapeError,
         r"LayerNorm: x: expected \(4,\) at the end of its shape, got float32 \(4, 3\)"),
        (lambda: LayerNorm(3)(np.ones((4, 3))), TypeError,
         r"LayerNorm: x: expected float32, as the weights are, got float64 \(4, 3\): convert it, astype\('float32'\)"),
        (lambda: LayerNorm(3)(np.ones((4, 3), int)), TypeError, "LayerNorm: x: expected float32, .* got int64"),
        (lambda: LayerNorm(3, elementwise_affine=False)(np.ones((4, 3), int)), TypeError,
         r"LayerNorm: x: expected floating-point numbers, got int64 \(4, 3\): convert it, astype\('float32'\)"),
        (lambda: LayerNorm(3)([1.0, 2.0, 3.0]), TypeError, "LayerNorm: x: expected an array or a tensor, got list: .*"
                                                           r"np.asarray\(x, 'float32'\)"),
        (lambda: LayerNorm(0), ValueError, "normalized_shape: expected a positive number, or some, got 0"),
        (lambda: LayerNorm(()), ValueError, r"normalized_shape: expected a positive number, or some, got \(\)"),
        (lambda: LayerNorm(3, eps=-1), ValueError, "eps: expected a number that is not negative, got -1"),
    ],
)  # fmt: skip
def test_layer_norm_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Linear --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f(np.ones((3, 5), "f")), tg.ShapeError,
         r"Linear: x: expected 3 features on its last axis, got float32 \(3, 5\)"),
        (lambda f: f(np.float32(1)), tg.ShapeError, "Linear: x: expected 3 features"),
        (lambda f: f(np.ones((5, 3))), TypeError,
         r"Linear: x: expected float32, as the weights are, got float64 \(5, 3\): convert it, astype\('float32'\)"),
        (lambda f: f(np.ones((5, 3), int)), TypeError, "Linear: x: expected float32, .* got int64"),
        (lambda f: f([[1.0, 2.0, 3.0]]), TypeError,
         r"Linear: x: expected an array or a tensor, got list: make one of it, with np.asarray\(x, 'float32'\)"),
        (lambda f: nn.Linear(3, 0), ValueError, "Linear: out_features: expected a whole number, at least 1, got 0"),
        (lambda f: nn.Linear(3, 2.0), ValueError, "Linear: out_features: expected a whole number, at least 1, got 2.0"),
        (lambda f: nn.Linear(-1, 2), ValueError, "Linear: in_features: expected a whole number, at least 0, got -1"),
        (lambda f: nn.Linear(True, 2), ValueError, "Linear: in_features: expected a whole number, .* got True"),
    ],
)  # fmt: skip
def test_linear_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.Linear(3, 2, rng=0))


def test_features_on_another_axis_are_suspected():
    with pytest.raises(tg.ShapeError) as caught:
        nn.Linear(3, 2)(np.ones((3, 5), np.float32))
    assert caught.value.__notes__ == ["another axis has that length: are the features last? moveaxis puts them there"]


# Around and after modules ---------------------------------------------------------------------------------------------


def perceptron(seed=0, size=3):
    """W₂ tanh(W₁ x + b₁), as in the residual block of the lectures: without a second bias."""
    return Sequential(
        inside=nn.Linear(size, 5, rng=seed, dtype=float), tanh=tg.tanh,
        outside=nn.Linear(5, size, bias=False, rng=seed + 1, dtype=float),
    )  # fmt: skip


def in_numpy(w, x):
    return np.tanh(x @ w["inside.weight"].T + w["inside.bias"]) @ w["outside.weight"].T


def test_blocks_are_their_equations():
    f, x = perceptron(), draw(4, 3)
    expected = in_numpy(f.state_dict(), x)
    np.testing.assert_allclose(ResidualBlock(f)(x).data, x + expected, rtol=1e-12)
    highway = HighwayBlock(f, 3, rng=0)
    assert highway.transform.weight.dtype == np.float64 and (highway.transform.bias.data == -1).all()
    t = 1 / (1 + np.exp(1 - x @ highway.transform.weight.data.T))
    np.testing.assert_allclose(highway(x).data, t * expected + (1 - t) * x, rtol=1e-12)
    second = nn.Linear(6, 2, rng=3, dtype=float)
    both = np.concatenate([x, expected], -1)
    third = np.concatenate([both, both @ second.weight.data.T + second.bias.data], -1)
    np.testing.assert_allclose(DenseBlock([f, second])(x).data, third, rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [ResidualBlock, lambda f: HighwayBlock(f, 3, rng=2), lambda f: DenseBlock([f, perceptron(4, 6)])],
    ids=["residual", "highway", "dense"],
)
def test_gradients_of_blocks(make):
    gradients_of(make(perceptron()), draw(2, 3))


def test_residual_blocks_that_do_nothing_are_the_identity():
    blocks = Sequential(*[ResidualBlock(perceptron(seed)) for seed in range(50)])
    for block in blocks:
        block.module.outside.weight.data = np.zeros((3, 5))
    x, g = tg.tensor(draw(4, 3), requires_grad=True), draw(4, 3, seed=2)
    y = blocks(x)
    np.testing.assert_array_equal(y.data, x.data)
    (y * g).sum().backward()
    np.testing.assert_array_equal(x.grad.data, g)


def test_the_gradient_of_a_residual_block_has_one_more():
    """dx = (I + ∂F/∂x)ᵀ dy."""
    f, x = perceptron(), draw(3)
    around, through = (tg.jacobian(module)(x) for module in (ResidualBlock(f), f))
    np.testing.assert_allclose(around.data, np.eye(3) + through.data, rtol=1e-13, atol=1e-14)


def test_a_sequential_is_torchs():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    ours = Sequential(nn.Linear(2, 3), tg.tanh, nn.Linear(3, 1))
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.state_dict().items()})
    x = draw(4, 2).astype(np.float32)
    np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_sequential_is_a_sequence(copied):
    model = copied(Sequential(nn.Linear(2, 3, rng=0), np.tanh, drop=Dropout(0.5, rng=0)))
    assert len(model) == 3 and isinstance(model[0], nn.Linear) and model[-1] is model.drop and list(model)[1] is np.tanh
    x = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(model.eval()(x).data, np.tanh(model[0](x).data))
    assert repr(model).splitlines() == ["Sequential(", "  1: tanh", "  0: Linear(2, 3)", "  drop: Dropout(0.5)", ")"]
    assert Sequential()(x) is x


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Sequential(np.tanh, 3), TypeError, "Sequential: 1: expected a module or a function, got 3"),
        (lambda: Sequential(train=np.tanh), ValueError, "Sequential: 'train' is an attribute of the module itself"),
        (lambda: Sequential(names=np.tanh), ValueError, "Sequential: 'names' is an attribute"),
        (lambda: ResidualBlock(nn.Linear(2, 3))(np.ones((4, 2), np.float32)), ValueError,
         r"ResidualBlock: the output is added .* got an output float32 \(4, 3\) of an input float32 \(4, 2\)"),
        (lambda: HighwayBlock(nn.Linear(2, 1), 2)(np.ones((4, 2), np.float32)), ValueError, "HighwayBlock: the output"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
