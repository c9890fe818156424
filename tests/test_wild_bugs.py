"""Bugs that other engines had, each once, by number; the threads where people met them are in the docstrings."""

import gc
import warnings
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.modes import Observer, switched


def leaf(*shape, dtype=np.float64, seed=0):
    return tg.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(dtype), requires_grad=True)


def given(values, dtype=np.float64):
    return tg.tensor(np.array(values, dtype), requires_grad=True)


def gradient(f, *values):
    """The gradients of the sum of f; of one value, the gradient alone."""
    xs = [given(v) for v in values]
    ds = [d.data for d in tg.gradients(f(*xs).sum(), xs)]
    return ds[0] if len(ds) == 1 else ds


def quietly(f, *values):
    """The same for values where NumPy warns of infinities."""
    with np.errstate(all="ignore"):
        return gradient(f, *values)


@pytest.mark.parametrize(
    "op", [tg.add, tg.subtract, tg.multiply, tg.divide, tg.maximum, tg.hypot, tg.power, tg.arctan2]
)
@pytest.mark.parametrize(
    "shapes", [((3,), (2, 3)), ((2, 1), (1, 3)), ((), (2, 3)), ((2, 3, 1), (3, 4)), ((1, 1, 3), (3,))]
)
def test_01_gradients_of_broadcast_operands_are_summed(op, shapes):
    """pytorch#1787, #818, #913; burn#181; nd4j#2424; raskr/rust-autograd#38; tt-metal#40008; Odyssey#2080"""
    a, b = leaf(*shapes[0]), leaf(*shapes[1], seed=1)
    tg.check_gradients(op, a, b)
    for d, x in zip(tg.gradients(op(a, b).sum(), [a, b]), (a, b)):
        assert d.shape == x.shape


@pytest.mark.parametrize("shapes", [((4, 0), (4, 1)), ((0,), (1,)), ((0, 3), (3,)), ((2, 0), ()), ((1, 0), (5, 1))])
def test_02_broadcasting_against_a_dimension_of_size_0(shapes):
    """pytorch#15223, #15796"""
    a, b = leaf(*shapes[0]), leaf(*shapes[1])
    for d, x in zip(tg.gradients((a * b).sum(), [a, b]), (a, b)):
        assert d.shape == x.shape
        assert not d.data.any()


def test_03_a_reused_value_waits_for_all_of_its_gradients():
    """micrograd#2, #68; cTensor#5; TrenTorch#182; autobw#7"""
    a = tg.tensor(3.0, requires_grad=True)
    b = a * 2.0
    c = b + a
    d = b * c + c  # b is used by c, and later again
    d.backward()
    assert a.grad.item() == 2 * 9 + 6 * 3 + 3


@pytest.mark.parametrize(
    "f",
    [lambda x: x @ x, lambda x: x * x * x, lambda x: tg.dot(x, x.T), lambda x: tg.maximum(x, x),
     lambda x: tg.einsum("ij,ij,ij->", x, x, x), lambda x: tg.concatenate([x, x], 1) @ tg.stack([x, x]).reshape(6, 3)],
)  # fmt: skip
def test_04_the_same_tensor_in_two_slots(f):
    """Paddle#11977; neon#169; nnabla#532; tensorflow#36999"""
    tg.check_gradients(f, leaf(3, 3))
    x = leaf(3, 3)
    y, z = (tg.tensor(x.detach(), requires_grad=True) for _ in range(2))
    d = tg.gradients((x @ x).sum(), x).data
    assert np.allclose(d, sum(g.data for g in tg.gradients((y @ z).sum(), [y, z])))


@pytest.mark.parametrize("n", range(1, 12))
def test_05_a_value_used_many_times(n):
    """mxnet#17989, #16708"""
    x = leaf(2)
    h = x * 1.0
    sum((tg.tanh(h) for _ in range(n)), start=tg.tensor(np.zeros(2))).sum().backward()
    assert np.allclose(x.grad.data, n * (1 - np.tanh(x.data) ** 2))


