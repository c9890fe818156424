"""The tape as a person sees it: printed, one line an entry, and drawn as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arrays import is_array, owner
from .errors import described
from .tape import Node, Output, reached
from .tensor import Tensor


def tape(output: Tensor) -> Tape:
    """The tape of a tensor: the entries that it was made from, to print, to draw, or to look through.

    Parameters
    ----------
    output : Tensor
        A tensor that was recorded.

    Returns
    -------
    Tape
        The entries, first to last.

    Raises
    ------
    ValueError
        The output is no tensor, or was not recorded.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> a = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> b = a + a
    >>> print(tg.tape(b * b))
    %0  leaf              float64 (2,)
    %1  add(%0, %0)       float64 (2,)
    %2  multiply(%1, %1)  float64 (2,)  keeps b, a  16 B
    3 entries keep 16 B
    """
    if not isinstance(output, Tensor) or output.node is None:
        raise ValueError(f"output: expected a tensor that was recorded, got {described(output)}")
    return Tape(reached(output.node))


class Tape(Sequence):
    """The entries of the tape that a tensor was made from, first to last: :func:`~tinygrad_rnn.tape` makes it.

    An entry has ``op``, the primitive (None: a leaf), ``parents``, the entries of its inputs, and the ``shape`` and the
    ``dtype`` of its output.

    Parameters
    ----------
    entries : list of Node
        The entries, in their order.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> entries = tg.tape(tg.exp(x).sum())
    >>> [entry.op.name for entry in entries if entry.op], entries.kept(entries[1])
    (['exp', 'sum'], {'out': array([2.71828183, 7.3890561 ])})
    """

    def __init__(self, entries: list[Node]):
        self.entries = entries
        self.numbers = {node: i for i, node in enumerate(entries)}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: Any) -> Any:
        return self.entries[i]

    def kept(self, node: Node) -> dict[str, Any]:
        """What an entry keeps: what its rules asked for, and its value (without what no gradient is wanted for)."""
        if node.op is None or type(node) is Output:
            return {}
        return {name: value for name, value in zip(node.op.kept, node.kept) if value is not None}

    def nbytes(self, *nodes: Node) -> int:
        """The bytes that entries keep alive (all, by default), each counted once; of a view, the whole array counts."""
        owners = [owner(array) for node in nodes or self.entries for array in self._arrays(node)]
        return sum({id(array): array.nbytes for array in owners}.values())

    def _arrays(self, node: Node) -> list:
        """The arrays that an entry keeps."""
        values = [v if isinstance(v, (tuple, list)) else [v] for v in self.kept(node).values()]
        return [array for each in values for array in each if is_array(array)]

    def _columns(self, node: Node) -> tuple[str, str, str, str]:
        several = node.op is not None and node.op.several and type(node) is not Output
        kind = f"{len(node.shape)} outputs" if several else f"{node.dtype} {node.shape}"
        keeps = f"keeps {', '.join(names)}" if (names := self.kept(node)) else ""
        size = sum({id(array): array.nbytes for array in self._arrays(node)}.values())
        return f"%{self.numbers[node]}", self._call(node), kind, f"{keeps}  {size} B" if size else keeps

    def _call(self, node: Node) -> str:
        if node.op is None:
            return "leaf"
        inputs = [f"%{self.numbers[p]}" if p is not None else "_" for p in node.parents]
        return f"{inputs[0]}[{node.kept}]" if type(node) is Output else f"{node.op.name}({', '.join(inputs)})"

    def __str__(self) -> str:
        """One line an entry; of a long tape, the first and the last."""
        ends = self.entries if len(self) <= 60 else self.entries[:30] + self.entries[-30:]
        rows = [self._columns(node) for node in ends]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[3]]).rstrip() for row in rows]
        if len(ends) < len(self):
            lines.insert(30, f"... {len(self) - 60} more")
        return "\n".join([*lines, f"{len(self)} entries keep {self.nbytes()} B"])

    __repr__ = __str__

    def to_dot(self) -> str:
        """The tape as a graph in Graphviz' language: ``dot -Tsvg``."""
        lines = ["digraph tape {", "  rankdir=BT; node [shape=box, fontname=monospace];"]
        for node in self.entries:
            number, call, kind, keeps = self._columns(node)
            label = "\\n".join(filter(None, [f"{number} {call.split('(')[0]}", kind, keeps]))
            lines.append(f'  n{number[1:]} [label="{label}"{", style=filled" if node.op is None else ""}];')
            lines += [f"  n{self.numbers[p]} -> n{number[1:]};" for p in node.parents if p is not None]
        return "\n".join([*lines, "}"])
