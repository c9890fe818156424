"""Weights of other frameworks: they compute the same here, and come back bit for bit."""

from __future__ import annotations

import os
import re

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


def onnx_weights(kind, directions=1, peepholes=False):
    rows = GATES[kind] * H
    weights = draw(W=(directions, rows, X), R=(directions, rows, H), B=(directions, 2 * rows))
    return weights | (draw(P=(directions, 3 * H)) if peepholes else {})


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


def keras_equations(kind, kernel, recurrent_kernel, bias=None, xs=XS):
    """keras.layers.SimpleRNN, LSTM and GRU, with their standard activations. Two rows of biases: reset_after."""
    h = c = np.zeros((B, H))
    two = bias is not None and bias.ndim == 2
    b, b_h = bias if two else (0 if bias is None else bias, 0)
    for x in xs:
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


def onnx_equations(kind, W, R, B, linear_before_reset=False, xs=XS, P=None):
    """The operators RNN, LSTM and GRU of ONNX, with their standard activations, of one direction."""
    h = c = np.zeros((xs.shape[1], H))
    gates = GATES[kind]
    w, r, wb, rb = np.split(W, gates), np.split(R, gates), *(np.split(b, gates) for b in np.split(B, 2))
    for x in xs:
        if kind == "RNN":
            h = np.tanh(x @ w[0].T + h @ r[0].T + wb[0] + rb[0])
        elif kind == "LSTM":
            i, o, f, g = (x @ w[k].T + h @ r[k].T + wb[k] + rb[k] for k in range(4))
            p_i, p_o, p_f = (0, 0, 0) if P is None else np.split(P, 3)
            c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
            h = sigmoid(o + p_o * c) * np.tanh(c)
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