def test_06_gradients_share_no_buffer_that_is_added_to():
    """pytorch#181723; ggml#1501; Paddle#37367, #37420; oneflow#6146"""
    x, y = leaf(3), leaf(3)
    s = x + y
    t = s + s + x
    t.sum().backward()
    assert x.grad.tolist() == [3.0] * 3
    assert y.grad.tolist() == [2.0] * 3
    assert not np.shares_memory(x.grad._data, y.grad._data)
    (x * 1.0).sum().backward()
    assert x.grad.tolist() == [4.0] * 3
    assert y.grad.tolist() == [2.0] * 3
    g = np.ones(3)
    (d,) = tg.gradients(x + 0.0, [x], g)
    assert not np.shares_memory(d._data, g)


def test_07_ties_share_the_gradient():
    """HIPS/autograd#138, #141, #212; mxnet#18563; pytorch#56734; dfdx#111; jax#13600; MyGrad's maximum"""
    assert gradient(tg.max, [2.0, 1.0, 2.0]).tolist() == [0.5, 0.0, 0.5]
    assert gradient(tg.min, [1.0, 1.0, 1.0, 1.0]).tolist() == [0.25] * 4
    assert gradient(lambda x: tg.max(tg.stack([x, x]), axis=0), [1.0, 2.0]).tolist() == [1.0, 1.0]
    a, b = gradient(tg.maximum, [1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert a.tolist() == [0.5, 0.0, 1.0]
    assert b.tolist() == [0.5, 1.0, 0.0]


def test_08_what_where_does_not_select_has_the_gradient_0():
    """pytorch#9688, #12986, #15506, #18287, #23395, #36923, #52248, #68425, #108618, #156212, #187297, #89543;
    tinygrad#12409, #15806"""
    for f in (
        lambda x: tg.where(x.data > 0, tg.sqrt(x), 0.0), lambda x: tg.where(x.data > 0, tg.log(x), 0.0),
        lambda x: tg.where(x.data > 0, 1 / x, 0.0), lambda x: tg.where(x.data > 0, x**0.5, x),
        lambda x: tg.where(x.data > 0, x / x, 0.0), lambda x: tg.where(x.data > 0, tg.arctan2(x, x), 0.0),
        lambda x: tg.where(x.data > 0, tg.reciprocal(x * x), 0.0),
    ):  # fmt: skip
        d = quietly(f, [0.0, 4.0])
        assert d[0] in (0.0, 1.0)
        assert np.isfinite(d).all()


def test_09_roots_norms_and_deviations_at_0():
    """pytorch#2421, #2775, #4320, #3264; HIPS#151, #183, #268, #370; jax#21723, #11716, #39792; tensorflow#56830;
    keras#2960; stan#379"""
    assert quietly(tg.sqrt, [0.0]).tolist() == [np.inf]
    assert quietly(lambda x: 0.0 * tg.sqrt(x), [0.0]).tolist() == [0.0]
    assert gradient(tg.norm, [0.0, 0.0]).tolist() == [0.0, 0.0]
    assert gradient(lambda x: tg.norm(x, axis=1), [[0.0, 0.0], [3.0, 4.0]]).tolist() == [[0.0, 0.0], [0.6, 0.8]]
    assert gradient(tg.std, [2.0, 2.0, 2.0]).tolist() == [0.0, 0.0, 0.0]
    assert [d.tolist() for d in gradient(tg.hypot, [0.0], [0.0])] == [[0.0], [0.0]]
    assert [d.tolist() for d in gradient(tg.arctan2, [0.0], [0.0])] == [[0.0], [0.0]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_10_softmax_and_logsumexp_do_not_overflow(dtype):
    """pytorch#31829, #1620; FluxML/NNlib#68; allennlp#890; tinygrad#17822, #17853"""
    for row in ([1e3, -1e3, 0.0], [1e30, 1e30, 1e30], [-np.inf, 0.0, 1.0], [-1e30, -1e30, -1e30]):
        for f in (tg.softmax, tg.log_softmax, lambda x: tg.logsumexp(x, axis=-1)):
            x = given([row], dtype)
            y = f(x)
            assert not np.isnan(y.data).any()
            (d,) = tg.gradients(y, [x], np.ones(y.shape, dtype))
            assert not np.isnan(d.data).any()
            assert d.dtype == dtype
    x = given([[-np.inf, -np.inf]], dtype)
    assert tg.logsumexp(x, axis=1).tolist() == [-np.inf]
    assert not np.isnan(tg.gradients(tg.logsumexp(x, axis=1).sum(), x).data).any()


def test_11_no_write_after_the_forward_reaches_the_tape():
    """pytorch#14571, #26546, #178315, #185286; Paddle#27901; Liger#272, #273; pytorch/xla#1718"""
    x, w = leaf(3), np.array([1.0, 2.0, 3.0])
    y = (x * w).sum()
    w[:] = 100.0
    y.backward()
    assert x.grad.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        tg.exp(x).data[:] = 0.0
    with pytest.raises(TypeError, match="cannot be written into"):
        x[0] = 5.0


def test_12_places_that_are_named_twice_are_added_to_twice():
    """HIPS#39, #136, #263; pytorch#1528; mxnet#9172; pytensor#2242; numpy#8866"""
    for f in (
        lambda x: x[[0, 0, 1]], lambda x: x[np.array([0, -3, 1])], lambda x: tg.take(x, [0, 0, 1]),
        lambda x: tg.take(x, [[0, 0], [1, 1]], axis=0)[:, 0] * np.array([2.0, 1.0]),
        lambda x: tg.take_along_axis(x, [0, 0, 1]),
    ):  # fmt: skip
        assert gradient(f, [1.0, 2.0, 3.0]).tolist() == [2.0, 1.0, 0.0]
    x, v = gradient(lambda x, v: x.at[[0, 0]].add(v) * np.array([1.0, 2.0]), [1.0, 2.0], [3.0, 4.0])
    assert x.tolist() == [1.0, 2.0]
    assert v.tolist() == [1.0, 1.0]


def test_12b_adding_at_an_index_of_more_dimensions_broadcasts():
    """NumPy's own add.at, 2.4.6: reads past the end of values that are to be broadcast to an index of two dimensions"""
    index = np.array([[0, 1], [1, 1]])
    for v, right in [
        ([10.0, 20.0], [10.0, 50.0]),
        ([[10.0], [20.0]], [10.0, 50.0]),
        (5.0, [5.0, 15.0]),
        ([5.0], [5.0, 15.0]),
    ]:
        assert tg.at(np.zeros(2))[index].add(np.array(v)).tolist() == right
        x = given([1.0, 2.0])
        y = x.at[index].add(given(v))
        assert y.tolist() == [1 + right[0], 2 + right[1]]
    tg.check_gradients(lambda x, v: x.at[index].add(v), leaf(2), leaf(2))


def test_13_powers_at_0():
    """pytorch#27134, #95180; tfjs#346; stan-math#3031; drake#17655, #23862; tinygrad#9075; ChainRules#513"""
    for b, right in [(0, 0.0), (0.0, 0.0), (1, 1.0), (1.0, 1.0), (2, 0.0), (2.5, 0.0), (0.5, np.inf)]:
        assert quietly(lambda x, b=b: x**b, [0.0]).tolist() == [right]
        assert quietly(lambda x, b=b: x ** np.array([b]), [0.0]).tolist() == [right]
    assert gradient(lambda x: x**2, [-2.0]).tolist() == [-4.0]
    assert gradient(lambda x: x**3.0, [-2.0]).tolist() == [12.0]
    assert quietly(lambda b: 0.0**b, [2.0, 0.5]).tolist() == [0.0, 0.0]


def test_14_products_with_zeros():
    """tensorflow#3862, #2641; burn#5141, #5533; pytensor#1911; mxnet#17864; pytorch#82644; autograd 1.9.1"""
    assert gradient(tg.prod, [2.0, 0.0, 3.0]).tolist() == [0.0, 6.0, 0.0]
    assert gradient(tg.prod, [0.0, 0.0, 3.0]).tolist() == [0.0, 0.0, 0.0]
    assert gradient(tg.cumprod, [2.0, 0.0, 3.0]).tolist() == [1.0, 8.0, 0.0]
    assert gradient(tg.cumprod, [0.0, 2.0, 0.0, 3.0]).tolist() == [3.0, 0.0, 0.0, 0.0]
    for values in ([2.0, 0.0, 3.0], [0.0, 0.0, 3.0]):
        tg.check_gradients(lambda x: tg.prod(x) + tg.cumprod(x).sum(), given(values), order=2)


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_15_negative_axes(axis):
    """tensorflow#6377, #10835; tfjs-core#1267; Theano#2747; swift#23649; nnabla#813; HIPS#98; nx#1536"""
    x, y = leaf(2, 3, 4), leaf(2, 3, 4, seed=1)
    for f in (
        lambda x, y, k: tg.concatenate([x, y], k), lambda x, y, k: tg.stack([x, y], k),
        lambda x, y, k: tg.stack([x, y], k - 1),
        lambda x, y, k: tg.prod(x, k) + tg.sum(y, k), lambda x, y, k: tg.cumsum(x, k) * y,
        lambda x, y, k: tg.unstack(x, k)[1],
        lambda x, y, k: tg.softmax(x, k) * tg.flip(y, k), lambda x, y, k: tg.expand_dims(x * y, k),
        lambda x, y, k: tg.roll(x, 1, k) * y,
        lambda x, y, k: tg.tensordot(x, y, ((k,), (k,))), lambda x, y, k: tg.moveaxis(x, k, 0),
        lambda x, y, k: tg.repeat(x, 2, k),
        lambda x, y, k: tg.take(x * y, [0, 1, 0], k), lambda x, y, k: tg.max(x, k, keepdims=True) * y,
    ):  # fmt: skip
        tg.check_gradients(lambda x, y, f=f: f(x, y, axis) ** 2, x, y)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), (1, -1), (), (2, 0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_16_axes_and_keepdims(axis, keepdims):
    """cs249r_book#1867; pytorch#1813"""
    for f in (tg.sum, tg.mean, tg.max, tg.prod, tg.var, tg.logsumexp):
        tg.check_gradients(lambda x, f=f: f(x, axis=axis, keepdims=keepdims) ** 2, leaf(2, 2, 3))
    tg.check_gradients(lambda x: tg.sum(x, 0) * tg.max(x), leaf(4))


@pytest.mark.parametrize(
    "shapes",
    [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)), ((4, 2, 3), (3, 2)),
     ((2, 3), (4, 3, 2)),
     ((4, 1, 2, 3), (5, 3, 2)), ((1, 2, 3), (4, 3, 1)), ((2, 0), (0, 3))],
)  # fmt: skip
def test_17_matmul_of_every_rank(shapes):
    """cs249r_book#1781; CrypTen#140; Tinytorch#3; flashlight#760; gpytorch#1688; shumai#94; nx#1748"""
    tg.check_gradients(tg.matmul, leaf(*shapes[0]), leaf(*shapes[1]), order=2)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [("ii->", [(3, 3)]), ("ii->i", [(3, 3)]), ("iij->ij", [(2, 2, 3)]), ("ij->", [(2, 3)]),
     ("nd,nn->d", [(2, 3), (2, 2)]),
     ("i,i", [(3,), (3,)]), ("ij,k->", [(2, 3), (2,)]), ("...ij,...jk->...ik", [(4, 2, 3), (3, 2)]),
     ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 4)])],
)  # fmt: skip
def test_18_einsum_with_repeated_letters_and_diagonals_that_are_not_square(subscripts, shapes):
    """HIPS#115, #242, #510; tinygrad#18207, #18229, #14012; tenferro#557; pytorch#171704"""
    xs = [leaf(*s, seed=i) for i, s in enumerate(shapes)]
    assert np.allclose(tg.einsum(subscripts, *xs).data, np.einsum(subscripts, *[x.data for x in xs]))
    tg.check_gradients(lambda *xs: tg.einsum(subscripts, *xs), *xs)
    for offset in (-2, 0, 1):
        tg.check_gradients(lambda x, k=offset: tg.trace(x, k) + tg.diagonal(x, k).sum(), leaf(4, 2))


