"""Every operation of the table differentiated: against the oracle, and against itself.

:func:`check_gradient` is also what the spoiled rules of ``test_mutants.py`` must fail.
"""

import math
import operator

import fakecupy
import numpy as np
import pytest
from hypothesis import given, settings
from oracle import check, compare, complex_step
from registry import SPECS, TORCH, TORCH_KEYWORDS, OpSpec
from running import as_dtype, assert_single, data, differentiable, frozen, joined, leaf, leaves, parted, parts, pull
from strategies import Source, cases

import tinygrad_rnn as tg

FEW = settings(max_examples=max(10, settings.default.max_examples // 5))
DIFFERENTIABLE = {name: spec for name, spec in SPECS.items() if spec.diff != ()}
every = pytest.mark.parametrize("spec", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)


@every
def test_gradient(spec):
    @given(cases(spec.draw))
    def judge(case):
        check_gradient(spec, *case)
        check_walks(spec, *case)

    judge()


def start(spec: OpSpec, arrays: tuple, keywords: dict, wanted: tuple) -> tuple:
    """The inputs that want a gradient, and the (one) output."""
    inputs = leaves(arrays, wanted)
    return [inputs[i] for i in wanted], joined(spec.fn(*inputs, **keywords))


def some_wanted(spec: OpSpec, arrays: tuple, s: Source) -> tuple:
    return s.some(positions) if (positions := differentiable(spec, arrays)) else ()


def check_gradient(spec: OpSpec, arrays: tuple, keywords: dict, s: Source) -> None:
    """The gradients of some inputs, for a random cotangent, equal the oracle's; shape and dtype, too."""
    wanted = some_wanted(spec, arrays, s)
    if not wanted:
        return
    xs, y = start(spec, arrays, keywords, wanted)
    g = s.array(y.shape)

    def reference(*inputs):
        return spec.ref(*inputs, **keywords)

    like = reference(*arrays)
    for i, gradient in zip(wanted, pull(y, xs, g)):
        check(gradient, reference, arrays, i, parted(g, like), s.rng, about=f"{spec.name}: ")


def check_walks(spec: OpSpec, arrays: tuple, keywords: dict, s: Source) -> None:
    """What holds of all gradients, whatever their values."""
    wanted = some_wanted(spec, arrays, s)
    if not wanted:
        return
    before = frozen(*arrays)
    xs, y = start(spec, arrays, keywords, wanted)
    g, h = (s.layout(s.array(y.shape), repeated=False) for _ in range(2))
    cotangents = frozen(g, h)
    gs = pull(y, xs, g)

    again = pull(y, xs, g)
    assert [x.tobytes() for x in again] == [x.tobytes() for x in gs], "the second walk gives other bits"
    assert frozen(*arrays) == before and frozen(g, h) == cotangents, "a rule wrote into its arguments"
    others = [x for x in arrays if isinstance(x, np.ndarray)]
    for i, x in enumerate(gs):
        for other in [*gs[:i], *again, *others, y._data, g]:
            assert not np.shares_memory(x, other), "a gradient shares memory"
    for each, x in zip(pull(y, xs, g.copy()), gs):
        compare(x, each, 1e-12, about="a cotangent that is not contiguous")

    for each in pull(y, xs, np.zeros_like(g)):
        assert not each.any(), "a cotangent of 0 gives a gradient that is not 0"
    a, b = s.array(()), s.array(())
    for each, x, z in zip(pull(y, xs, a * g + b * h), gs, pull(y, xs, h)):
        bound = np.abs(a * x).max(initial=0.0) + np.abs(b * z).max(initial=0.0)  # what is added may cancel
        assert np.all(np.abs(each - (a * x + b * z)) <= 1e-12 * bound), "not linear in the cotangent"

    check_grad_attribute(spec, arrays, keywords, wanted, gs, g)
    check_same_twice(spec, arrays, keywords, g)
    check_layouts(spec, arrays, keywords, s)
    check_float32(spec, arrays, keywords, wanted, s)


def check_grad_attribute(spec: OpSpec, arrays: tuple, keywords: dict, wanted: tuple, gs: list, g: np.ndarray) -> None:
    """backward() adds the same to .grad, of those that want it; the others stay constants."""
    inputs = [
        leaf(x) if i in wanted else tg.Tensor(x) if isinstance(x, np.ndarray) else x for i, x in enumerate(arrays)
    ]
    y = joined(spec.fn(*inputs, **keywords))
    y.backward(g, retain_graph=True)
    y.backward(g)
    for i, x in enumerate(inputs):
        if i in wanted:
            compare(x.grad._data, gs[wanted.index(i)] * 2, 1e-12)
        elif isinstance(x, tg.Tensor):
            assert x.grad is None


def check_same_twice(spec: OpSpec, arrays: tuple, keywords: dict, g: np.ndarray) -> None:
    """f(x, x) has the sum of the gradients of f(a, b) at a = b = x."""
    positions = differentiable(spec, arrays)
    same = [i for i in positions if arrays[i].shape == arrays[positions[0]].shape]
    if len(same) < 2:
        return
    x = leaf(arrays[same[0]])
    apart = [x._data if i in same else array for i, array in enumerate(arrays)]
    try:
        y = joined(spec.fn(*[x if i in same else array for i, array in enumerate(apart)], **keywords))
    except np.linalg.LinAlgError:
        return
    expected = sum(pull(*start(spec, apart, keywords, tuple(same))[::-1], g))
    compare(pull(y, [x], g)[0], expected, 1e-11, about="the same tensor in several places")


def check_layouts(spec: OpSpec, arrays: tuple, keywords: dict, s: Source) -> None:
    """The gradient does not depend on how the inputs lie in memory."""
    relaid = [s.layout(x, spec.ties) if isinstance(x, np.ndarray) else x for x in arrays]
    contiguous = [x.copy() if isinstance(x, np.ndarray) else x for x in relaid]
    wanted = differentiable(spec, arrays)
    xs, y = start(spec, relaid, keywords, wanted)
    us, z = start(spec, contiguous, keywords, wanted)
    g = s.array(y.shape)
    for a, b in zip(pull(y, xs, g), pull(z, us, g)):
        compare(a, b, 1e-12, about="another layout of the inputs")


def check_float32(spec: OpSpec, arrays: tuple, keywords: dict, wanted: tuple, s: Source) -> None:
    """A gradient in float32 is float32, and off by rounding alone; in float16 it is float16."""
    if "dtype" in keywords:
        return

    def run(dtype, cotangent=None):
        options = {k: as_dtype(as_dtype(v, np.float32), dtype) for k, v in keywords.items()}
        xs, y = start(spec, [as_dtype(as_dtype(x, np.float32), dtype) for x in arrays], options, wanted)
        cotangent = s.array(y.shape).astype(np.float32) if cotangent is None else cotangent
        return pull(y, xs, cotangent.astype(dtype)), cotangent

    single, g = run(np.float32)
    for x, wide in zip(single, run(np.float64, g)[0]):
        assert_single(x, wide, spec.rounding)
    if spec.half:
        with np.errstate(all="ignore"):
            assert all(x.dtype == np.float16 for x in run(np.float16, g)[0])


# Second order ---------------------------------------------------------------------------------------------------------


@every
def test_second_order(spec):
    @FEW
    @given(cases(spec.draw))
    def judge(case):
        check_second_order(spec, *case)

    judge()


def inner(us: list, vs: list) -> float:
    return math.fsum(np.sum(u * v) for u, v in zip(us, vs))


def size(arrays: list) -> float:
    return math.sqrt(inner(arrays, arrays))


def check_second_order(spec: OpSpec, arrays: tuple, keywords: dict, s: Source) -> None:
    """The gradient's own gradients: along v by the inputs (H v), and by the cotangent (J v)."""
    wanted = differentiable(spec, arrays)
    if not wanted:
        return
    xs, y = start(spec, arrays, keywords, wanted)
    g = leaf(s.array(y.shape))
    gs = pull(y, xs, g, create_graph=True)
    assert all(isinstance(x, tg.Tensor) and x.shape == each.shape for x, each in zip(gs, xs))
    us, vs = ([s.array(x.shape, -1, 1) for x in xs] for _ in range(2))

    def along(vs: list) -> list:
        """The gradients of <gs, vs>: by all of xs, and by g."""
        total = [np.zeros(x.shape) for x in (*xs, g)]
        for x, v in zip(gs, vs):
            if x.requires_grad:
                total = [a + b for a, b in zip(total, pull(x, [*xs, g], v))]
        return total

    (*hv, jv), (*hu, _) = along(vs), along(us)
    scale = size(us) * size(hv) + size(vs) * size(hu) + 1e-6 * size(us) * size(vs)  # all that there is may be rounding
    assert abs(inner(us, hv) - inner(vs, hu)) <= 1e-9 * scale, "the Hessian is not symmetric"

    def moved(t: float) -> list:
        return [x + t * vs[wanted.index(i)] if i in wanted else x for i, x in enumerate(arrays)]

    slopes = [
        complex_step(lambda t: joined_values(spec.ref(*moved(t), **keywords)), [np.zeros(())], 0, unit)
        for unit in np.eye(y.size).reshape(y.size, *y.shape)
    ]
    compare(jv, np.reshape(slopes, y.shape).astype(float), 1e-9, about="the gradient by the cotangent")

    h = 2.0**-10

    def difference(h: float) -> list:
        up, down = (pull(*start(spec, moved(t), keywords, wanted)[::-1], g._data) for t in (h, -h))
        return [(a - b) / (2 * h) for a, b in zip(up, down)]

    for x, a, b in zip(hv, difference(h), difference(h / 2)):
        compare(x, np.asarray((4 * b - a) / 3), 1e-5, about="the Hessian along v")


def joined_values(out):
    return np.concatenate([np.ravel(x) for x in out]) if isinstance(out, tuple) else out


# Devices --------------------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("device", ["stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_on_a_device(spec, device):
    """On a device as on the host, to every order; the stand-in for CuPy gives the same bits, and nothing is copied."""

    @FEW
    @given(cases(spec.draw))
    def judge(case):
        check_device(spec, device, *case)

    if spec.device:
        judge()


def check_device(spec: OpSpec, device: str, arrays: tuple, keywords: dict, s: Source) -> None:
    wanted = differentiable(spec, arrays)

    def run(arrays, keywords, asarray):
        inputs = leaves(arrays, wanted)
        out = spec.fn(*inputs, **keywords)
        if not wanted:
            return [data(x) for x in parts(out)]
        y, xs = joined(out), [inputs[i] for i in wanted]
        g = leaf(asarray(cotangent(y.shape)))
        gs = pull(y, xs, g, create_graph=True)
        found = [data(x) for x in (*parts(out), *gs)]
        for x in gs:
            if x.requires_grad:
                found += pull(x, [*xs, g], asarray(cotangent(x.shape)))
        return found

    def cotangent(shape):
        return np.random.default_rng(7).uniform(-2, 2, shape)

    expected = run(arrays, keywords, np.asarray)
    masked = has_mask(keywords.get("index"))  # how many it selects is copied: the size of the result depends on it
    if device == "cupy":
        cupy = pytest.importorskip("cupy")
        found = run(moved_to(cupy, arrays), moved_to(cupy, keywords), cupy.asarray)
        for x, y in zip(found, expected, strict=True):
            compare(cupy.asnumpy(x), np.asarray(y), 1e-12)
        return
    with fakecupy.installed() as cupy:
        inputs, options = moved_to(cupy, arrays), moved_to(cupy, keywords)
        copies = fakecupy.copies_to_host()
        found = run(inputs, options, cupy.asarray)
        assert masked or fakecupy.copies_to_host() == copies, "something was copied to the host"
        assert all(isinstance(x, cupy.ndarray) for x in found)
        for x, y in zip(found, expected, strict=True):
            x = cupy.asnumpy(x)
            assert (x.shape, x.dtype, x.tobytes()) == (y.shape, y.dtype, y.tobytes())


def moved_to(cupy, values):
    if isinstance(values, dict):
        return {
            k: cupy.asarray(v) if k in ("min", "max") and isinstance(v, np.ndarray) else v for k, v in values.items()
        }
    return [cupy.asarray(x) if isinstance(x, np.ndarray) else x for x in values]


def has_mask(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(str(getattr(part, "dtype", None)) == "bool" for part in parts)


# PyTorch --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TORCH)
def test_as_in_pytorch(name):
    torch = pytest.importorskip("torch")
    function = operator.attrgetter(TORCH[name])(torch)
    compared = sum(check_torch(torch, function, SPECS[name], seed) for seed in range(30))
    assert compared >= 4


def check_torch(torch, function, spec: OpSpec, seed: int) -> bool:
    s = Source.seeded(seed)
    arrays, keywords = spec.draw(s)
    wanted = differentiable(spec, arrays)
    inputs = [torch.tensor(np.asarray(x), requires_grad=i in wanted) for i, x in enumerate(arrays)]
    options = {TORCH_KEYWORDS.get((spec.name, k), TORCH_KEYWORDS.get(k, k)): v for k, v in keywords.items()}
    if spec.name in ("var", "std"):
        options.setdefault("correction", 0)  # theirs is 1
    if spec.name == "flip" and isinstance(options.get("dims"), int):
        options["dims"] = (options["dims"],)
    try:
        theirs = function(*inputs, **options)
        theirs = torch.cat([x.reshape(-1) for x in theirs]) if isinstance(theirs, tuple) else theirs
    except (TypeError, RuntimeError, IndexError, UserWarning):
        return False  # it does not take this form of the arguments
    xs, y = start(spec, arrays, keywords, wanted)
    if 0 in y.shape or any(0 in x.shape for x in xs) or theirs.shape != y.shape:
        return False
    g = s.array(y.shape)
    compare(y._data, theirs.detach().numpy(), 1e-12, about="value")
    for i, ours, other in zip(
        wanted, pull(y, xs, g), torch.autograd.grad(theirs, [inputs[i] for i in wanted], torch.tensor(g))
    ):
        compare(ours, other.numpy(), 1e-11, about=f"gradient of input {i}")
    return True
