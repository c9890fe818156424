"""The life of a graph in random order: made, walked, freed, walked again, dropped; with a model beside it.

The model is the same program as a list of instructions (see ``programs.py``): its values are NumPy's, its gradients
come from a replay in complex numbers, and what may be walked follows from what was freed.
"""

import os

import numpy as np
import programs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from programs import H, Instruction, Program

import tinygrad_rnn as tg

NIGHTLY = bool(os.environ.get("TINYGRAD_RNN_PROGRAMS"))

UNARY = ["tg.tanh({0})", "np.sin({0})", "tg.sigmoid({0})", "-{0}", "{0} ** 2", "1 - {0}"]
BINARY = ["{0} + {1}", "{0} - {1}", "{0} * {1}", "tg.hypot({0}, 1.5 + {1} ** 2)"]
EXTRA = {
    "tg.hypot({0}, 1.5 + {1} ** 2)": lambda a, b: np.sqrt(a * a + (1.5 + b * b) ** 2),
    "tg.where({mask}, {0}, {1})": lambda a, b, mask: np.where(mask, a, b),
    "tg.stack([{0}, {1}])": lambda a, b: np.stack([a, b]),
}
OPS = {op.source: op for group in programs.GROUPS for op in group}
OPS |= {source: programs.op(source, reference) for source, reference in EXTRA.items()}
SUM = OPS["tg.sum({0}, axis={axis}, keepdims={keepdims})"]
UNSTACK = OPS["tg.unstack({0}, axis={axis})"]
DETACH = OPS["(tg.tensor(0.0) + {0}).detach()"]


which = st.integers(0, 15)  # 0 is the latest value that is still held


