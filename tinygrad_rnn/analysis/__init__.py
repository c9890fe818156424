"""The laboratory: what gradients and states do over time, measured and drawn. It trains nothing.

Gradients, through time, of any cell:

- :func:`gradient_flow`, :class:`FlowRecorder`: their norms at each state and gate of each layer; while it is trained;
- :func:`step_jacobians`: the Jacobians of all steps, and their products; :func:`gradient_bound`: what the weights alone
  say of them; :func:`lyapunov_exponents`: how they grow in the long run;
- :func:`contributions`: the terms of a gradient, by lag; :func:`memory`: how far back an input matters, run forward;
- :func:`gradient_regularizer`: what keeps them from vanishing.

Maps that are iterated, and a cell with the same input at each step (:func:`as_map`) is one:

- :func:`iterate`, :func:`cobweb`: orbits; :func:`fixed_points`: fixed points and cycles, and their kind;
  :func:`phase_line`, :func:`phase_portrait`: which way points move;
- :func:`bifurcation`, :func:`branches`, :func:`folds`: how all that depends on a parameter;
- :func:`basins`, :func:`sensitivity`: which attractor a start falls into, and how much the end depends on it.

Losses as landscapes:

- :func:`surface`, :func:`profile`: over two numbers, along one; :func:`descent`: the way down, clipped or not;
- :func:`along`, :func:`random_direction`: a model's loss as a function of some of its weights.

Results are on the host, NumPy arrays in double precision, wherever the model is; each has a method ``plot``, for which
matplotlib is needed: ``pip install 'tinygrad_rnn[analysis]'``.
"""

from .attractors import Basins, basins
from .bounds import GradientBound, gradient_bound
from .diagrams import Bifurcation, bifurcation
from .directions import along, random_direction
from .fixed import FixedPoints, fixed_points
from .flow import GradientFlow, gradient_flow
from .following import Branch, Branches, branches, folds
from .jacobians import StepJacobians, step_jacobians
from .lags import Contributions, contributions
from .landscape import Profile, Surface, profile, surface
from .lyapunov import LyapunovExponents, lyapunov_exponents
from .maps import Cobweb, as_map, cobweb, iterate
from .paths import Descent, descent
from .phase import PhaseLine, PhasePortrait, phase_line, phase_portrait
from .reach import Memory, memory
from .recorder import FlowRecorder
from .regularizer import gradient_regularizer
from .slopes import Sensitivity, sensitivity

__all__ = [
    "Basins", "Bifurcation", "Branch", "Branches", "Cobweb", "Contributions", "Descent", "FixedPoints",
    "FlowRecorder", "GradientBound", "GradientFlow", "LyapunovExponents", "Memory", "PhaseLine", "PhasePortrait",
    "Profile", "Sensitivity", "StepJacobians", "Surface", "along", "as_map", "basins", "bifurcation", "branches",
    "cobweb", "contributions", "descent", "fixed_points", "folds", "gradient_bound", "gradient_flow",
    "gradient_regularizer", "iterate", "lyapunov_exponents", "memory", "phase_line", "phase_portrait", "profile",
    "random_direction", "sensitivity", "step_jacobians", "surface",
]  # fmt: skip
