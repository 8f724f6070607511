"""Reading runs back in Python: Metaflow, Flow, Run, Step, Task and DataArtifact, with the members that Metaflow's users know."""

from stillrun_engine.client.objects import DataArtifact, Flow, Metaflow, Run, Step, Task
from stillrun_engine.client.session import (
    NamespaceMismatch,
    default_metadata,
    default_namespace,
    get_metadata,
    get_namespace,
    metadata,
    namespace,
    use_store,
)

__all__ = [
    "DataArtifact",
    "Flow",
    "Metaflow",
    "NamespaceMismatch",
    "Run",
    "Step",
    "Task",
    "default_metadata",
    "default_namespace",
    "get_metadata",
    "get_namespace",
    "metadata",
    "namespace",
    "use_store",
]