class Graph(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed):
        self.rng = np.random.default_rng(seed)
        self.program = Program(seed)
        self.tensors = {}  # name -> ours; dropped ones are gone
        self.shadows = {}  # name -> NumPy's value
        self.parents = {}  # name -> names, of what wants a gradient
        self.names = 0  # also the order of creation
        self.freed = set()
        self.leaves = {}  # name -> name of the tensor it is the value of (a leaf can be given new data)
        self.grads = {}  # name of the tensor -> what its .grad should be
        self.blocks = []
        self.leaf((2,))
        self.leaf((2, 2))

    # Making values

    def name(self, i):
        names = sorted(self.tensors)
        return names[-1 - i % len(names)]

    def add(self, op, args, keywords=None):
        """An instruction for ours and for the model; none, if NumPy cannot compute it, or its numbers grow large."""
        keywords = keywords or {}
        args = tuple(map(self.name, args))
        try:
            out = op.reference(*[self.shadows[a] for a in args], **keywords)
        except (ValueError, IndexError):
            return
        outs = [np.asarray(x) for x in (out if op.several else (out,))]
        if not all(x.size <= 12 and np.isfinite(x).all() and abs(x).max(initial=0) < 1e3 for x in outs):
            return
        ours = op.run(*[self.tensors[a] for a in args], **keywords)
        quiet = bool(self.blocks) and op is not programs.LEAF
        wanted = [a for a in args if self.parents[a] is not None]
        parents = None if quiet or not wanted or op is DETACH else wanted
        if op.several:  # an entry of its own comes before those of its outputs
            self.parents[self.names] = parents
            parents = None if parents is None else [self.names]
            self.names += 1
        names = tuple(range(self.names, self.names + len(outs)))
        self.names += len(outs)
        self.program.instructions.append(Instruction(names, op, args, keywords, no_grad=quiet))
        for name, tensor, shadow in zip(names, ours if op.several else (ours,), outs, strict=True):
            self.tensors[name], self.shadows[name] = tensor, shadow
            self.parents[name] = () if op is programs.LEAF else parents

    @rule(shape=st.sampled_from([(), (2,), (3,), (2, 2), (1, 3), (2, 3)]))
    def leaf(self, shape):
        name = self.names
        self.add(programs.LEAF, (), {"value": self.rng.uniform(-1.5, 1.5, shape)})
        self.leaves[name], self.grads[name] = name, None

    @rule(op=st.sampled_from(UNARY), a=which)
    def unary(self, op, a):
        self.add(OPS[op], (a,))

    @rule(op=st.sampled_from(BINARY), a=which, b=which)
    def binary(self, op, a, b):
        self.add(OPS[op], (a, b))

    @rule(a=which, b=which)
    def matmul(self, a, b):
        self.add(OPS["{0} @ {1}"], (a, b))

    @rule(a=which, axis=st.sampled_from([None, 0, -1, ()]), keepdims=st.booleans())
    def reduce(self, a, axis, keepdims):
        axis = axis if self.shadows[self.name(a)].ndim else None
        self.add(SUM, (a,), {"axis": axis, "keepdims": keepdims})

    @rule(a=which, source=st.sampled_from(["{0}.T", "tg.ravel({0})", "tg.flip({0}, {axis})"]))
    def view(self, a, source):
        self.add(OPS[source], (a,), {"axis": None} if "axis" in source else {})

    @rule(a=which, i=st.sampled_from([0, -1, slice(1, None), [0, 0, -1], (..., None), slice(None, None, -1)]))
    def index(self, a, i):
        self.add(OPS["{0}[{index}]"], (a,), {"index": np.array(i) if isinstance(i, list) else i})

    @rule(a=which)
    def unstack(self, a):
        if self.shadows[self.name(a)].ndim:
            self.add(UNSTACK, (a,), {"axis": 0})

    @rule(a=which, b=which)
    def stack(self, a, b):
        self.add(OPS["tg.stack([{0}, {1}])"], (a, b))

    @rule(a=which, b=which, mask=st.booleans())
    def where(self, a, b, mask):
        self.add(OPS["tg.where({mask}, {0}, {1})"], (a, b), {"mask": np.array(mask)})

    @rule(a=which)
    def detach(self, a):
        self.add(DETACH, (a,))

    # The model's gradients

    def reached(self, root, since=-1):
        """The names that root depends on, those before `since` not looked into; and whether one of them was freed."""
        seen, todo, freed = {root}, [root], False
        while todo:
            name = todo.pop()
            if name > since:
                freed |= name in self.freed
                new = set(self.parents[name]) - seen
                seen |= new
                todo += new
        return seen, freed

    def slope(self, root, g, name):
        """The gradient of (root * g).sum() with regard to a value: a replay for each of its elements."""
        shadow = self.shadows[name]
        gradient = np.zeros(shadow.shape)
        for i in np.ndindex(shadow.shape):
            direction = np.zeros(shadow.shape)
            direction[i] = 1
            gradient[i] = (np.imag(self.program.replay({name: direction})[root]) * g).sum() / H
        return gradient

    def cotangent(self, root):
        shadow = self.shadows[root]
        return self.rng.standard_normal(shadow.shape) if shadow.size != 1 or self.rng.random() < 0.5 else None

    # Walking

    @rule(root=which, retain=st.booleans())
    def backward(self, root, retain):
        root = self.name(root)
        y = self.tensors[root]
        g = self.cotangent(root)
        if self.parents[root] is None:
            with pytest.raises(ValueError, match="output: expected a tensor that was computed"):
                y.backward(g)
            return
        names, freed = self.reached(root)
        if freed:
            with pytest.raises(RuntimeError, match="freed"):
                y.backward(g, retain_graph=retain)
            return
        y.backward(g, retain_graph=retain)
        if not retain:
            self.freed |= {name for name in names if name not in self.leaves}
        for name in names & self.leaves.keys():
            d, owner = self.slope(root, np.ones(y.shape) if g is None else g, name), self.leaves[name]
            self.grads[owner] = d if self.grads[owner] is None else self.grads[owner] + d

    @rule(a=which, retain=st.booleans())
    def backward_of_all(self, a, retain):
        """The end of a training step: the latest value and another, added up."""
        self.add(SUM, (0,), {"axis": None, "keepdims": False})
        self.add(SUM, (a,), {"axis": None, "keepdims": False})
        self.add(OPS["{0} + {1}"], (0, 1))
        self.backward(0, retain)

    @rule(root=which, x=which, create_graph=st.booleans())
    def gradient(self, root, x, create_graph):
        root, x = self.name(root), self.name(x)
        if self.parents[x] is None or self.parents[root] is None:
            return
        g = self.cotangent(root)
        y, tensor = self.tensors[root], self.tensors[x]
        versions = [name for name, owner in self.leaves.items() if owner == self.leaves.get(x)] or [x]
        _, freed = self.reached(root, since=versions[0])
        if freed:
            with pytest.raises(RuntimeError, match="freed"):
                tg.gradients(y, tensor, g, create_graph=create_graph, retain_graph=True)
            return
        d = tg.gradients(y, tensor, g, create_graph=create_graph, retain_graph=True)
        right = sum(self.slope(root, np.ones(y.shape) if g is None else g, version) for version in versions)
        assert d.shape == tensor.shape
        assert np.allclose(d.data, right, 1e-9, 1e-9)

    # Changing state

    def held_leaf(self, i):
        names = sorted(self.leaves.keys() & self.tensors.keys())
        return names[i % len(names)]

    @rule(i=which)
    def zero_grad(self, i):
        name = self.held_leaf(i)
        self.tensors[name].grad = None
        self.grads[self.leaves[name]] = None

    @rule(i=which)
    def new_data(self, i):
        """A leaf gets new values: in the model that is a new leaf, which shares its gradient with the old one."""
        old = self.held_leaf(i)
        tensor = self.tensors.pop(old)
        value = self.rng.uniform(-1.5, 1.5, tensor.shape)
        name = self.names
        self.names += 1
        self.program.instructions.append(Instruction((name,), programs.LEAF, (), {"value": value}))
        tensor.data = value
        self.tensors[name], self.shadows[name], self.parents[name] = tensor, value, ()
        self.leaves[name] = self.leaves[old]

    @precondition(lambda self: len(self.blocks) < 2)
    @rule()
    def enter(self):
        self.blocks.append(tg.no_grad())
        self.blocks[-1].__enter__()

    @precondition(lambda self: self.blocks)
    @rule()
    def leave(self):
        self.blocks.pop().__exit__(None, None, None)

    @rule(name=which)
    def drop(self, name):
        """Nobody holds the value any more (leaves are kept, to look at their gradients)."""
        name = self.name(name)
        if name not in self.leaves:
            del self.tensors[name]

    # What always holds

    @invariant()
    def values_are_right(self):
        for name, tensor in getattr(self, "tensors", {}).items():
            assert tensor.shape == self.shadows[name].shape
            assert np.allclose(tensor.data, self.shadows[name], 1e-12, 1e-12)
            assert tensor.requires_grad == (self.parents[name] is not None)

    @invariant()
    def gradients_are_right(self):
        for name in getattr(self, "leaves", {}):
            if name in self.tensors:
                grad, right = self.tensors[name].grad, self.grads[self.leaves[name]]
                assert (grad is None) == (right is None)
                assert grad is None or np.allclose(grad.data, right, 1e-9, 1e-9)

    @invariant()
    def the_mode_is_right(self):
        assert tg.is_recording() == (not getattr(self, "blocks", []))

    def teardown(self):
        while getattr(self, "blocks", []):
            self.leave()


Graph.TestCase.settings = settings(
    max_examples=2000 if NIGHTLY else 120, stateful_step_count=100 if NIGHTLY else 40, deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)  # fmt: skip
TestGraph = Graph.TestCase
