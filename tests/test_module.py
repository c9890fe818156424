"""Modules: what they hold is found under its names, and can be saved, loaded, moved and shown."""

from __future__ import annotations

import copy
import pickle
import re
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.errors import described
from tinygrad_rnn.nn.recurrent import drawn_from


class Everything(nn.Module):
    """Holds things in every way that there is."""

    def __init__(self, rng):
        self.single = nn.Linear(2, 3, rng=rng)
        self.listed = [nn.Linear(3, 3, rng=rng), (nn.Linear(3, 1, rng=rng),)]
        self.named = {"scale": nn.Parameter(np.ones(3, np.float32))}
        self.tied = self.single
        self.constant = tg.tensor(np.arange(3.0))
        self.trained = tg.tensor(np.zeros(2), requires_grad=True)
        self.computed = self.trained * 2
        self.owner = self
        self.note = "no parameter"

    def forward(self, x):
        return self.single(x)


NAMES = [
    "single.weight", "single.bias", "listed.0.weight", "listed.0.bias", "listed.1.0.weight", "listed.1.0.bias",
    "named.scale", "trained",
]  # fmt: skip


@pytest.fixture
def module():
    return Everything(np.random.default_rng(0))


def test_named_parameters_are_found_once_in_order(module):
    assert [name for name, _ in module.named_parameters()] == NAMES
    assert len(list(module.parameters())) == len(set(module.parameters())) == len(NAMES)
    assert list(module.modules())[:2] == [module, module.single]
    assert len(list(module.modules())) == 4


def test_a_frozen_parameter_stays_a_parameter(module):
    module.single.weight.requires_grad = False
    assert [name for name, _ in module.named_parameters()] == NAMES
    module.zero_grad()


def test_state_dict_has_all_names_and_is_a_snapshot(module):
    state = module.state_dict()
    assert list(state) == [*NAMES[:-1], "tied.weight", "tied.bias", "constant", "trained"]
    assert all(type(a) is np.ndarray for a in state.values())
    before = state["single.weight"].copy()
    module.single.weight.data = before + 1
    np.testing.assert_array_equal(state["single.weight"], before)


def test_load_state_dict_restores_every_bit(module):
    other = Everything(np.random.default_rng(1))
    other.load_state_dict(module.state_dict())
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, module.state_dict()[name])
    given = module.state_dict()
    array = given["trained"] = np.ones(2)
    other.load_state_dict(given)
    array[:] = 7
    assert other.trained.tolist() == [1, 1]


def test_load_state_dict_names_all_that_is_wrong_and_changes_nothing(module):
    before, state = module.state_dict(), module.state_dict()
    del state["named.scale"]
    state |= {"extra": np.zeros(1), "constant": np.zeros(4), "single.bias": np.zeros(3), "trained": np.ones(2)}
    with pytest.raises(ValueError, match="state: does not fit this Everything") as error:
        module.load_state_dict(state)
    for words in (
        "named.scale: missing", "extra: not in this module", "constant: expected float64 (3,), got float64 (4,)",
        "single.bias: expected float32 (3,), got float64 (3,)",
    ):  # fmt: skip
        assert words in str(error.value)
    for name, array in module.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match="constant: expected"):
        module.load_state_dict(state, strict=False)
    module.load_state_dict({"trained": np.ones(2), "extra": 1}, strict=False)
    assert module.trained.tolist() == [1, 1]


@pytest.mark.parametrize("state", [None, 3, [("weight", np.zeros((3, 2)))], nn.Linear(2, 3, rng=0)])
def test_what_is_no_dict_is_no_state(module, state):
    message = f"state: expected a dict of arrays by name, like state_dict()'s, got {described(state)}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        module.load_state_dict(state)


