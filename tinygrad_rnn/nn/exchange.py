"""Weights from other frameworks and for them, none of which is needed for it: dicts of NumPy arrays in, and out.

The modules here have PyTorch's names and layouts: what its ``state_dict`` holds, ``load_state_dict`` takes. Those of
Keras and ONNX are others; here is how they correspond, for H units, I inputs and G gates:

==========  ======================  ==============================  =============================
..          PyTorch, and here       Keras                           ONNX, for D directions
==========  ======================  ==============================  =============================
of inputs   ``weight_ih`` (G·H, I)  ``kernel`` (I, G·H)             ``W`` (D, G·H, I)
of states   ``weight_hh`` (G·H, H)  ``recurrent_kernel`` (H, G·H)   ``R`` (D, G·H, H)
biases      ``bias_ih`` (G·H,),     ``bias`` (G·H,), or (2, G·H)    ``B`` (D, 2·G·H): the first
            ``bias_hh`` (G·H,)      of a GRU with ``reset_after``   half is that of the inputs
LSTM's      i, f, g, o              i, f, c, o                      i, o, f, c
GRU's       r, z, n                 z, r, h                         z, r, h
==========  ======================  ==============================  =============================

Where Keras has one bias, ours has two, which are added: it becomes ``bias_ih``, and ``bias_hh`` is 0. The peepholes of
an :class:`~tinygrad_rnn.nn.LSTMVariantCell`, ``peepholes.i``, ``.f`` and ``.o``, are ONNX's ``P`` (D, 3·H), in the
order i, o, f; Keras has none. The z of Keras, ONNX and PyTorch keeps the state. That of a GRU whose ``update_gate``
``"overwrites"`` does not: ``overwrites`` in its state dict says so, and what goes out has z's weights negated, which is
exact. It takes no state dict without that entry: load one into a GRU that keeps, or make a cell of the other kind by
:meth:`~tinygrad_rnn.nn.GRUCell.with_update_gate`.

Of the other layers of Keras, a Dense is a Linear (``kernel`` is the weight, transposed), an Embedding ours
(``embeddings``), and a LayerNormalization a LayerNorm (``gamma`` and ``beta`` are weight and bias).

What the weights do not tell is for the user to look at: the activation functions; whether a GRU's reset gate acts after
the product (``reset_after`` here and in Keras, ``linear_before_reset`` in ONNX) or before it; and the eps of a
LayerNorm, 1e-5 here, where Keras has 1e-3: ``LayerNorm(size, eps=1e-3)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import move
from ..errors import described, whole
from ..tensor import Tensor, bare

# The order in which another framework has our gates: RNN one alone, LSTM i, f, g, o, GRU r, z, n
ONNX_GATES = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
KERAS_GATES = {"SimpleRNN": [0], "LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2]}
OURS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
PEEPHOLES = ("peepholes.i", "peepholes.o", "peepholes.f")  # in the order of ONNX's P
BOTH = ("forward_layer/", "backward_layer/")  # of a Bidirectional of Keras
# The other layers of Keras: what it calls their weights, in its order, and what we do
OTHERS = {
    "Dense": {"kernel": "weight", "bias": "bias"},
    "Embedding": {"embeddings": "weight"},
    "LayerNormalization": {"gamma": "weight", "beta": "bias"},
}


def from_torch(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A PyTorch ``state_dict`` as NumPy arrays, which are copies: from any device, also of parameters in training.

    Names and layouts are ours already: ``load_state_dict`` takes PyTorch's own, too.

    Parameters
    ----------
    state : mapping of str to tensor
        The ``state_dict``: tensors of PyTorch's, or arrays.

    Returns
    -------
    dict of str to array
        The arrays, under the same names.

    Raises
    ------
    ValueError
        NumPy has no such dtype, as of bfloat16; names all of them.
    TypeError
        ``state`` is no dict.

    Examples
    --------
    >>> theirs = {"weight": np.ones((2, 3)), "bias": np.zeros(2)}  # such as torch.nn.Linear(3, 2).state_dict()
    >>> {name: array.shape for name, array in from_torch(theirs).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    arrays, wrong = {}, []
    for name, x in _dict("state", state).items():
        try:
            arrays[name] = np.array(_array(x))
        except TypeError as error:
            wrong.append(f"{name}: {error}")
    return _unless(wrong, "state: some tensors have no NumPy dtype (.float() gives them one):", arrays)


def from_keras(
    kind: str, weights: Mapping[str, Any] | Sequence[Any], layer: int | None = None, reverse: bool = False,
    bidirectional: bool = False,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The weights of a Keras layer, under our names, in our layout.

    Parameters
    ----------
    kind : str
        The layer's class in Keras: ``"SimpleRNN"``, ``"LSTM"``, ``"GRU"``; ``"Dense"``, ``"Embedding"`` or
        ``"LayerNormalization"``.
    weights : sequence of array or mapping of str to array
        What its ``get_weights()`` returns, in that order; or the same arrays by Keras' names.
    layer : int, optional
        The number of the layer to be, in a recurrent network of ours (``weight_ih_l0``); None: it is a cell
        (``weight_ih``).
    reverse : bool, optional
        Whether it is the backward one of a bidirectional layer (``weight_ih_l0_reverse``).
    bidirectional : bool, optional
        Whether the weights are those of a Bidirectional around the layer: the forward one's, and then the backward
        one's; by names, these are ``forward_layer/kernel`` and so on.

    Returns
    -------
    dict of str to array
        The weights, for ``load_state_dict``.

    Raises
    ------
    ValueError
        Names or shapes do not fit together; lists all of them. Or there is no such ``kind``, or no such place for it.

    Examples
    --------
    >>> ours = from_keras("SimpleRNN", {"kernel": np.ones((15, 16)), "recurrent_kernel": np.ones((16, 16))})
    >>> {name: array.shape for name, array in ours.items()}
    {'weight_ih': (16, 15), 'weight_hh': (16, 16)}
    """
    _known(kind, [*KERAS_GATES, *OTHERS])
    _placed(kind, layer, reverse, bidirectional)
    if bidirectional:
        halves = _halves(weights)
        return from_keras(kind, halves[0], layer) | from_keras(kind, halves[1], layer, reverse=True)
    if kind in OTHERS:
        return _from_other(kind, weights)
    arrays = _named(weights, ["kernel", "recurrent_kernel", "bias"])
    order = KERAS_GATES[kind]
    inputs, units = _axis(arrays, "kernel", 0), _axis(arrays, "recurrent_kernel", 0)
    rows = len(order) * units
    two = kind == "GRU" and "bias" in arrays and arrays["bias"].ndim == 2
    shapes = {"kernel": (inputs, rows), "recurrent_kernel": (units, rows), "bias": (2, rows) if two else (rows,)}
    _fit(arrays, shapes, ("kernel", "recurrent_kernel"))
    back = list(np.argsort(order))
    state = {"weight_ih": _gates(arrays["kernel"].T, back), "weight_hh": _gates(arrays["recurrent_kernel"].T, back)}
    if "bias" in arrays:
        bias = arrays["bias"] if two else np.stack([arrays["bias"], np.zeros_like(arrays["bias"])])
        state |= {"bias_ih": _gates(bias[0], back), "bias_hh": _gates(bias[1], back)}
    return {name + _suffix(layer, reverse): array for name, array in state.items()}