def test_19_deviations_without_degrees_of_freedom():
    """pytorch#94184, #94546; tensorflow#56830; jax#8126, #8128"""
    assert gradient(tg.std, [3.0]).tolist() == [0.0]
    assert gradient(tg.var, [3.0]).tolist() == [0.0]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns of it
        assert np.isnan(tg.var(given([3.0]), ddof=1).data)


def test_20_arrays_without_elements():
    """pytorch#31515, #31782, #53407, #109418, #64306, #11284; oneflow#8371"""
    for f in (
        tg.cumsum, tg.cumprod, lambda x: tg.cumsum(x, axis=0), tg.sum, tg.prod, tg.exp, lambda x: x[:0],
        lambda x: x.reshape(0, 3, 2),
        lambda x: tg.max(x, axis=1), lambda x: tg.concatenate([x, x]), lambda x: tg.softmax(x, axis=-1),
        lambda x: x @ x.T,
        lambda x: tg.mean(x, axis=1), lambda x: tg.pad(x, 1), lambda x: x[[]], lambda x: tg.stack([x, x]),
    ):  # fmt: skip
        x = leaf(0, 3)
        y = f(x)
        (d,) = tg.gradients(y, [x], np.ones(y.shape))
        assert d.shape == (0, 3)
    _, b = tg.split(leaf(4), [4])
    assert b.shape == (0,)


