"""What a flow file imports: FlowSpec, step, Parameter, the environment decorators and current.

Importing this package costs next to nothing: each public name is loaded from its module when it is first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; typing itself is too slow to import here
if TYPE_CHECKING:
    from stillrun.canonical import register_canonical
    from stillrun.caught import CaughtException
    from stillrun.client import DataArtifact, Flow, Metaflow, NBRunner, Run, Runner, Step, Task, inspect_spin, namespace
    from stillrun.configs import Config, config_expr
    from stillrun.context import current
    from stillrun.decorators import conda, conda_base, inputs, pypi, pypi_base, step, tolerance, volatile
    from stillrun.errors import (
        ArtifactCorrupt,
        ArtifactMissing,
        FlowError,
        MergeConflict,
        MissingInMerge,
        NextError,
        NotPicklable,
        ParameterError,
        ReadOnly,
        StepTimeout,
        StillrunError,
    )
    from stillrun.flow import FlowSpec
    from stillrun.mutable import MutableFlow, MutableStep
    from stillrun.parameters import IncludeFile, JSONType, Parameter
    from stillrun.task_decorators import (
        batch,
        card,
        catch,
        environment,
        exit_hook,
        kubernetes,
        parallel,
        project,
        resources,
        retry,
        schedule,
        secrets,
        timeout,
        trigger,
        trigger_on_finish,
    )
    from stillrun.user_decorators import (
        USER_SKIP_STEP,
        FlowMutator,
        StepMutator,
        UserStepDecorator,
        user_step_decorator,
    )

__version__ = "0.1.0"

__all__ = [
    "USER_SKIP_STEP",
    "ArtifactCorrupt",
    "ArtifactMissing",
    "CaughtException",
    "Config",
    "DataArtifact",
    "Flow",
    "FlowError",
    "FlowMutator",
    "FlowSpec",
    "IncludeFile",
    "JSONType",
    "MergeConflict",
    "Metaflow",
    "MissingInMerge",
    "MutableFlow",
    "MutableStep",
    "NBRunner",
    "NextError",
    "NotPicklable",
    "Parameter",
    "ParameterError",
    "ReadOnly",
    "Run",
    "Runner",
    "Step",
    "StepMutator",
    "StepTimeout",
    "StillrunError",
    "Task",
    "UserStepDecorator",
    "batch",
    "card",
    "catch",
    "conda",
    "conda_base",
    "config_expr",
    "current",
    "environment",
    "exit_hook",
    "inputs",
    "inspect_spin",
    "kubernetes",
    "namespace",
    "parallel",
    "project",
    "pypi",
    "pypi_base",
    "register_canonical",
    "resources",
    "retry",
    "schedule",
    "secrets",
    "step",
    "timeout",
    "tolerance",
    "trigger",
    "trigger_on_finish",
    "user_step_decorator",
    "volatile",
]

_HOMES = {
    "MutableStep": "mutable",
    "MutableFlow": "mutable",
    "user_step_decorator": "user_decorators",
    "UserStepDecorator": "user_decorators",
    "StepMutator": "user_decorators",
    "FlowMutator": "user_decorators",
    "USER_SKIP_STEP": "user_decorators",
    "CaughtException": "caught",
    "Config": "configs",
    "DataArtifact": "client",
    "Flow": "client",
    "FlowSpec": "flow",
    "IncludeFile": "parameters",
    "JSONType": "parameters",
    "Metaflow": "client",
    "NBRunner": "client",
    "Parameter": "parameters",
    "Run": "client",
    "Runner": "client",
    "Step": "client",
    "Task": "client",
    "batch": "task_decorators",
    "card": "task_decorators",
    "catch": "task_decorators",
    "conda": "decorators",
    "conda_base": "decorators",
    "config_expr": "configs",
    "current": "context",
    "environment": "task_decorators",
    "exit_hook": "task_decorators",
    "inputs": "decorators",
    "inspect_spin": "client",
    "kubernetes": "task_decorators",
    "namespace": "client",
    "parallel": "task_decorators",
    "project": "task_decorators",
    "pypi": "decorators",
    "pypi_base": "decorators",
    "register_canonical": "canonical",
    "resources": "task_decorators",
    "retry": "task_decorators",
    "schedule": "task_decorators",
    "secrets": "task_decorators",
    "step": "decorators",
    "timeout": "task_decorators",
    "tolerance": "decorators",
    "trigger": "task_decorators",
    "trigger_on_finish": "task_decorators",
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
