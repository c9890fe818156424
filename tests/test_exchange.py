"""Weights of other frameworks: they compute the same here, and come back bit for bit."""

from __future__ import annotations

import os

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.exchange import from_keras, from_onnx, from_torch, to_keras, to_onnx

T, B, X, H = 5, 2, 3, 4
RNG = np.random.default_rng(0)
XS = RNG.standard_normal((T, B, X))
GATES = {"SimpleRNN": 1, "RNN": 1, "LSTM": 4, "GRU": 3}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def draw(**shapes):
    return {name: RNG.standard_normal(shape) for name, shape in shapes.items()}


def keras_weights(kind, reset_after=False, bias=True):
    rows = GATES[kind] * H
    weights = draw(kernel=(X, rows), recurrent_kernel=(H, rows), bias=(2, rows) if reset_after else (rows,))
    return weights if bias else {name: x for name, x in weights.items() if name != "bias"}


def onnx_weights(kind, directions=1):
    rows = GATES[kind] * H
    return draw(W=(directions, rows, X), R=(directions, rows, H), B=(directions, 2 * rows))


def ours(kind, state, reset_after=True):
    """The outputs of our cell with these weights."""
    keywords = {"reset_after": reset_after} if kind == "GRU" else {}
    cell = {"SimpleRNN": nn.RNNCell, "RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}[kind](
        X, H, bias="bias_ih" in state, dtype=np.float64, **keywords
    )
    cell.load_state_dict(state)
    with tg.no_grad():
        return nn.scan(cell, XS)[0].data


# What their documentations say, step by step