def test_21_scalars_of_numpy_on_the_left():
    """pytorch#9468, #9651; numpy#8155, #11069; HIPS' dstack"""
    x = leaf(3)
    for s in (np.float64(2), np.float32(2), np.int64(2), np.array(2.0), np.bool_(True)):
        for y in (s * x, s + x, x * s, s - x):
            assert isinstance(y, tg.Tensor)
            assert y.dtype == np.float64
            assert y.requires_grad
    assert isinstance(np.ones(3) * x, tg.Tensor)
    assert isinstance([1.0, 2.0, 3.0] + x, tg.Tensor)  # noqa: RUF005


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_22_no_step_leaves_the_dtype(dtype):
    """HIPS#163, #172, #199, #671; AutoGrad.jl#69; nx#253; tinygrad#3613, #3186; dlsyscourse hw1#20"""
    x, W = leaf(3, 3, dtype=dtype), leaf(3, 3, dtype=dtype)
    seen = set()

    class Watch(Observer):
        def after_rule(self, node, g, gradients):
            seen.update(d.dtype for d in gradients if d is not None)

    with switched(observer=Watch()):
        y = tg.softmax(tg.tanh(x @ W * 0.5 + 1) ** 2 / 3 - 1, -1)
        y = tg.sqrt(tg.sigmoid(y) + 1e-3).mean() + tg.logsumexp(tg.relu(x)).sum() * 2 + x.std() + tg.var(x, 0).max()
        assert y.dtype == dtype
        y.backward()
    assert seen == {np.dtype(dtype)}
    assert x.grad.dtype == W.grad.dtype == dtype