def to_keras(
    kind: str, state: Mapping[str, Any], layer: int | None = None, reverse: bool = False, reset_after: bool = True,
    bidirectional: bool = False,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The weights of a layer or a cell of ours as those of a Keras layer, by its names.

    They are in the order of its ``set_weights(list(weights.values()))``.

    Parameters
    ----------
    kind : str
        The layer's class in Keras, as of :func:`~tinygrad_rnn.nn.from_keras`.
    state : mapping of str to array
        The ``state_dict``; that of a recurrent network may have other layers, too. If it is of a GRU that
        ``overwrites``, z's weights are negated.
    layer : int, optional
        The number of the layer in the network; None: it is a cell.
    reverse : bool, optional
        Whether it is the layer's backward direction.
    reset_after : bool, optional
        Of a GRU; Keras has two biases only with it. One bias is the sum of ours.
    bidirectional : bool, optional
        Whether both directions are wanted, as of a Bidirectional.

    Returns
    -------
    dict of str to array
        The weights, by Keras' names.

    Raises
    ------
    ValueError
        Names or shapes do not fit together; lists all of them. Or there is no such ``kind``, or no such place for it.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> weights = to_keras("LSTM", nn.LSTM(3, 4, rng=0).state_dict(), layer=0)
    >>> {name: array.shape for name, array in weights.items()}
    {'kernel': (3, 16), 'recurrent_kernel': (4, 16), 'bias': (16,)}
    """
    _known(kind, [*KERAS_GATES, *OTHERS])
    _placed(kind, layer, reverse, bidirectional)
    if bidirectional:
        each = [to_keras(kind, state, layer, reverse, reset_after) for reverse in (False, True)]
        return {part + name: array for part, weights in zip(BOTH, each) for name, array in weights.items()}
    arrays = _arrays("state", state)
    if kind in OTHERS:
        return _to_other(kind, arrays)
    order = KERAS_GATES[kind]
    own = _of_layer(kind, arrays, len(order), layer, reverse)
    weights = {
        "kernel": _gates(own["weight_ih"], order).T.copy(),
        "recurrent_kernel": _gates(own["weight_hh"], order).T.copy(),
    }
    if "bias_ih" in own:
        biases = [_gates(own["bias_ih"], order), _gates(own["bias_hh"], order)]
        weights["bias"] = np.stack(biases) if kind == "GRU" and reset_after else biases[0] + biases[1]
    return weights


def from_onnx(kind: str, weights: Mapping[str, Any], layer: int | None = 0) -> dict[str, np.ndarray]:
    """The initialisers of an ONNX node, under our names, in our layout.

    Parameters
    ----------
    kind : {"RNN", "LSTM", "GRU"}
        The operator.
    weights : mapping of str to array
        ``"W"``, ``"R"`` and, if there is one, ``"B"``; of an LSTM also ``"P"``: it becomes the peepholes of a cell,
        ``LSTMVariantCell(inputs, units, peepholes=True)``, as our layers of LSTM have none.
    layer : int or None, optional
        The number of the layer to be (``weight_ih_l0``, and ``weight_ih_l0_reverse`` of two directions); None: it is a
        cell.

    Returns
    -------
    dict of str to array
        The weights, for ``load_state_dict``.

    Raises
    ------
    ValueError
        Names or shapes do not fit together; lists all of them. Or there is no such ``kind``.

    Examples
    --------
    >>> ours = from_onnx("GRU", {"W": np.ones((1, 12, 3)), "R": np.ones((1, 12, 4))})
    >>> {name: array.shape for name, array in ours.items()}
    {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4)}
    """
    _known(kind, ONNX_GATES)
    arrays = _arrays("weights", weights)
    order = ONNX_GATES[kind]
    directions, units, inputs = _axis(arrays, "W", 0), _axis(arrays, "R", 2), _axis(arrays, "W", 2)
    rows = len(order) * units
    shapes = {"W": (directions, rows, inputs), "R": (directions, rows, units), "B": (directions, 2 * rows)}
    _fit(arrays, shapes | ({"P": (directions, 3 * units)} if kind == "LSTM" else {}), ("W", "R"))
    if "P" in arrays and layer is not None:
        raise ValueError("P: only a cell has peepholes, LSTMVariantCell(inputs, units, peepholes=True): expected "
                         f"layer=None, got {layer}")  # fmt: skip
    if directions not in ((1,) if layer is None else (1, 2)):
        raise ValueError(f"W: expected {'1 direction, of a cell' if layer is None else '1 or 2 directions'}, got "
                         f"{directions}")  # fmt: skip
    back, state = list(np.argsort(order)), {}
    for i in range(directions):
        own = {"weight_ih": arrays["W"][i], "weight_hh": arrays["R"][i]}
        if "B" in arrays:
            own |= {"bias_ih": arrays["B"][i, :rows], "bias_hh": arrays["B"][i, rows:]}
        state |= {name + _suffix(layer, i == 1): _gates(array, back) for name, array in own.items()}
    if "P" in arrays:
        state |= dict(zip(PEEPHOLES, np.split(arrays["P"][0].copy(), 3)))
    return state


def to_onnx(kind: str, state: Mapping[str, Any], layer: int | None = 0) -> dict[str, np.ndarray]:
    """The weights of a layer or a cell of ours as ``"W"``, ``"R"``, ``"B"`` and, of peepholes, ``"P"`` of an ONNX node.

    The node has two directions, if the layer has. Its attributes are not weights: hidden_size, direction and, of a GRU,
    linear_before_reset, which is our reset_after.

    Parameters
    ----------
    kind : {"RNN", "LSTM", "GRU"}
        The operator.
    state : mapping of str to array
        The ``state_dict``; it may have other layers, too. If it is of a GRU that ``overwrites``, z's weights are
        negated.
    layer : int or None, optional
        The number of the layer in the network; None: it is a cell.

    Returns
    -------
    dict of str to array
        The node's initialisers.

    Raises
    ------
    ValueError
        Names or shapes do not fit together; lists all of them. Or there is no such ``kind``.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> node = to_onnx("GRU", nn.GRU(3, 4, bidirectional=True, rng=0).state_dict())
    >>> {name: array.shape for name, array in node.items()}
    {'W': (2, 12, 3), 'R': (2, 12, 4), 'B': (2, 24)}
    """
    _known(kind, ONNX_GATES)
    arrays = _arrays("state", state)
    order = ONNX_GATES[kind]
    both = [False, True] if layer is not None and "weight_ih" + _suffix(layer, True) in arrays else [False]
    peepholes = {}
    if kind == "LSTM" and layer is None:
        peepholes = {name: arrays.pop(name) for name in PEEPHOLES if name in arrays}
    own = [_of_layer(kind, arrays, len(order), layer, reverse) for reverse in both]
    for weights in own[1:]:
        _fit(weights, {name: x.shape for name, x in own[0].items()}, own[0], "weights: the directions differ:")
    if peepholes:
        units = own[0]["weight_hh"].shape[1]
        _fit(peepholes, dict.fromkeys(PEEPHOLES, (units,)), PEEPHOLES)
    own = [{name: _gates(array, order) for name, array in weights.items()} for weights in own]
    weights = {"W": np.stack([w["weight_ih"] for w in own]), "R": np.stack([w["weight_hh"] for w in own])}
    if "bias_ih" in own[0]:
        weights["B"] = np.stack([np.concatenate([w["bias_ih"], w["bias_hh"]]) for w in own])
    if peepholes:
        weights["P"] = np.concatenate([peepholes[name] for name in PEEPHOLES])[None]
    return weights


# The other layers of Keras --------------------------------------------------------------------------------------------


def _from_other(kind: str, weights: Any) -> dict[str, np.ndarray]:
    names = OTHERS[kind]
    if kind == "LayerNormalization" and isinstance(weights, (list, tuple)) and len(weights) == 1:
        raise ValueError('weights: one array may be gamma or beta: say which, {"gamma": array}')
    arrays = _named(weights, list(names))
    if kind == "LayerNormalization" and "beta" in arrays and "gamma" not in arrays:
        arrays = {"gamma": np.ones_like(arrays["beta"]), **arrays}  # scale=False
    _fit_other(kind, arrays, list(names), -1)
    return {ours: _turned(kind, arrays[name]) for name, ours in names.items() if name in arrays}


def _to_other(kind: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = OTHERS[kind]
    _fit_other(kind, arrays, list(names.values()), 0)
    return {name: _turned(kind, arrays[ours]) for name, ours in names.items() if ours in arrays}


def _fit_other(kind: str, arrays: Mapping[str, np.ndarray], names: list[str], units: int) -> None:
    """Check the first one's number of axes, and that the second has the same shape, or as many numbers as units."""
    main, *bias = names
    shapes: dict[str, tuple] = {name: np.shape(arrays.get(name, 0)) for name in names}
    if main in arrays:
        if kind != "LayerNormalization" and len(shapes[main]) != 2:
            shapes[main] = ("rows", "columns")
        shapes |= dict.fromkeys(bias, shapes[main] if kind == "LayerNormalization" else (shapes[main][units],))
    _fit(arrays, shapes, [main])


