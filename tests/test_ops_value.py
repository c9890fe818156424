"""Every operation of the table against NumPy: values, shapes, dtypes, memory; NaN and infinity; and what it refuses."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from oracle import compare
from registry import NOT_PUBLIC, SPECS, OpSpec
from running import as_dtype, assert_single, data, differentiable, frozen, is_floating, leaf, leaves, parts
from strategies import Source, cases

import tinygrad_rnn as tg

every = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@every
def test_value(spec):
    @given(cases(spec.draw))
    def check(case):
        check_value(spec, *case)

    check()


def check_value(spec: OpSpec, arrays: tuple, keywords: dict, s: Source) -> None:
    before = frozen(*arrays)
    out = spec.fn(*arrays, **keywords)
    for function in (spec.ref, spec.numpy):
        if function is not None:
            expected = parts(function(*arrays, **keywords))
            assert len(parts(out)) == len(expected)
            for ours, theirs in zip(parts(out), expected):
                assert not isinstance(ours, tg.Tensor), "arrays alone give arrays"
                compare(ours, theirs, 1e-12)

    inputs = leaves(arrays, differentiable(spec, arrays))
    recorded = spec.fn(*inputs, **keywords)
    with tg.no_grad():
        unrecorded = spec.fn(*inputs, **keywords)
    constant = spec.fn(*[tg.Tensor(x) if isinstance(x, np.ndarray) else x for x in arrays], **keywords)
    for plain, *others in zip(parts(out), parts(recorded), parts(unrecorded), parts(constant)):
        for other, wants_grad in zip(others, (bool(differentiable(spec, arrays)), False, False)):
            if differentiable(spec, arrays):
                assert isinstance(other, tg.Tensor)
                if not any(other is x for x in inputs):  # it may return its input, where it changes nothing
                    assert other.requires_grad == (wants_grad and is_floating(plain))
            assert (data(other).dtype, data(other).shape) == (plain.dtype, plain.shape)
            assert data(other).tobytes() == plain.tobytes()

    assert frozen(*arrays) == before, "an operation wrote into its input"
    check_memory(spec, arrays, keywords, out)
    check_layouts(spec, arrays, keywords, out, s)
    check_dtypes(spec, arrays, keywords)


def check_memory(spec: OpSpec, arrays: tuple, keywords: dict, out: object) -> None:
    def shares(result: object) -> bool:
        return any(np.shares_memory(x, y) for x in arrays if isinstance(x, np.ndarray) for y in parts(result))

    if spec.view is not None:
        reference = (spec.numpy or spec.ref)(*arrays, **keywords) if spec.view else ()
        assert shares(out) == shares(reference)


def check_layouts(spec: OpSpec, arrays: tuple, keywords: dict, out: object, s: Source) -> None:
    relaid = [s.layout(x, spec.ties) if isinstance(x, np.ndarray) else x for x in arrays]
    expected = spec.fn(*[x.copy() if isinstance(x, np.ndarray) else x for x in relaid], **keywords)
    for ours, theirs in zip(parts(spec.fn(*relaid, **keywords)), parts(expected)):
        compare(ours, theirs, 1e-12)


def check_dtypes(spec: OpSpec, arrays: tuple, keywords: dict) -> None:
    if "dtype" in keywords or not any(map(is_floating, arrays)):
        return

    def run(function, dtype):
        single = [as_dtype(x, np.float32) for x in arrays]
        return parts(
            function(*[as_dtype(x, dtype) for x in single], **{k: as_dtype(v, dtype) for k, v in keywords.items()})
        )

    expected = run(spec.ref, np.float64)
    for ours, theirs in zip(run(spec.fn, np.float32), expected):
        if is_floating(theirs):
            assert_single(ours, theirs, spec.rounding)
        else:
            compare(ours, theirs)
    if spec.half:
        with np.errstate(all="ignore"):
            out = run(spec.fn, np.float16)
        assert all(
            ours.dtype == (np.float16 if is_floating(theirs) else theirs.dtype) for ours, theirs in zip(out, expected)
        )


@pytest.mark.parametrize("spec", [spec for name, spec in SPECS.items() if name not in NOT_PUBLIC], ids=lambda s: s.name)
def test_a_list_is_an_array(spec):
    """Nested lists and numbers in the place of any array, alone, and beside tensors and arrays."""

    @settings(max_examples=max(10, settings.default.max_examples // 5))
    @given(cases(spec.draw))
    def check(case):
        arrays, keywords, _ = case
        expected = parts(spec.fn(*arrays, **keywords))
        listed = [x.tolist() if isinstance(x, np.ndarray) and x.size else x for x in arrays]
        for i in range(len(arrays)):
            for others in (arrays, leaves(arrays, differentiable(spec, arrays))):
                for y, theirs in zip(parts(spec.fn(*others[:i], listed[i], *others[i + 1 :], **keywords)), expected):
                    compare(data(y), theirs, 1e-12)
        for y, theirs in zip(parts(spec.fn(*listed, **keywords)), expected):
            assert isinstance(y, (np.ndarray, np.generic)), "lists alone give arrays"
            compare(y, theirs, 1e-12)

    check()


@every
def test_nan_and_infinity(spec):
    """No crash; and where NumPy has the function, NaN and infinity in the same places. Their gradients do not crash."""

    @settings(max_examples=max(10, settings.default.max_examples // 5))
    @given(cases(spec.draw))
    def check(case):
        arrays, keywords, s = case
        arrays = [
            np.where(s.rng.random(np.shape(x)) < 0.3, s.choose(np.nan, np.inf, -np.inf), x) if is_floating(x) else x
            for x in arrays
        ]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = parts(spec.numpy(*arrays, **keywords)) if spec.numpy else None
            except np.linalg.LinAlgError:
                return
            inputs = leaves(arrays, differentiable(spec, arrays))
            try:
                out = parts(spec.fn(*inputs, **keywords))
            except np.linalg.LinAlgError:
                return
            for i, y in enumerate(out):
                if expected is not None:
                    compare(np.asarray(data(y)), np.asarray(expected[i]), 1e-12, equal_nan=True)
                if getattr(y, "requires_grad", False):
                    wanted = [x for x in inputs if isinstance(x, tg.Tensor)]
                    try:
                        gs = tg.gradients(y, wanted, np.ones_like(y._data), retain_graph=True)
                    except np.linalg.LinAlgError:
                        continue
                    assert [g.shape for g in gs] == [x.shape for x in wanted]

    check()


@pytest.mark.parametrize(
    ("spec", "row"),
    [pytest.param(spec, row, id=f"{name}-{i}") for name, spec in SPECS.items() for i, row in enumerate(spec.errors)],
)
def test_refused(spec, row):
    """The error is of the right kind, in the words of the call; and nobody holds an entry for what failed."""
    inputs = [leaf(np.array(x)) if isinstance(x, (float, list)) or is_floating(x) else x for x in row.inputs]
    entries = [x.node for x in inputs if isinstance(x, tg.Tensor)]
    held = list(map(sys.getrefcount, entries))
    error = None
    try:
        spec.fn(*inputs, **row.keywords)
    except row.error as caught:
        error = str(caught)
    assert error is not None, f"expected {row.error}, and nothing was raised"
    with pytest.raises(AssertionError, match=row.match):
        raise AssertionError(error)
    assert list(map(sys.getrefcount, entries)) == held, "what failed has left an entry behind"