def test_23_layouts_of_values_and_of_cotangents():
    """pytorch#8626, #30303, #32705, #12230; ROCm/TransformerEngine#623; slang#3855; minitorch#19"""
    base = np.random.default_rng(0).normal(size=(4, 6))
    for view in (base.T, base[::-1, ::2], np.asfortranarray(base), np.broadcast_to(base[:1], (4, 6)), base[:, 2]):
        x, same = tg.tensor(view, requires_grad=True), tg.tensor(view.copy(), requires_grad=True)
        g = np.broadcast_to(np.arange(view.shape[-1]) + 1.0, view.shape)  # stride 0
        for f in (tg.tanh, lambda x: x * x.sum(), lambda x: tg.flip(x) * x, lambda x: x.T.T):
            d, right = tg.gradients(f(x), x, g), tg.gradients(f(same), same, g.copy())
            assert np.allclose(d.data, right.data, 1e-13, 1e-13)  # sums may be taken in another order
    x = leaf(3)
    y = tg.broadcast_to(x, (4, 3))
    assert tg.gradients((y * y).sum(), x).shape == (3,)


def test_24_nothing_flows_through_detach():
    """pytorch#49236; OpenNMT#1148"""
    x = leaf(3)
    h = x * x
    y = (h.detach() * x).sum() + (h.detach() * 100.0).sum()
    y.backward()
    assert np.allclose(x.grad.data, x.data**2)