@pytest.mark.parametrize(("kind", "reset_after"), [*KERAS[:2], ("GRU", True)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_bidirectional_layer_of_keras(kind, reset_after, bias):
    """Its backward layer runs over the reversed sequence, its outputs are put back in order, and both joined."""
    forward, backward = (keras_weights(kind, reset_after and bias, bias) for _ in range(2))
    named = {f"forward_layer/{name}": x for name, x in forward.items()}
    named |= {f"backward_layer/{name}": x for name, x in backward.items()}
    network = {"SimpleRNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[kind]
    network = network(X, H, bias=bias, bidirectional=True, dtype=np.float64)
    if kind == "GRU" and not bias:
        forward["bias"] = backward["bias"] = np.zeros((2, 3 * H))  # which say that it is reset_after
    there, back = (
        np.array(list(keras_equations(kind, **weights, xs=xs))) for weights, xs in ((forward, XS), (backward, XS[::-1]))
    )
    for weights in (named, list(named.values())):
        network.load_state_dict(from_keras(kind, weights, layer=0, bidirectional=True))
        np.testing.assert_allclose(network(XS)[0].data, np.concatenate([there, back[::-1]], -1), rtol=1e-12)
    again = to_keras(kind, network.state_dict(), layer=0, bidirectional=True)
    assert list(again) == list(named) and all(again[name].tobytes() == x.tobytes() for name, x in named.items())
    before = to_keras(kind, network.state_dict(), layer=0, reset_after=False, bidirectional=True)
    assert all(x.shape == (GATES[kind] * H,) for name, x in before.items() if "bias" in name)


OTHERS = [
    (
        "Dense",
        {"kernel": (3, 4), "bias": (4,)},
        lambda x, kernel, bias=0: x @ kernel + bias,
        lambda b: nn.Linear(3, 4, b, dtype=float),
    ),
    (
        "Embedding",
        {"embeddings": (3, 4)},
        lambda x, embeddings: embeddings[x.argmax(-1)],
        lambda b: nn.Embedding(3, 4, dtype=float),
    ),
    (
        "LayerNormalization",
        {"gamma": (3,), "beta": (3,)},
        lambda x, gamma=1, beta=0: (
            (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * gamma + beta
        ),
        lambda b: nn.LayerNorm(3, eps=1e-3, bias=b, dtype=float),
    ),
]


@pytest.mark.parametrize(("kind", "shapes", "equation", "make"), OTHERS, ids=[case[0] for case in OTHERS])
@pytest.mark.parametrize("second", [True, False])
def test_other_layers_of_keras(kind, shapes, equation, make, second):
    weights = draw(**(shapes if second else dict([*shapes.items()][:1])))
    module = make(second)
    x = XS.argmax(-1) if kind == "Embedding" else XS
    module.load_state_dict(from_keras(kind, weights))
    np.testing.assert_allclose(module(x).data, equation(XS, **weights), rtol=1e-12)
    again = to_keras(kind, dict(reversed(module.state_dict().items())))
    assert list(again) == list(weights) and all(again[name].tobytes() == x.tobytes() for name, x in weights.items())
    assert all(x.base is None and x.flags.c_contiguous for x in again.values())
    if second or kind != "LayerNormalization":
        listed = from_keras(kind, [*weights.values()])
        assert all((listed[name] == x).all() for name, x in module.state_dict().items())
    for own, x in zip(from_keras(kind, weights).values(), weights.values()):
        assert not np.shares_memory(own, x)


def test_a_layer_norm_without_a_scale_has_a_scale_of_1():
    state = from_keras("LayerNormalization", {"beta": np.arange(3.0)})
    assert list(state) == ["weight", "bias"] and (state["weight"] == 1).all() and (state["bias"] == [0, 1, 2]).all()
    message = 'weights: one array may be gamma or beta: say which, {"gamma": array}'
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_keras("LayerNormalization", [np.ones(3)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # between PyTorch and NumPy
def test_keras_itself_computes_the_same_in_other_layers(monkeypatch):
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    keras = pytest.importorskip("keras")
    both = keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True, dtype="float64"), dtype="float64")
    theirs = keras.ops.convert_to_numpy(both(XS.swapaxes(0, 1))).swapaxes(0, 1)
    network = nn.LSTM(X, H, bidirectional=True, dtype=np.float64)
    network.load_state_dict(from_keras("LSTM", both.get_weights(), layer=0, bidirectional=True))
    np.testing.assert_allclose(network(XS)[0].data, theirs, atol=1e-6)
    both.set_weights(list(to_keras("LSTM", network.state_dict(), layer=0, bidirectional=True).values()))
    for layer, kind, ours, x in (
        (keras.layers.Dense(4, bias_initializer="normal", dtype="float64"), "Dense", nn.Linear(X, 4, dtype=float), XS),
        (keras.layers.Embedding(X, 4, dtype="float64"), "Embedding", nn.Embedding(X, 4, dtype=float), XS.argmax(-1)),
        (keras.layers.LayerNormalization(beta_initializer="normal", dtype="float64"), "LayerNormalization",
         nn.LayerNorm(X, eps=1e-3, dtype=float), XS),
    ):  # fmt: skip
        theirs = keras.ops.convert_to_numpy(layer(x))
        ours.load_state_dict(from_keras(kind, layer.get_weights()))
        np.testing.assert_allclose(ours(x).data, theirs, atol=1e-6)
        layer.set_weights(list(to_keras(kind, ours.state_dict()).values()))


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


def in_onnx(kind, weights, attributes=None):
    """What the reference implementation of ONNX computes, which has one direction only."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    places = ["X", "W", "R", "B", *(["", "", "", "P"] if "P" in weights else [])]
    node = onnx.helper.make_node(kind, places, ["Y"], hidden_size=H, **(attributes or {}))
    *ins, out = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in ["X", *weights, "Y"]
    )
    graph = onnx.helper.make_graph([node], "graph", ins, [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)])
    return ReferenceEvaluator(model).run(None, {"X": XS, **weights})[0][:, 0]


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


def test_peepholes_of_onnx():
    weights = onnx_weights("LSTM", peepholes=True)
    cell = nn.LSTMVariantCell(X, H, peepholes=True, rng=0, dtype=np.float64)
    assert from_onnx("LSTM", weights, layer=None).keys() == cell.state_dict().keys()
    cell.load_state_dict(from_onnx("LSTM", weights, layer=None))
    own = {name: x[0] for name, x in weights.items()}
    np.testing.assert_allclose(nn.scan(cell, XS)[0].data, list(onnx_equations("LSTM", **own)), rtol=1e-12)
    again = to_onnx("LSTM", cell.state_dict(), layer=None)
    assert list(again) == ["W", "R", "B", "P"]
    assert all(again[name].tobytes() == x.tobytes() and again[name].shape == x.shape for name, x in weights.items())
    other = nn.LSTMVariantCell(X, H, peepholes=True, rng=1, dtype=np.float64)
    own = {name: x[0] for name, x in to_onnx("LSTM", other.state_dict(), layer=None).items()}
    np.testing.assert_allclose(list(onnx_equations("LSTM", **own)), nn.scan(other, XS)[0].data, rtol=1e-12)


def overwriting_equations(state):
    """A GRU whose z, at 1, overwrites the state: h' = h + z * (n - h)."""
    h, w = np.zeros((B, H)), {name: np.split(x, 3) for name, x in state.items() if name != "overwrites"}
    for x in XS:
        of_x = [x @ w["weight_ih"][k].T + w["bias_ih"][k] for k in range(3)]
        of_h = [h @ w["weight_hh"][k].T + w["bias_hh"][k] for k in range(3)]
        r, z = (sigmoid(of_x[k] + of_h[k]) for k in range(2))
        h = h + z * (np.tanh(of_x[2] + r * of_h[2]) - h)
        yield h


def test_what_goes_out_of_a_gru_that_overwrites_keeps():
    state = draw(weight_ih=(12, X), weight_hh=(12, H), bias_ih=(12,), bias_hh=(12,)) | {"overwrites": np.zeros(0)}
    expected = list(overwriting_equations(state))
    np.testing.assert_allclose(list(keras_equations("GRU", **to_keras("GRU", state))), expected, rtol=1e-10)
    suffixed = {f"{name}_l1": x for name, x in state.items()}
    both = suffixed | {f"{name}_reverse": x for name, x in suffixed.items()} | {"overwrites_l0": np.zeros(0)}
    for kept, layer in ((state, None), (suffixed, 1), (both, 1)):
        weights = to_onnx("GRU", kept, layer)
        for i in range(len(weights["W"])):
            own = {name: x[i] for name, x in weights.items()}
            computed = list(onnx_equations("GRU", **own, linear_before_reset=True))
            np.testing.assert_allclose(computed, expected, rtol=1e-10)
    message = (
        "weights: do not fit:\n  overwrites: it has no counterpart; known are weight_ih, weight_hh, bias_ih, bias_hh"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        to_keras("SimpleRNN", draw(weight_ih=(H, X), weight_hh=(H, H)) | {"overwrites": np.zeros(0)})


@pytest.mark.parametrize("layers", [0, 2])
def test_a_gru_that_overwrites_says_so_in_its_state_dict(layers):
    def make(meaning, rng):
        keywords = dict(update_gate=meaning, dtype=np.float64, rng=rng)
        return nn.GRU(X, H, layers, bidirectional=True, **keywords) if layers else nn.GRUCell(X, H, **keywords)

    cell, keeps = make("overwrites", 0), make("keeps", 1)
    names = [f"overwrites_l{i}{way}" for i in range(layers) for way in ("", "_reverse")] or ["overwrites"]
    assert cell.state_dict().keys() - keeps.state_dict().keys() == {*names}
    assert nn.summary(cell).total == nn.summary(keeps).total
    missing = "\n  ".join([f"state: does not fit this {type(cell).__name__}:", *(f"{name}: missing" for name in names)])
    with pytest.raises(ValueError, match=f"^{missing}$"):
        cell.load_state_dict(keeps.state_dict())
    with pytest.raises(ValueError, match=f"{names[0]}: not in this module"):
        keeps.load_state_dict(cell.state_dict())
    state = {}
    for i in range(layers) or [None]:
        state |= from_onnx("GRU", to_onnx("GRU", cell.state_dict(), i), i)
    keeps.load_state_dict(state)
    (ys, _), (zs, _) = (net(XS) if layers else nn.scan(net, XS) for net in (cell, keeps))
    np.testing.assert_allclose(ys.data, zs.data, rtol=1e-10)
    make("overwrites", 2).load_state_dict(cell.state_dict())


@pytest.mark.parametrize(("kind", "reset_after"), ONNX)
@pytest.mark.parametrize("layer", [0, 1])
def test_onnx_itself_computes_the_same(kind, reset_after, layer):
    weights = onnx_weights(kind)
    attributes = {"linear_before_reset": int(reset_after)} if kind == "GRU" else {}
    state, theirs = from_onnx(kind, weights, layer=None), in_onnx(kind, weights, attributes)
    np.testing.assert_allclose(ours(kind, state, reset_after), theirs, rtol=1e-12)
    again = to_onnx(kind, {f"{name}_l{layer}": x for name, x in state.items()}, layer)
    assert (in_onnx(kind, again, attributes) == theirs).all()


def test_onnx_itself_computes_the_same_with_peepholes():
    weights = onnx_weights("LSTM", peepholes=True)
    cell = nn.LSTMVariantCell(X, H, peepholes=True, dtype=np.float64)
    cell.load_state_dict(from_onnx("LSTM", weights, layer=None))
    np.testing.assert_allclose(nn.scan(cell, XS)[0].data, in_onnx("LSTM", weights), rtol=1e-12)


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


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.filterwarnings("error")
def test_torch_tensors_are_taken_as_they_are(trained, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LSTM(X, H)
    ours, state = nn.LSTM(X, H), dict(theirs.named_parameters()) if trained else theirs.state_dict()
    expected = {name: p.detach().numpy().copy() for name, p in theirs.named_parameters()}
    tg.save(tmp_path / "state.npz", state)
    for given in (tg.load(tmp_path / "state.npz"), from_onnx("LSTM", to_onnx("LSTM", state)), state):
        ours.load_state_dict({name: 0 * x for name, x in expected.items()})
        ours.load_state_dict(given)
        assert all((ours.state_dict()[name] == x).all() for name, x in expected.items())
    weights = dict(zip(("kernel", "recurrent_kernel"), (state["weight_ih_l0"].T, state["weight_hh_l0"].T)))
    assert (from_keras("LSTM", weights)["weight_hh"] == expected["weight_hh_l0"]).all()
    with torch.no_grad():
        theirs.weight_ih_l0 += 1
    assert (ours.weight_ih_l0.data == expected["weight_ih_l0"]).all()
    with pytest.raises(ValueError, match=r"does not fit this LSTM:\n  weight_ih_l0: .*BFloat16\n  weight_hh_l0: .*BFl"):
        ours.load_state_dict({name: x.bfloat16() for name, x in state.items()})


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
        (
            lambda: from_keras("Conv1D", []),
            [
                "kind: expected one of 'SimpleRNN', 'LSTM', 'GRU', 'Dense', 'Embedding', 'LayerNormalization', "
                "got 'Conv1D'"
            ],
        ),
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
            [r"B: expected \(1, 32\), got \(2, 32\)"],
        ),
        (
            lambda: from_onnx("GRU", onnx_weights("GRU") | draw(P=(1, 12))),
            ["P: it has no counterpart; known are W, R, B"],
        ),
        (lambda: from_onnx("LSTM", onnx_weights("LSTM") | draw(P=(1, 8))), [r"P: expected \(1, 12\), got \(1, 8\)"]),
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


LSTM_STATE = draw(weight_ih=(16, 3), weight_hh=(16, 4))
TWO_WAYS = draw(weight_ih_l0=(4, 3), weight_hh_l0=(4, 4), weight_ih_l0_reverse=(4, 3), weight_hh_l0_reverse=(4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: from_keras("Dense", {"kernel": np.ones(3), "beta": np.ones(3)}),
            "weights: do not fit:\n  kernel: expected ('rows', 'columns'), got (3,)\n"
            "  beta: it has no counterpart; known are kernel, bias",
        ),
        (lambda: from_keras("Dense", []), "weights: do not fit:\n  kernel: missing"),
        (
            lambda: from_keras("Dense", [np.ones((3, 4)), np.ones(3), 1]),
            "weights: do not fit:\n  bias: expected (4,), got (3,)\n"
            "  [2]: it has no counterpart; known are kernel, bias",
        ),
        (
            lambda: to_keras("Dense", {"weight": np.ones((3, 4)), "bias": np.ones(4)}),
            "weights: do not fit:\n  bias: expected (3,), got (4,)",
        ),
        (
            lambda: to_keras("Embedding", nn.Linear(3, 4).state_dict()),
            "weights: do not fit:\n  bias: it has no counterpart; known are weight",
        ),
        (
            lambda: to_keras("LayerNormalization", {"bias": np.ones(4)}),
            "weights: do not fit:\n  weight: missing",
        ),
        (
            lambda: from_keras("LayerNormalization", [np.ones(3), np.ones(4)]),
            "weights: do not fit:\n  beta: expected (3,), got (4,)",
        ),
        (
            lambda: from_keras("Embedding", [np.ones((3, 4))], layer=0),
            "layer, reverse, bidirectional: they are a recurrent layer's, and this is Embedding: leave them",
        ),
        (
            lambda: from_keras("LSTM", keras_weights("LSTM"), layer=True),
            "layer: expected a whole number, at least 0, got True",
        ),
        (lambda: to_onnx("LSTM", LSTM_STATE, layer=-1), "layer: expected a whole number, at least 0, got -1"),
        (
            lambda: from_keras("LSTM", [], bidirectional=True),
            "bidirectional: both directions of a layer: expected a number for layer, and not reverse",
        ),
        (
            lambda: to_keras("LSTM", {}, layer=0, reverse=True, bidirectional=True),
            "bidirectional: both directions of a layer: expected a number for layer, and not reverse",
        ),
        (
            lambda: from_keras("LSTM", list(keras_weights("LSTM").values()), layer=0, bidirectional=True),
            "weights: expected those of the forward layer and as many of the backward one, got 3 arrays",
        ),
        (
            lambda: from_keras("LSTM", keras_weights("LSTM", bias=False), layer=0, bidirectional=True),
            "weights: do not fit:\n  kernel: expected a name after forward_layer/ or backward_layer/\n"
            "  recurrent_kernel: expected a name after forward_layer/ or backward_layer/",
        ),
        (
            lambda: from_onnx("LSTM", onnx_weights("LSTM", peepholes=True)),
            "P: only a cell has peepholes, LSTMVariantCell(inputs, units, peepholes=True): expected layer=None, got 0",
        ),
        (
            lambda: to_onnx("LSTM", LSTM_STATE | draw(**{"peepholes.i": (4,), "peepholes.f": (3,)}), None),
            "weights: do not fit:\n  peepholes.o: missing\n  peepholes.f: expected (4,), got (3,)",
        ),
        (
            lambda: to_keras("LSTM", LSTM_STATE | draw(**{"peepholes.i": (4,)})),
            "weights: do not fit:\n"
            "  peepholes.i: it has no counterpart; known are weight_ih, weight_hh, bias_ih, bias_hh",
        ),
        (
            lambda: to_onnx("RNN", TWO_WAYS | draw(bias_ih_l0=(4,), bias_hh_l0=(4,))),
            "weights: the directions differ:\n  bias_ih: missing\n  bias_hh: missing",
        ),
        (
            lambda: to_onnx("RNN", TWO_WAYS | draw(bias_ih_l0_reverse=(4,), bias_hh_l0_reverse=(4,))),
            "weights: the directions differ:\n  bias_ih: it has no counterpart; known are weight_ih, weight_hh\n"
            "  bias_hh: it has no counterpart; known are weight_ih, weight_hh",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_full(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: from_torch(None), "state"),
        (lambda: from_keras("LSTM", None), "weights"),
        (lambda: from_keras("LayerNormalization", None), "weights"),
        (lambda: from_keras("LSTM", None, layer=0, bidirectional=True), "weights"),
        (lambda: to_keras("LSTM", None), "state"),
        (lambda: from_onnx("LSTM", None), "weights"),
        (lambda: to_onnx("LSTM", None), "state"),
    ],
)
def test_no_dict_is_said(call, what):
    with pytest.raises(TypeError, match=f"^{what}: expected a dict of arrays by name, got None$"):
        call()


def test_tensors_and_models_go_in_as_they_are():
    cell = nn.GRUCell(X, H, rng=0)
    again = nn.GRUCell(X, H, rng=1)
    again.load_state_dict(from_keras("GRU", to_keras("GRU", dict(cell.named_parameters()))))
    assert all((a == b).all() for a, b in zip(cell.state_dict().values(), again.state_dict().values()))
    again.load_state_dict(from_onnx("GRU", to_onnx("GRU", cell.state_dict(), layer=None), layer=None))
    assert all((a == b).all() for a, b in zip(cell.state_dict().values(), again.state_dict().values()))