def _turned(kind: str, array: np.ndarray) -> np.ndarray:
    """A copy, the matrix of a Dense transposed."""
    return (array.T if kind == "Dense" else array).copy()


# What they share ------------------------------------------------------------------------------------------------------


def array_in(x: Any) -> Any:
    """The array in a tensor of ours, PyTorch's or TensorFlow's, also of parameters in training; else x as it is."""
    if isinstance(x, Tensor):
        return bare(x)
    for method in ("detach", "cpu", "numpy"):
        x = getattr(x, method)() if hasattr(x, method) else x
    return x


def _array(x: Any) -> np.ndarray:
    return np.asarray(move(array_in(x), "cpu"))


def _dict(what: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{what}: expected a dict of arrays by name, got {described(given)}")
    return given


def _arrays(what: str, given: Any) -> dict[str, np.ndarray]:
    return {name: _array(x) for name, x in _dict(what, given).items()}


def _named(weights: Any, names: list[str]) -> dict[str, np.ndarray]:
    """The arrays by name; a list of them has them in this order."""
    if isinstance(weights, (list, tuple)):
        weights = dict(zip([*names, *(f"[{i}]" for i in range(len(names), len(weights)))], weights))
    return _arrays("weights", weights)


def _halves(weights: Any) -> list:
    """The weights of the two layers in a Bidirectional of Keras."""
    if isinstance(weights, (list, tuple)):
        half, odd = divmod(len(weights), 2)
        if odd:
            raise ValueError("weights: expected those of the forward layer and as many of the backward one, got "
                             f"{len(weights)} arrays")  # fmt: skip
        return [weights[:half], weights[half:]]
    weights = _dict("weights", weights)
    wrong = [f"{name}: expected a name after {' or '.join(BOTH)}" for name in weights if not name.startswith(BOTH)]
    halves = [{name.removeprefix(part): x for name, x in weights.items() if name.startswith(part)} for part in BOTH]
    return _unless(wrong, "weights: do not fit:", halves)


def _placed(kind: str, layer: int | None, reverse: bool, bidirectional: bool) -> None:
    """Raise a ValueError, if the layer to be has no such place."""
    if kind in OTHERS and (layer is not None or reverse or bidirectional):
        raise ValueError(f"layer, reverse, bidirectional: they are a recurrent layer's, and this is {kind}: leave them")
    if bidirectional and (layer is None or reverse):
        raise ValueError("bidirectional: both directions of a layer: expected a number for layer, and not reverse")


def _gates(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """A copy, with the blocks of rows, one a gate, in another order."""
    return np.concatenate([np.split(array, len(order))[i] for i in order])


def _suffix(layer: int | None, reverse: bool) -> str:
    if layer is None and reverse:
        raise ValueError("reverse: a cell has no direction: expected a number for layer")
    return "" if layer is None else f"_l{whole('layer', layer, 0)}{'_reverse' if reverse else ''}"


def _of_layer(
    kind: str, arrays: dict[str, np.ndarray], gates: int, layer: int | None, reverse: bool
) -> dict[str, np.ndarray]:
    """The weights of one layer and direction out of ours, without the suffix, checked; its update gate keeps."""
    suffix = _suffix(layer, reverse)
    names = [name + suffix for name in OURS]
    known = [*names, "overwrites" + suffix]
    other = r"((weight|bias)_(ih|hh)|overwrites)_l\d+(_reverse)?" if layer is not None else "(?!)"
    own = {name: x for name, x in arrays.items() if name in known or not re.fullmatch(other, name)}
    overwrites = kind == "GRU" and own.pop("overwrites" + suffix, None) is not None
    inputs, units = _axis(own, names[0], 1), _axis(own, names[1], 1)
    rows = gates * units
    needed = names if own.keys() & names[2:] else names[:2]
    _fit(own, dict(zip(names, [(rows, inputs), (rows, units), (rows,), (rows,)])), needed)
    state = {short: own[name] for short, name in zip(OURS, names) if name in own}
    if overwrites:  # 1 - σ(a) = σ(-a)
        for name, array in state.items():
            r, z, n = np.split(array, 3)
            state[name] = np.concatenate([r, -z, n])
    return state


def _axis(arrays: Mapping[str, np.ndarray], name: str, axis: int) -> int:
    """How long an axis is; 0, which fits nothing, if there is none."""
    shape = arrays[name].shape if name in arrays else ()
    return shape[axis] if axis < len(shape) else 0


def _fit(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple], needed: Iterable[str],
    what: str = "weights: do not fit:",
) -> None:  # fmt: skip
    """Raise a ValueError that lists all names that are missing or not known, and all shapes that are wrong."""
    wrong = [f"{name}: missing" for name in needed if name not in arrays]
    for name, array in arrays.items():
        if name not in shapes:
            wrong.append(f"{name}: it has no counterpart; known are {', '.join(shapes)}")
        elif shapes[name] != array.shape:
            wrong.append(f"{name}: expected {shapes[name]}, got {array.shape}")
    _unless(wrong, what, None)


def _unless(wrong: list[str], what: str, result: Any) -> Any:
    if wrong:
        raise ValueError("\n  ".join([what, *wrong]))
    return result


def _known(kind: str, kinds: Any) -> None:
    if kind not in kinds:
        raise ValueError(f"kind: expected one of {', '.join(map(repr, kinds))}, got {kind!r}")
