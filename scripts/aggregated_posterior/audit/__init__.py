"""The audit of a stranger's posteriors: `audit(mean, variance)`, `aggregated-posterior audit FILE`.

The room and its main function bear one name. Once the room has been imported, Python answers
`from aggregated_posterior import audit` with the room, so the room can be called like the function.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auditing import Audit, audit, audit_file, audit_posteriors

__all__ = ["Audit", "audit", "audit_file", "audit_posteriors"]


class _Room(types.ModuleType):
    def __call__(self, *arguments: Any, **settings: Any) -> Audit:
        """`audit(mean, variance, ...)`; see `aggregated_posterior.audit.auditing.audit`."""
        return self.audit(*arguments, **settings)


sys.modules[__name__].__class__ = _Room


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import auditing

    return getattr(auditing, name)
