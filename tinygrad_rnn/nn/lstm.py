"""The family of LSTM: what can be left out of it or put into it, what it was at first, and its smallest relative.

The cell that most people mean, with PyTorch's weights, is :class:`~tinygrad_rnn.nn.LSTMCell`, in ``cells.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import whole
from ..ops import concatenate, repeat, sigmoid, split, tanh
from ..tensor import Tensor
from .cells import AffineCell, Cell, LSTMCell, activation
from .init import uniform
from .linear import linear
from .module import Parameter


class LSTMVariantCell(LSTMCell):
    """LSTM with other gates, connections and activations: those of Greff et al. (2017), in any combination.

    With peepholes, one step is::

        i = σ_g(W_ii x + b_ii + W_hi h + b_hi + p_i * c)      f = σ_g(W_if x + b_if + W_hf h + b_hf + p_f * c)
        g = σ_c(W_ig x + b_ig + W_hg h + b_hg)                c' = f * c + i * g
        o = σ_g(W_io x + b_io + W_ho h + b_ho + p_o * c')     h' = o * σ_h(c')

    The rows of the weights are those of i, f, g, o that are there: without any of these options, it is an
    :class:`~tinygrad_rnn.nn.LSTMCell`. ``LSTMVariantCell.VARIANTS`` has the arguments of the nine variants of the
    paper.

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units.
    bias : bool, optional
        Whether there are biases.
    without : str, optional
        The gates that are not there, of ``"i"``, ``"f"`` and ``"o"``: 1 takes the place of each.
    coupled : bool, optional
        Whether f = 1 - i, without weights of its own.
    peepholes : bool, optional
        Whether there are the vectors p (Gers and Schmidhuber, 2000); the attribute ``peepholes`` holds them, by gate.
    gate_recurrence : bool, optional
        Whether the gates see each other one step later: ``weight_gg`` times the gates of the last step, joined in the
        order i, f, o, is added within each σ_g. The state is (h, c, gates) then.
    gate_activation, input_activation, output_activation : str or callable, optional
        σ_g, σ_c and σ_h, each a name, ``"sigmoid"``, ``"tanh"``, ``"relu"`` or ``"linear"``, or a function of a tensor.
    rng : int or Generator, optional
        For the weights, also p: uniform within ±1/√hidden_size.
    dtype : dtype, optional
        Of the weights.
    **keywords
        ``proj_size``, ``forget_bias`` and ``forget_identity``, as of :class:`~tinygrad_rnn.nn.LSTMCell`.

    Raises
    ------
    ValueError
        ``without`` names no gates; or ``coupled`` or ``gate_recurrence`` lacks the gates that it needs.

    Examples
    --------
    >>> cell = LSTMVariantCell(3, 4, **LSTMVariantCell.VARIANTS["CIFG"], rng=0)
    >>> y, (h, c) = cell(np.ones((5, 3), np.float32))
    >>> {name: p.shape for name, p in cell.named_parameters()}["weight_ih"], list(cell.peepholes)
    ((12, 3), ['i', 'o'])
    """

    VARIANTS: ClassVar[dict[str, dict[str, Any]]] = {
        "V": dict(peepholes=True),
        "NIG": dict(peepholes=True, without="i"),
        "NFG": dict(peepholes=True, without="f"),
        "NOG": dict(peepholes=True, without="o"),
        "NIAF": dict(peepholes=True, input_activation="linear"),
        "NOAF": dict(peepholes=True, output_activation="linear"),
        "CIFG": dict(peepholes=True, coupled=True),
        "NP": dict(),
        "FGR": dict(peepholes=True, gate_recurrence=True),
    }

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, without: str = "", coupled: bool = False,
        peepholes: bool = False, gate_recurrence: bool = False, gate_activation: str | Callable = "sigmoid",
        input_activation: str | Callable = "tanh", output_activation: str | Callable = "tanh", rng: Any = None,
        dtype: Any = np.float32, **keywords: Any,
    ):  # fmt: skip
        if not set(without) <= set("ifo"):
            raise ValueError(f"without: expected gates, of 'i', 'f' and 'o', got {without!r}")
        if coupled and set(without) & set("if"):
            raise ValueError(f"coupled: expected an input gate, and f = 1 - i as forget gate; got without={without!r}")
        self.rows = "".join(row for row in "ifgo" if row not in without and not (coupled and row == "f"))
        self.gate_rows = self.rows.replace("g", "")
        if gate_recurrence and not self.gate_rows:
            raise ValueError("gate_recurrence: expected gates, and there are none here")
        self.coupled, self.gate_activation = coupled, gate_activation
        self.input_activation, self.output_activation = input_activation, output_activation
        for name in ("gate_activation", "input_activation", "output_activation"):
            activation(getattr(self, name), name)
        rng = np.random.default_rng(rng)
        super().__init__(input_size, hidden_size, bias, rng=rng, dtype=dtype, **keywords)

        def weights(*shape: int) -> Parameter:
            return Parameter(uniform(shape, hidden_size**-0.5, rng, dtype))

        self.peepholes = {gate: weights(hidden_size) for gate in self.gate_rows} if peepholes else {}
        self.weight_gg = None
        if gate_recurrence:
            units = len(self.gate_rows) * hidden_size
            self.weight_gg = weights(units, units)
            self.state_size, self.state_names = (*self.state_size, units), "(h, c, gates)"

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and (h', c'), or (h', c', gates), the next state."""
        h, c, *last = state
        nets = dict(zip(self.rows, split(self.of_input(x) + self.of_state(h), len(self.rows), axis=-1)))
        if last:
            for gate, net in zip(self.gate_rows, split(linear(*last, self.weight_gg), len(self.gate_rows), axis=-1)):
                nets[gate] = nets[gate] + net
        gates = {}

        def gate(name: str, c: Any) -> Any:
            if name not in nets:
                return 1
            net = nets[name] + self.peepholes[name] * c if self.peepholes else nets[name]
            gates[name] = activation(self.gate_activation)(net)
            return gates[name]

        i = gate("i", c)
        f = 1 - i if self.coupled else gate("f", c)
        g = activation(self.input_activation)(nets["g"])
        c = f * c + i * g
        h = self.projected(gate("o", c) * activation(self.output_activation)(c))
        self.watch(**gates, g=g, c=c)
        return h, (h, c, concatenate(list(gates.values()), axis=-1)) if last else (h, c)


class LSTM1997Cell(Cell):
    """Long short-term memory as it was first published (Hochreiter and Schmidhuber, 1997): without a forget gate.

    Memory cells stand in blocks; those of a block share its gates. All units are fully connected: u, the cells' outputs
    and the gates' activations of the last step, is fed back to all of them. With the block of each cell for its gates,
    one step is::

        i = σ(W_i x + U_i u + b_i)          s' = s + i * g
        o = σ(W_o x + U_o u + b_o)          h' = o * (2 σ(s') - 1)
        g = 4 σ(W_g x + U_g u + b_g) - 2    u' = [h', i, o]

    The state is (u, s). The rows of ``weight_ih`` and ``weight_hh`` are g (cell after cell, block after block), i, o;
    ``bias_cells`` and ``bias_gates`` are b_g and [b_i, b_o]. The output layer, apart, is a
    :class:`~tinygrad_rnn.nn.Linear`. The nets of the paper have exactly as many weights: the one that learned to add,
    93.

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    blocks, cells : int
        The number of blocks, and of the cells in each.
    bias : bool or "gates", optional
        Whether there are biases b; ``"gates"``: only those of the gates.
    output_gate : bool, optional
        Whether there is an o. Without: 1.
    recurrent : bool, optional
        Whether there is a U. Without, a cell remembers by s alone.
    truncated : bool, optional
        Whether the gradient is the paper's, which does not flow through u: only s carries it back.
    input_gate_bias, output_gate_bias : float or sequence of float, optional
        What b_i and b_o are at first: a number, or one for each block (the paper's are negative). None: random, like
        the other weights.
    bound : float, optional
        The weights are uniform within ±bound at first.
    rng : int or Generator, optional
        For the weights.
    dtype : dtype, optional
        Of the weights.

    Raises
    ------
    ValueError
        ``bias`` is none of these; or a bias is given of a gate that has none.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell, readout = LSTM1997Cell(2, blocks=2, cells=2, rng=0), nn.Linear(4, 1, rng=1)
    >>> sum(p.size for p in [*cell.parameters(), *readout.parameters()])
    93
    >>> y, (u, s) = cell(np.ones((5, 2), np.float32))
    >>> y.shape, u.shape, s.shape
    ((5, 4), (5, 8), (5, 4))
    """

    state_names = "(u, s)"

    def __init__(
        self, input_size: int, blocks: int, cells: int = 1, bias: bool | str = True, *, output_gate: bool = True,
        recurrent: bool = True, truncated: bool = False, input_gate_bias: float | Sequence[float] | None = None,
        output_gate_bias: float | Sequence[float] | None = None, bound: float = 0.1, rng: Any = None,
        dtype: Any = np.float32,
    ):  # fmt: skip
        input_size, cells = whole("input_size", input_size, 0), whole("cells", cells, 1)
        blocks = whole("blocks", blocks, 1)
        if bias not in (True, False, "gates"):
            raise ValueError(f"bias: expected True, False or 'gates', got {bias!r}")
        for name, value, there in (("input", input_gate_bias, True), ("output", output_gate_bias, output_gate)):
            if value is not None and not (bias and there):
                raise ValueError(f"{name}_gate_bias: expected an {name} gate with a bias, and there is none here")
        self.input_size, self.blocks, self.cells, self.truncated = input_size, blocks, cells, truncated
        self.hidden_size, gates = blocks * cells, blocks * (1 + output_gate)
        units = self.hidden_size + gates
        self.state_size = (units, self.hidden_size)
        rng = np.random.default_rng(rng)

        def weights(*shape: int) -> Parameter:
            return Parameter(uniform(shape, bound, rng, dtype))

        self.weight_ih, self.weight_hh = weights(units, input_size), weights(units, units) if recurrent else None
        self.bias_cells = weights(self.hidden_size) if bias is True else None
        self.bias_gates = weights(gates) if bias else None
        for part, value in (slice(0, blocks), input_gate_bias), (slice(blocks, None), output_gate_bias):
            if value is not None:
                array = self.bias_gates.data.copy()
                array[part] = value
                self.bias_gates.data = array

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and (u', s') the next state."""
        u, s = state
        net = linear(x, self.weight_ih)
        if self.weight_hh is not None:
            net = net + linear(u.detach() if self.truncated and isinstance(u, Tensor) else u, self.weight_hh)
        g, gates = split(net, [self.hidden_size], axis=-1)
        g = 4 * sigmoid(g if self.bias_cells is None else g + self.bias_cells) - 2
        gates = sigmoid(gates if self.bias_gates is None else gates + self.bias_gates)
        i, *o = split(repeat(gates, self.cells, axis=-1), gates.shape[-1] // self.blocks, axis=-1)
        s = s + i * g
        h = 2 * sigmoid(s) - 1
        for gate in o:
            h = gate * h
        self.watch(i=i, g=g, s=s, **({"o": o[0]} if o else {}))
        return h, (concatenate([h, gates], axis=-1), s)

    def extra_repr(self) -> str:
        """Its sizes."""
        return f"{self.input_size}, blocks={self.blocks}, cells={self.cells}"


class MinimalGatedCell(AffineCell):
    """The minimal gated unit (Zhou et al., 2016): one gate, f, decides what is forgotten, reset and written.

    One step is::

        f = σ(W_if x + b_if + W_hf h + b_hf)    n = tanh(W_in x + b_in + W_hn (f * h) + b_hn)
        h' = h + f * (n - h) = (1 - f) * h + f * n

    The rows of the weights are f, n: ``weight_ih`` is (2 · hidden_size, input_size), ``weight_hh`` (2 · hidden_size,
    hidden_size), ``bias_ih`` and ``bias_hh`` (2 · hidden_size,).

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units.
    bias : bool, optional
        Whether there are biases.
    rng : int or Generator, optional
        For the weights: uniform within ±1/√hidden_size.
    dtype : dtype, optional
        Of the weights.

    Examples
    --------
    >>> y, h = MinimalGatedCell(3, 4, rng=0)(np.ones((5, 3), np.float32))
    >>> h.shape
    (5, 4)
    """

    rows = "fn"

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and the next state."""
        x_f, x_n = split(self.of_input(x), 2, axis=-1)
        of_f, of_n = self.of_state_parts()
        f = sigmoid(x_f + linear(h, *of_f))
        n = tanh(x_n + linear(f * h, *of_n))
        self.watch(f=f, n=n)
        h = h + f * (n - h)
        return h, h