def keras_equations(kind, kernel, recurrent_kernel, bias=None):
    """keras.layers.SimpleRNN, LSTM and GRU, with their standard activations. Two rows of biases: reset_after."""
    h = c = np.zeros((B, H))
    two = bias is not None and bias.ndim == 2
    b, b_h = bias if two else (0 if bias is None else bias, 0)
    for x in XS:
        of_x, of_h = x @ kernel + b, h @ recurrent_kernel + b_h
        if kind == "SimpleRNN":
            h = np.tanh(of_x + of_h)
        elif kind == "LSTM":
            i, f, g, o = np.split(of_x + of_h, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            x_z, x_r, x_h = np.split(of_x, 3, axis=1)
            h_z, h_r, h_h = np.split(of_h, 3, axis=1)
            z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
            n = np.tanh(x_h + (r * h_h if two else (r * h) @ recurrent_kernel[:, 2 * H :]))
            h = z * h + (1 - z) * n
        yield h


def onnx_equations(kind, W, R, B, linear_before_reset, xs=XS):
    """The operators RNN, LSTM and GRU of ONNX, with their standard activations, of one direction."""
    h = c = np.zeros((xs.shape[1], H))
    gates = GATES[kind]
    w, r, wb, rb = np.split(W, gates), np.split(R, gates), *(np.split(b, gates) for b in np.split(B, 2))
    for x in xs:
        if kind == "RNN":
            h = np.tanh(x @ w[0].T + h @ r[0].T + wb[0] + rb[0])
        elif kind == "LSTM":
            i, o, f, g = (x @ w[k].T + h @ r[k].T + wb[k] + rb[k] for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            z, reset = (sigmoid(x @ w[k].T + h @ r[k].T + wb[k] + rb[k]) for k in range(2))
            if linear_before_reset:
                n = np.tanh(x @ w[2].T + reset * (h @ r[2].T + rb[2]) + wb[2])
            else:
                n = np.tanh(x @ w[2].T + (reset * h) @ r[2].T + rb[2] + wb[2])
            h = (1 - z) * n + z * h
        yield h


# Keras

KERAS = [("SimpleRNN", False), ("LSTM", False), ("GRU", True), ("GRU", False)]


@pytest.mark.parametrize(("kind", "reset_after"), KERAS)
@pytest.mark.parametrize("bias", [True, False])
def test_keras_weights_compute_what_its_equations_say(kind, reset_after, bias):
    weights = keras_weights(kind, reset_after, bias)
    if reset_after and not bias:
        weights["bias"] = np.zeros((2, 3 * H))  # which say that it is reset_after
    expected = list(keras_equations(kind, **weights))
    np.testing.assert_allclose(ours(kind, from_keras(kind, weights), reset_after), expected, rtol=1e-12)
    np.testing.assert_allclose(ours(kind, from_keras(kind, list(weights.values())), reset_after), expected, rtol=1e-12)


@pytest.mark.parametrize(("kind", "reset_after"), KERAS)
def test_our_weights_compute_the_same_by_keras_equations(kind, reset_after):
    rows = GATES[kind] * H
    state = draw(weight_ih=(rows, X), weight_hh=(rows, H), bias_ih=(rows,), bias_hh=(rows,))
    expected = list(keras_equations(kind, **to_keras(kind, state, reset_after=reset_after)))
    np.testing.assert_allclose(ours(kind, state, reset_after), expected, rtol=1e-12)


@pytest.mark.parametrize(("kind", "reset_after"), KERAS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("layer", "reverse"), [(None, False), (0, False), (3, True)])
def test_keras_weights_come_back(kind, reset_after, bias, layer, reverse):
    weights = keras_weights(kind, reset_after, bias)
    state = from_keras(kind, weights, layer, reverse)
    suffix = "" if layer is None else "_l0" if layer == 0 else "_l3_reverse"
    assert list(state) == [n + suffix for n in ("weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if bias else []))]
    again = to_keras(kind, state, layer, reverse, reset_after=reset_after)
    assert list(again) == list(weights)
    assert all(again[name].tobytes() == x.tobytes() and again[name].shape == x.shape for name, x in weights.items())
    assert all(x.base is None and x.flags.c_contiguous for x in again.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # between PyTorch and NumPy
@pytest.mark.parametrize(("kind", "reset_after"), KERAS)
def test_keras_itself_computes_the_same(kind, reset_after, monkeypatch):
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    keras = pytest.importorskip("keras")
    keywords = {"reset_after": reset_after} if kind == "GRU" else {}
    keywords |= dict(return_sequences=True, dtype="float64", bias_initializer="normal")
    layer = getattr(keras.layers, kind)(H, **keywords)
    theirs = keras.ops.convert_to_numpy(layer(XS.swapaxes(0, 1))).swapaxes(0, 1)
    named = {w.name: keras.ops.convert_to_numpy(w.value) for w in layer.weights}
    for weights in (layer.get_weights(), named):
        computed = ours(kind, from_keras(kind, weights), reset_after)
        np.testing.assert_allclose(computed, theirs, atol=1e-6)  # its GRU computes partly in float32
    state = from_keras(kind, keras_weights(kind, reset_after))
    layer.set_weights(list(to_keras(kind, state, reset_after=reset_after).values()))


# ONNX

ONNX = [("RNN", False), ("LSTM", False), ("GRU", True), ("GRU", False)]


@pytest.mark.parametrize(("kind", "reset_after"), ONNX)
def test_onnx_weights_compute_what_its_equations_say(kind, reset_after):
    weights = onnx_weights(kind, 2)
    state = from_onnx(kind, weights, layer=1)
    W, R, bias = weights.values()
    for i, suffix in enumerate(("_l1", "_l1_reverse")):
        own = {name.removesuffix(suffix): x for name, x in state.items() if name.endswith(suffix)}
        expected = list(onnx_equations(kind, W[i], R[i], bias[i], reset_after))
        np.testing.assert_allclose(ours(kind, own, reset_after), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(("layer", "directions"), [(None, 1), (0, 1), (2, 2)])
def test_onnx_weights_come_back(kind, layer, directions):
    weights = onnx_weights(kind, directions)
    state = from_onnx(kind, weights, layer)
    assert len(state) == 4 * directions
    other = from_onnx(kind, onnx_weights(kind), layer=7) if layer is not None else {}
    again = to_onnx(kind, {**other, **state}, layer)
    assert list(again) == ["W", "R", "B"]
    assert all(again[name].tobytes() == x.tobytes() and again[name].shape == x.shape for name, x in weights.items())
    del weights["B"]
    assert list(to_onnx(kind, from_onnx(kind, weights, layer), layer)) == ["W", "R"]


@pytest.mark.parametrize(("kind", "reset_after"), ONNX)
@pytest.mark.parametrize("layer", [0, 1])
def test_onnx_itself_computes_the_same(kind, reset_after, layer):
    """By the reference implementation of ONNX, which has one direction only."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    weights = onnx_weights(kind)
    attributes = {"hidden_size": H} | ({"linear_before_reset": int(reset_after)} if kind == "GRU" else {})
    node = onnx.helper.make_node(kind, ["X", *weights], ["Y"], **attributes)
    *ins, out = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in ["X", *weights, "Y"]
    )
    graph = onnx.helper.make_graph([node], "graph", ins, [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)])
    evaluator = ReferenceEvaluator(model)
    state = from_onnx(kind, weights, layer=None)
    (theirs,) = evaluator.run(None, {"X": XS, **weights})
    np.testing.assert_allclose(ours(kind, state, reset_after), theirs[:, 0], rtol=1e-12)
    again = to_onnx(kind, {f"{name}_l{layer}": x for name, x in state.items()}, layer)
    assert (evaluator.run(None, {"X": XS, **again})[0] == theirs).all()


# PyTorch


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_torch_computes_the_same(kind):
    torch = pytest.importorskip("torch")
    network = getattr(torch.nn, kind)(X, H, num_layers=1, bidirectional=True, dtype=torch.float64)
    theirs = network(torch.tensor(XS))[0].detach().numpy()
    state = from_torch(network.state_dict())
    forward = {name.removesuffix("_l0"): x for name, x in state.items() if name.endswith("_l0")}
    np.testing.assert_allclose(ours(kind, forward), theirs[..., :H], rtol=1e-10)
    reordered = from_onnx(kind, to_onnx(kind, state))
    assert reordered.keys() == state.keys() and all((reordered[name] == x).all() for name, x in state.items())
    of_keras = "SimpleRNN" if kind == "RNN" else kind
    for suffix in ("", "_reverse"):
        own = {name: x for name, x in state.items() if name.endswith(f"_l0{suffix}")}
        weights = to_keras(of_keras, state, layer=0, reverse=bool(suffix))
        again = from_keras(of_keras, weights, layer=0, reverse=bool(suffix))
        summed = kind != "GRU"
        for name, x in own.items():
            expected = x if not (summed and "bias" in name) else (
                own[f"bias_ih_l0{suffix}"] + own[f"bias_hh_l0{suffix}"] if "ih" in name else 0 * x
            )  # fmt: skip
            np.testing.assert_array_equal(again[name], expected)


def test_torch_tensors_come_as_arrays_of_ones_own():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 2)
    others = {"array": np.ones(2), "number": 3.0, "half": torch.ones(2).half()}
    state = from_torch({**dict(layer.named_parameters()), **others})
    before = state["weight"].copy()
    with torch.no_grad():
        layer.weight += 1
    assert (state["weight"] == before).all() and state["half"].dtype == np.float16 and state["number"] == 3
    ours = nn.Linear(3, 2)
    ours.load_state_dict({name: state[name] for name in ("weight", "bias")})
    ours.load_state_dict(from_torch(layer.state_dict()))
    expected = layer(torch.ones(1, 3)).detach().numpy()
    np.testing.assert_allclose(ours(np.ones((1, 3), np.float32)).data, expected, rtol=1e-6)
    bad = torch.ones(2, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"no NumPy dtype \(.float\(\) gives them one\):\n  a: .*\n  c: .*BFloat16"):
        from_torch({"a": bad, "b": torch.ones(2), "c": bad})


# What is refused


@pytest.mark.parametrize(
    ("call", "messages"),
    [
        (lambda: from_keras("Dense", []), ["kind: expected one of 'SimpleRNN', 'LSTM', 'GRU', got 'Dense'"]),
        (lambda: from_onnx("lstm", {}), ["kind: expected one of 'RNN', 'LSTM', 'GRU', got 'lstm'"]),
        (lambda: from_keras("LSTM", {}), ["kernel: missing", "recurrent_kernel: missing"]),
        (
            lambda: from_keras("LSTM", draw(kernel=(3, 8), recurrent_kernel=(4, 16), bias=(2, 16), beta=(1,))),
            [
                r"kernel: expected \(3, 16\), got \(3, 8\)",
                r"bias: expected \(16,\), got \(2, 16\)",
                "beta: it has no counterpart; known are kernel, recurrent_kernel, bias",
            ],
        ),
        (lambda: from_keras("GRU", [*keras_weights("GRU").values(), np.ones(1)]), [r"\[3\]: it has no counterpart"]),
        (lambda: from_keras("GRU", keras_weights("GRU"), reverse=True), ["reverse: a cell has no direction"]),
        (lambda: from_keras("GRU", keras_weights("LSTM")), [r"recurrent_kernel: expected \(4, 12\), got \(4, 16\)"]),
        (
            lambda: from_onnx("LSTM", onnx_weights("LSTM") | draw(P=(1, 12), B=(2, 32))),
            ["P: it has no counterpart; known are W, R, B", r"B: expected \(1, 32\), got \(2, 32\)"],
        ),
        (lambda: from_onnx("GRU", onnx_weights("GRU", 2), layer=None), ["W: expected 1 direction, of a cell, got 2"]),
        (lambda: from_onnx("GRU", onnx_weights("GRU", 3)), ["W: expected 1 or 2 directions, got 3"]),
        (lambda: to_keras("GRU", draw(weight_ih=(12, 3)), layer=0), ["weight_ih: it has no", "weight_ih_l0: missing"]),
        (
            lambda: to_onnx("LSTM", draw(weight_ih_l0=(16, 3), weight_hh_l0=(16, 3), weight_hr_l0=(3, 4))),
            ["weight_hr_l0: it has no counterpart", r"weight_hh_l0: expected \(12, 3\), got \(16, 3\)"],
        ),
        (lambda: to_onnx("RNN", draw(weight_ih=(4, 3), weight_hh=(4, 4), bias_ih=(4,)), None), ["bias_hh: missing"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_listed(call, messages):
    with pytest.raises(ValueError, match=messages[0]) as caught:
        call()
    for message in messages:
        caught.match(message)


def test_tensors_and_models_go_in_as_they_are():
    cell = nn.GRUCell(X, H, rng=0)
    again = nn.GRUCell(X, H, rng=1)
    again.load_state_dict(from_keras("GRU", to_keras("GRU", dict(cell.named_parameters()))))
    assert all((a == b).all() for a, b in zip(cell.state_dict().values(), again.state_dict().values()))
    again.load_state_dict(from_onnx("GRU", to_onnx("GRU", cell.state_dict(), layer=None), layer=None))
    assert all((a == b).all() for a, b in zip(cell.state_dict().values(), again.state_dict().values()))
