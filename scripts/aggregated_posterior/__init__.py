"""Exact statistics of the aggregated posterior Q(z) = (1/N) Σ_n N(z; μ_n, diag s_n) of a variational autoencoder.

The public door: `from aggregated_posterior import AggregatedPosterior, audit, fit_sampler, load_sampler`. Its names are
imported when they are first asked for, so that importing the package loads neither torch nor scikit-learn, and the
pipeline's cache keys depend on the modules that a script uses and on no others.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._version import __version__
    from .audit.auditing import audit
    from .audit.fitting import fit_sampler
    from .generation.chosen_sampler import load_sampler
    from .posterior.mixture import AggregatedPosterior

__all__ = ["AggregatedPosterior", "__version__", "audit", "fit_sampler", "load_sampler"]

# Where each public name lives.
_DOOR = {
    "__version__": "_version",
    "AggregatedPosterior": "posterior.mixture",
    "audit": "audit.auditing",
    "fit_sampler": "audit.fitting",
    "load_sampler": "generation.chosen_sampler",
}


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_DOOR[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