def test_25_a_state_that_is_carried_over_does_not_hold_the_past():
    """pytorch#2198, #1346; neuromancer#292"""
    W, h, first = leaf(3, 3), tg.tensor(np.zeros(3)), None
    log = []
    for _ in range(5):
        h = tg.tanh(h.detach() @ W + 1.0)
        loss = (h * h).sum()
        first = first or weakref.ref(h.node)
        loss.backward()
        log.append(loss)  # a loss that was walked holds no entries but its own
    assert first() is None
    assert all(len(entry.node.parents) == 0 for entry in log)


def test_26_everything_is_freed_without_the_collector():
    """pytorch#7343, #3818, #51978, #52140, #12863; storchastic#26; pytorch-grad-cam#88"""
    gc.collect()
    gc.disable()
    try:
        x = leaf(3)
        y = tg.tanh(x) * x
        refs = [weakref.ref(y), weakref.ref(y.node), weakref.ref(y._data)]
        d = tg.gradients(y.sum(), x, create_graph=True)
        d.sum().backward(create_graph=True)
        x.grad = None
        del y, d
        assert [ref() for ref in refs] == [None] * 3
    finally:
        gc.enable()


def test_27_a_second_walk_is_an_error_or_exactly_doubles():
    """micrograd#53, #25, #102; torch/nn#792"""
    x = leaf(3)
    y = tg.exp(x * 2.0).sum()
    y.backward(retain_graph=True)
    once = x.grad.data.copy()
    y.backward()
    assert np.array_equal(x.grad.data, 2 * once)
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()
    assert np.array_equal(x.grad.data, 2 * once)


@pytest.mark.parametrize(
    "f",
    [tg.tanh, tg.sigmoid, tg.exp, tg.sqrt, lambda x: tg.softmax(x, -1), lambda x: tg.logsumexp(x, -1), tg.norm,
     tg.std, tg.cumprod,
     lambda x: 1 / x, lambda x: x**x, lambda x: tg.prod(x), lambda x: tg.matmul(x, tg.tanh(x)), tg.gelu, tg.var],
)  # fmt: skip
def test_28_second_derivatives_see_what_the_rule_kept(f):
    """pytorch#18619, #104040, #103726, #80926, #80928"""
    tg.check_gradients(f, leaf(3), order=3)


def test_29_depth():
    """micrograd#90; pytorch#5534, #6873, #109948, #155322, #115506; storchastic#87"""
    x = tg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(60_000):  # torch once died at 52,330
        y = -y
    z = y * 1.0
    y.backward()
    assert x.grad.item() == 1.0
    del y, z


