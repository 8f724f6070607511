"""What a flow file imports: FlowSpec, step, Parameter, the environment decorators and current.

Importing this package costs next to nothing: each public name is loaded from its module when it is first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; typing itself is too slow to import here
if TYPE_CHECKING:
    from stillrun.canonical import register_canonical
    from stillrun.context import current
    from stillrun.decorators import conda, conda_base, inputs, pypi, pypi_base, step, tolerance, volatile
    from stillrun.errors import (
        ArtifactCorrupt,
        ArtifactMissing,
        FlowError,
        MergeConflict,
        NextError,
        NotPicklable,
        ParameterError,
        ReadOnly,
        StillrunError,
    )
    from stillrun.flow import FlowSpec
    from stillrun.parameters import JSONType, Parameter

__version__ = "0.1.0"

__all__ = [
    "ArtifactCorrupt",
    "ArtifactMissing",
    "FlowError",
    "FlowSpec",
    "JSONType",
    "MergeConflict",
    "NextError",
    "NotPicklable",
    "Parameter",
    "ParameterError",
    "ReadOnly",
    "StillrunError",
    "conda",
    "conda_base",
    "current",
    "inputs",
    "pypi",
    "pypi_base",
    "register_canonical",
    "step",
    "tolerance",
    "volatile",
]

_HOMES = {
    "FlowSpec": "flow",
    "JSONType": "parameters",
    "Parameter": "parameters",
    "conda": "decorators",
    "conda_base": "decorators",
    "current": "context",
    "inputs": "decorators",
    "pypi": "decorators",
    "pypi_base": "decorators",
    "register_canonical": "canonical",
    "step": "decorators",
    "tolerance": "decorators",
    "volatile": "decorators",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'stillrun' has no attribute {name!r}; it has: {', '.join(__all__)}")
    module = __import__("stillrun." + _HOMES.get(name, "errors"), fromlist=("_",))
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