def test_what_is_no_array_is_named():
    message = (
        "state: does not fit this Linear:\n"
        "  weight: data: expected numbers in a regular shape, got dict (object)\n"
        "  bias: data: expected numbers in a regular shape, got NoneType (object)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        nn.Linear(2, 3).load_state_dict({"weight": {"a": 1}, "bias": None})


class Tied(nn.Module):
    """An encoder and a decoder with one weight, and one generator."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.encoder, self.decoder = nn.Linear(3, 3, rng=rng), nn.Linear(3, 3, rng=rng)
        self.decoder.weight = self.encoder.weight
        self.dropped = [nn.Dropout(0.5, rng=rng), nn.Dropout(0.5, rng=rng)]
        self.constant = self.same = tg.tensor(np.zeros(2))


def test_tied_weights_take_one_value():
    model, state = Tied(), Tied().state_dict()
    model.load_state_dict(state)
    before = model.state_dict()
    with pytest.raises(ValueError, match="state: does not fit this Tied:") as error:
        model.load_state_dict(state | {"decoder.weight": state["encoder.weight"] + 1, "same": np.full(2, np.nan)})
    assert str(error.value).splitlines()[1:] == [
        "  encoder.weight, decoder.weight: one tensor in this module, and two values",
        "  constant, same: one tensor in this module, and two values",
    ]
    assert all((model.state_dict()[name] == x).all() for name, x in before.items())
    model.load_state_dict({"decoder.weight": np.ones((3, 3), np.float32)}, strict=False)
    assert (model.encoder.weight.data == 1).all()
    model.load_state_dict({name: np.full_like(x, np.nan) for name, x in state.items()})


class Holder(nn.Module):
    pass


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"table": {0: nn.Parameter(np.zeros(1)), "0": nn.Parameter(np.ones(1))}}, "table.0"),
        ({"table": {0: nn.Linear(1, 1, rng=0), "0": nn.Linear(1, 1, rng=0)}}, "table.0.weight"),
        ({"a": {"b.c": nn.Parameter(np.zeros(1)), "b": {"c": nn.Parameter(np.ones(1))}}}, "a.b.c"),
        ({"a.b": tg.tensor(np.zeros(1)), "a": {"b": tg.tensor(np.ones(1))}}, "a.b"),
    ],
)
def test_two_tensors_of_one_name_are_refused(attributes, name):
    module = Holder()
    vars(module).update(attributes)
    message = (
        f"Holder: two tensors in it are called {name!r}, for example by keys 0 and '0' of a dict, or by a key with a "
        "dot: rename one"
    )
    for call in (module.state_dict, module.zero_grad, lambda: module.load_state_dict({}, strict=False)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


def test_one_tensor_under_one_name_twice_is_one():
    module, layer = Holder(), nn.Linear(1, 1, rng=0)
    module.table = {0: layer, "0": layer}
    assert list(module.state_dict()) == ["table.0.weight", "table.0.bias"]


def test_named_modules_and_members(module):
    assert [name for name, _ in module.named_modules()] == ["", "single", "listed.0", "listed.1.0"]
    assert [m for _, m in module.named_modules()] == list(module.modules())
    assert [name for name, _ in module.named_members()] == [
        "single", "listed.0", "listed.1.0", "named.scale", "tied", "constant", "trained", "owner",
    ]  # fmt: skip
    for part in module.modules():  # what is done to them meanwhile does not matter
        part.added = nn.Linear(1, 1, rng=0)
    assert len(list(module.modules())) == 8


def test_train_and_eval_reach_all(module):
    assert module.training
    assert module.eval() is module
    assert not any(m.training for m in module.modules())
    assert all(m.training for m in module.train().modules())


def test_zero_grad(module):
    module(np.ones((1, 2), np.float32)).sum().backward()
    assert module.single.weight.grad is not None
    module.zero_grad()
    assert module.single.weight.grad is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_are_whole_and_independent(module, copied):
    del module.computed
    other = copied(module)
    assert isinstance(other.single.weight, nn.Parameter) and other.single.weight.requires_grad
    assert other.tied is other.single
    assert [name for name, _ in other.named_parameters()] == NAMES
    other.single.weight.data = other.single.weight.data + 1
    assert not np.array_equal(other.single.weight.data, module.single.weight.data)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_what_is_shared_in_a_module_is_shared_in_its_copy(copied):
    model = Tied()
    model.encoder.weight.requires_grad = False
    model.encoder(np.ones((1, 3), np.float32)).sum().backward()
    model.dropped[0](np.ones(5))
    other = copied(model)
    assert other.decoder.weight is other.encoder.weight is not model.encoder.weight
    assert other.constant is other.same is not model.constant
    assert isinstance(other.encoder.weight, nn.Parameter) and not other.encoder.weight.requires_grad
    grad, again = model.encoder.bias.grad, other.encoder.bias.grad
    assert again is None if copied is not copy.deepcopy else (again is not grad and again.tolist() == grad.tolist())
    rngs = [dropout.rng for dropout in other.dropped]
    assert rngs[0] is rngs[1] is not model.dropped[0].rng
    np.testing.assert_array_equal(other.dropped[1](np.ones(50)).data, model.dropped[1](np.ones(50)).data)
    other.decoder.weight.data = np.zeros((3, 3), np.float32)
    assert not other.encoder.weight.data.any() and model.encoder.weight.data.any()


def test_copy_makes_another_module_of_the_same_weights():
    model = Tied()
    other = copy.copy(model)
    other.eval()
    assert other is not model and model.training and list(other.parameters()) == list(model.parameters())
    other.decoder = nn.Linear(3, 3, rng=0)
    assert model.decoder is not other.decoder


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_networks_and_wrappers_are_copied_whole(copied):
    xs = np.ones((4, 2, 3), np.float32)
    for model in (
        nn.GRU(3, 4, num_layers=2, bidirectional=True, dropout=0.5, rng=0),
        nn.Recurrent([nn.Zoneout(nn.LSTMVariantCell(3, 4, peepholes=True, rng=0), 0.5, rng=1)], learned_state=True),
    ):
        other = copied(model)
        assert list(other.state_dict()) == list(model.state_dict())
        np.testing.assert_array_equal(other(xs)[0].data, model(xs)[0].data)
        assert not set(other.parameters()) & set(model.parameters())


def test_repr_is_a_tree(module):
    del module.owner
    assert repr(module).splitlines() == [
        "Everything(", "  single: Linear(2, 3)", "  listed.0: Linear(3, 3)", "  listed.1.0: Linear(3, 1)",
        "  tied: Linear(2, 3)", ")",
    ]  # fmt: skip


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module: a module computes in forward"):
        nn.Module()(1)


def test_to_moves_values_and_gradients(xp):
    module = nn.Linear(2, 3, rng=0)
    x = np.ones((4, 2), np.float32)
    module(x).sum().backward()
    expected, grad = module(x).numpy(), module.weight.grad.numpy()
    device = "cpu" if xp is np else "cuda"
    assert module.to(device) is module
    assert module.weight.device.startswith(device)
    y = module(tg.tensor(x, device=device))
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(module.weight.grad.numpy(), grad)
    y.sum().backward()
    np.testing.assert_allclose(module.weight.grad.numpy(), 2 * grad, rtol=1e-6)
    state = module.state_dict()
    assert type(state["weight"]) is np.ndarray
    module.load_state_dict(state)
    assert module.weight.device.startswith(device)


@pytest.mark.parametrize("dtype", [np.float64, "float64", float, np.dtype(np.float64)])
def test_astype_converts_parameters_gradients_and_constants(dtype):
    module, x = Everything(np.random.default_rng(0)), np.ones((4, 2), np.float32)
    module.count = tg.tensor([1, 2])
    module(x).sum().backward()
    before, grad, parameters = module.state_dict(), module.single.weight.grad.numpy(), [*module.parameters()]
    assert module.astype(dtype) is module
    assert [*module.parameters()] == parameters and module.tied.weight is module.single.weight
    after = module.state_dict()
    assert {name: a.dtype for name, a in after.items() if a.dtype != np.float64} == {"count": np.int64}
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name])
    assert module.single.weight.grad.dtype == np.float64
    module(x.astype(float)).sum().backward()
    np.testing.assert_allclose(module.single.weight.grad.numpy(), 2 * grad, rtol=1e-6)
    module.single.weight.requires_grad = False
    module.astype(np.float32)
    assert (module.single.weight.dtype, module.single.weight.requires_grad) == (np.float32, False)


@pytest.mark.parametrize("make", [
    lambda dtype: nn.LSTMCell(2, 3, rng=0, dtype=dtype),
    lambda dtype: nn.LearnedState(nn.GRUCell(2, 3, rng=0, dtype=dtype)),
    lambda dtype: nn.Reservoir(2, 30, density=0.1, sparse=True, rng=0, dtype=dtype),
])  # fmt: skip
def test_a_converted_cell_runs_as_one_that_was_made_so(make):
    """On the tape and compiled; a program that was made for the other dtype is not taken for it."""
    if make(float).__class__ is nn.Reservoir:
        pytest.importorskip("scipy")
    xs = np.random.default_rng(0).standard_normal((40, 2, 2))
    cell, like = make(np.float32), make(np.float64)
    tg.scan(cell, xs.astype(np.float32))
    cell.astype(np.float64)
    like.load_state_dict(cell.state_dict())
    for mode in (False, "auto"):
        ys, expected = [tg.scan(c, xs, compiled=mode)[0] for c in (cell, like)]
        np.testing.assert_array_equal(ys.data, expected.data)
        for y in [ys, expected] if ys.requires_grad else []:  # a reservoir is not trained
            (y * y).sum().backward()
    for p, q in zip(cell.parameters(), like.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad.data, q.grad.data)


@pytest.mark.parametrize("dtype", [int, "bogus", None, bool, complex, "cpu"])
def test_astype_wants_a_floating_point_dtype(module, dtype):
    with pytest.raises(TypeError, match=r"^dtype: expected a floating-point dtype, such as np.float64, got "):
        module.astype(dtype)


def test_astype_loses_no_number_and_changes_all_or_nothing():
    module = nn.Sequential(nn.Linear(1, 1, rng=0, dtype=float), nn.Linear(1, 1, rng=0, dtype=float))
    module[1].bias.data = np.array([-1e300])
    with pytest.raises(ValueError, match=r"^1.bias: 1e\+300 is too large for float32$"):
        module.astype(np.float32)
    module[1].bias.data = np.array([np.inf])
    with (
        module.replaced({"0.weight": tg.tensor([[1.0]], requires_grad=True) * 2}),
        pytest.raises(RuntimeError, match=r"^0.weight: something else takes its place here: .* outside of replaced"),
    ):
        module.astype(np.float32)
    assert {p.dtype for p in module.parameters()} == {np.dtype(float)}
    assert module.astype(np.float32)[1].bias.item() == np.inf


def test_errors_of_dtype_point_to_astype():
    cell, xs = nn.GRUCell(2, 3, rng=0), np.ones((4, 1, 2))
    ways = r": convert it, astype\('float32'\), or the weights, module.astype\('float64'\)$"
    with pytest.raises(TypeError, match=ways):
        tg.scan(cell, xs)
    with pytest.raises(TypeError, match=ways):
        tg.scan(nn.Reservoir(2, 3, rng=0, dtype=np.float32), xs)
    with pytest.raises(TypeError, match=r"convert it, astype\('float32'\)$"):
        tg.scan(cell, xs.astype(int))
    assert tg.scan(cell.astype("float64"), xs)[0].dtype == np.float64


def test_linear_is_torchs():
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.Linear(5, 3), nn.Linear(5, 3, rng=0)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.named_parameters()})
    x = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert [name for name, _ in nn.Linear(2, 3, bias=False, rng=0).named_parameters()] == ["weight"]


def test_linear_draws_within_its_bound():
    weight, bias = nn.Linear(25, 1000, rng=0).parameters()
    assert weight.shape == (1000, 25) and bias.shape == (1000,) and weight.dtype == np.float32
    for p in (weight, bias):
        assert 0.19 < np.abs(p.data).max() <= 0.2
        assert abs(p.data.std() - 0.2 / 3**0.5) < 0.01


def test_the_same_seed_draws_the_same_bits():
    def draw(rng):
        return [p.data for cell in (nn.Linear, nn.RNNCell, nn.IRNNCell, nn.GRUCell, nn.LSTMCell)
                for p in cell(3, 4, rng=rng).parameters()]  # fmt: skip

    for a, b in zip(draw(3), draw(3)):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(draw(np.random.default_rng(3)), draw(np.random.default_rng(3))):
        np.testing.assert_array_equal(a, b)
    rng = np.random.default_rng(3)
    a, b = nn.Linear(3, 4, rng=rng), nn.Linear(3, 4, rng=rng)
    assert not np.array_equal(a.weight.data, b.weight.data)


def test_a_parameter_is_not_updated_in_place():
    """Outside of no_grad(), too: there the loop would train nothing, and the weight be no parameter any more."""
    model = nn.Linear(2, 1, rng=0)
    for recording in tg.enable_grad(), tg.no_grad():
        with recording, pytest.raises(TypeError, match=r"write p.data = p.data - y, or use an optimiser"):
            model.weight -= 0.1
        with recording, pytest.raises(TypeError, match=r"write p.data = p.data - y"):
            model.weight //= 2
    assert list(model.state_dict()) == ["weight", "bias"]


def test_parameters_replaced_are_arguments():
    """The gradient by the arguments is that by the parameters; and the module is left as it was, whatever happens."""
    model = nn.Linear(2, 3, rng=0, dtype=np.float64)
    x, weights = np.ones((4, 2)), {name: 2 * p.data for name, p in model.named_parameters()}
    before = model.state_dict()

    def f(weights):
        with model.replaced(weights):
            return (model(x) ** 3).sum()

    other = nn.Linear(2, 3, rng=0, dtype=np.float64)
    other.load_state_dict(weights)
    (other(x) ** 3).sum().backward()
    for name, g in tg.grad(f)(weights).items():
        np.testing.assert_array_equal(g.data, getattr(other, name).grad.data)
    with pytest.raises(ZeroDivisionError), model.replaced(weights):
        raise ZeroDivisionError
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.data, before[name])
        assert p.grad is None and p.requires_grad


@pytest.mark.parametrize(("weights", "message"), [
    ({"weigth": np.ones((3, 2))}, "weigth: not a parameter of this module"),
    ({"weight": np.ones((2, 3))}, r"weight: expected .*float64 \(3, 2\).*, got .*float64 \(2, 3\)"),
    ({"bias": np.ones(3, np.float32)}, "bias: expected .*float64.*, got .*float32"),
])  # fmt: skip
def test_parameters_are_replaced_by_what_fits(weights, message):
    model = nn.Linear(2, 3, rng=0, dtype=np.float64)
    with pytest.raises(ValueError, match=message), model.replaced(weights):
        pass


def test_replaced_parameters_are_still_parameters():
    """With their names and values, so that blocks nest; and what is shared may be called by either name."""
    model = nn.Sequential(nn.Linear(2, 2, rng=0, dtype=np.float64), nn.Linear(2, 2, rng=1, dtype=np.float64))
    model[1].weight = model[0].weight
    ones = 2 * tg.tensor(np.ones((2, 2)), requires_grad=True)
    names = [name for name, _ in model.named_parameters()]
    with model.replaced({"1.weight": ones}):
        assert [name for name, _ in model.named_parameters()] == names
        np.testing.assert_array_equal(model.state_dict()["0.weight"], 2)
        with model.replaced({"0.weight": np.zeros((2, 2))}):
            np.testing.assert_array_equal(model[1].weight.data, 0)
        np.testing.assert_array_equal(model[1].weight.data, 2)
    with (
        pytest.raises(ValueError, match=r"0.weight, 1.weight: one tensor in this module, and two values"),
        model.replaced({"0.weight": ones, "1.weight": ones}),
    ):
        pass
    with pytest.raises(TypeError, match="weights: expected a dict of tensors by name"), model.replaced([ones]):
        pass


def test_plain_tensors_are_replaced_like_parameters():
    class Plain(nn.Module):
        def __init__(self):
            self.w = tg.tensor(np.ones(2), requires_grad=True)

    model, x = Plain(), tg.tensor(np.full(2, 3.0), requires_grad=True)
    with model.replaced({"w": x * 2}):
        assert [name for name, _ in model.named_parameters()] == list(model.state_dict()) == ["w"]
        with model.replaced({"w": np.zeros(2)}):
            assert not model.w.data.any()
        assert tg.gradients((model.w**2).sum(), x).data.tolist() == [24.0, 24.0]
        with pytest.raises(RuntimeError, match=r"w: something else takes its place here"):
            model.astype(np.float32)
    assert model.astype(np.float32).w.dtype == np.float32


@pytest.mark.parametrize("value", [np.ones((1, 2)), 1.0, "computed"])
def test_an_array_does_not_take_the_place_of_a_parameter(value):
    model = nn.Linear(2, 1, rng=0)
    value = model.weight * 2 if isinstance(value, str) else value
    with pytest.raises(TypeError, match=r"weight: it is a parameter of Linear, .*: give it new values"):
        model.weight = value
    assert [name for name, _ in model.named_parameters()] == ["weight", "bias"]
    model.weight, model.bias = nn.Parameter(np.ones((1, 2))), None
    assert [name for name, _ in model.named_parameters()] == ["weight"]


def test_a_module_may_hold_anything():
    """Looking for generators, in lists, too, neither copies nor changes what is there."""

    class Names(list):
        def __init__(self, first, second):
            super().__init__([first, second])

    cell = nn.RNNCell(2, 3, rng=0)
    cell.names, cell.version, cell.rngs = Names("a", "b"), sys.version_info, {"rng": [np.random.default_rng(0)]}
    assert drawn_from(cell) == cell.rngs["rng"] and type(cell.names) is Names
    tg.scan(cell, np.zeros((0, 1, 2), np.float32))


def test_initialisers():
    for shape in ((3, 5), (5, 3), (4, 4)):
        w = nn.init.orthogonal(shape, gain=2.0, rng=0, dtype=np.float64)
        assert w.shape == shape
        product = w @ w.T if shape[0] <= shape[1] else w.T @ w
        np.testing.assert_allclose(product, 4 * np.eye(min(shape)), atol=1e-14)
    assert nn.init.identity((2, 3), gain=0.5).tolist() == [[0.5, 0, 0], [0, 0.5, 0]]
    assert abs(nn.init.normal((10000,), 0.3, rng=0).std() - 0.3) < 0.01
    for make in (nn.init.normal, nn.init.uniform, nn.init.orthogonal):
        assert make((2, 2), 1.0, rng=0, dtype=np.float32).dtype == np.float32


def test_cross_entropy_is_the_negative_logarithm_of_the_probability():
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((2, 3, 5)), rng.integers(0, 5, (2, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, targets[..., None], axis=-1)).mean()
    assert abs(float(nn.cross_entropy(logits, targets)) - expected) < 1e-14
    x = tg.tensor(logits, requires_grad=True)
    nn.cross_entropy(x, targets).backward()
    np.testing.assert_allclose(x.grad.data, (p - np.eye(5)[targets]) / 6, atol=1e-15)
    tg.check_gradients(lambda x: nn.cross_entropy(x, targets), logits, order=2)


def test_cross_entropy_of_huge_logits_is_finite():
    x = tg.tensor([[1e30, -1e30], [-1e4, 1e4]], requires_grad=True)
    loss = nn.cross_entropy(x, np.array([0, 0]))
    loss.backward()
    assert float(loss) == 1e4
    assert x.grad.tolist() == [[0, 0], [-0.5, 0.5]]
    assert nn.cross_entropy(tg.tensor(np.zeros((1, 2), np.float32)), np.array([0])).dtype == np.float32


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros(3, int), r"targets: expected integers of shape \(2,\), .* got int64 \(3,\)"),
        (np.zeros(2), r"targets: expected integers .* got float64 \(2,\)"),
        (np.array([0, 5]), "targets: expected classes 0 to 4, got 0 to 5"),
        (np.array([-1, 0]), "targets: expected classes 0 to 4, got -1 to 0"),
    ],
)
def test_cross_entropy_refuses_wrong_targets(targets, message):
    with pytest.raises(ValueError, match=message):
        nn.cross_entropy(np.zeros((2, 5)), targets)


def test_mse():
    a, b = np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])
    assert float(nn.mse(a, b)) == 6.5
    tg.check_gradients(nn.mse, a, b, order=2)
    with pytest.raises(ValueError, match=r"target: expected shape \(1, 2\), like the prediction, got \(2,\)"):
        nn.mse(a, b[0])