def test_30_no_grad_does_not_leak():
    """pytorch#31792, #49017, #48713, #10858, #113298"""

    @tg.no_grad
    def generate():
        yield tg.is_recording()
        yield tg.is_recording()

    g = generate()
    assert next(g) is False
    assert tg.is_recording()
    del g
    assert tg.is_recording()
    with tg.no_grad():
        tg.no_grad(lambda: None)()
        assert not tg.is_recording()
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert tg.is_recording()


def test_31_a_gradient_is_seen_once_when_it_is_complete():
    """oneflow#7685; pytorch#11751, #107063, #187268"""
    x = leaf(2)
    h = x * 1.0
    y = (h * 2.0 + h * 3.0 + h).sum()
    seen = []

    class Watch(Observer):
        def after_rule(self, node, g, gradients):
            if node is h.node:
                seen.append(g.copy())

    with switched(observer=Watch()):
        y.backward()
    assert [g.tolist() for g in seen] == [[6.0, 6.0]]


def test_32_no_state_is_shared_by_threads():
    """pytorch#18333, #33157, #67887; more in test_threads.py"""
    from concurrent.futures import ThreadPoolExecutor

    def work(i):
        with tg.no_grad() if i % 2 else tg.enable_grad():
            return [(leaf(2) * 2).requires_grad for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        for i, got in enumerate(pool.map(work, range(8))):
            assert got == [i % 2 == 0] * 50


def test_36_no_buffer_is_used_before_it_is_filled(monkeypatch):
    """pytorch#185495"""

    def poisoned(shape, dtype=float, **keywords):
        return np.full(shape, np.nan, dtype)

    monkeypatch.setattr(np, "empty", poisoned)
    monkeypatch.setattr(
        np, "empty_like", lambda x, dtype=None, shape=None, **k: poisoned(shape or x.shape, dtype or x.dtype)
    )
    x = leaf(4, 3)
    a, _ = tg.split(x, [1])
    u, _, _, _ = tg.unstack(x)
    y = (
        x[1:][[0, 0]].sum()
        + tg.pad(x, 1).sum()
        + (a * a).sum()
        + u.sum()
        + tg.cumprod(x).sum()
        + x.at[0].set(u * 2).std()
    )
    y = y + tg.einsum("ij,ij->", x, x) + tg.max(x) + tg.tril(x).sum() + tg.repeat(x, 2, 0).sum()
    assert np.isfinite(tg.gradients(y, x).data).all()


def test_37_what_is_overwritten_has_no_gradient():
    """pytorch#80839"""
    x = leaf(3)
    y = (x * x).at[:].set(1.0)
    assert tg.gradients(y.sum(), x).tolist() == [0.0] * 3
    z = (x * x).at[0].set(5.0)
    assert np.allclose(tg.gradients(z.sum(), x).data, [0.0, *(2 * x.data[1:])])


def test_38_kinks_at_nan_and_at_the_bound():
    """Paddle#65999; tt-metal#57374; tinygrad#14716"""
    x = given([np.nan, 0.0, -0.0, 1.0])
    with np.errstate(all="ignore"):
        y = tg.relu(x)
        d = tg.gradients(y, x, np.ones(4))
    assert np.isnan(y.data[0])
    assert d.tolist()[1:] == [0.0, 0.0, 1.0]
    assert gradient(lambda x: tg.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]).tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert gradient(abs, [-1.0, 0.0, 1.0]).tolist() == [-1.0, 0.0, 1.0]


def test_41_the_check_of_gradients_can_fail():
    """pytorch#38586, #5351; jax#2918; more in test_oracle.py and test_check.py"""

    @tg.primitive
    def wrong(x):
        return x * x

    wrong.vjp(lambda g, x: 2.001 * g * x)
    with pytest.raises(AssertionError):
        tg.check_gradients(wrong, leaf(3))
