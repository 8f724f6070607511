"""Reading runs back in Python: Metaflow, Flow, Run, Step, Task and DataArtifact, with the members that Metaflow's users know."""

from stillrun_engine.client.flows import Flow, Metaflow
from stillrun_engine.client.runs import Run, Step
from stillrun_engine.client.session import (
    Absent,
    InvalidPathspec,
    NamespaceMismatch,
    TaggingError,
    default_metadata,
    default_namespace,
    get_metadata,
    get_namespace,
    inspect_spin,
    metadata,
    namespace,
    use_store,
)
from stillrun_engine.client.tasks import DataArtifact, Task

__all__ = [
    "Absent",
    "DataArtifact",
    "Flow",
    "InvalidPathspec",
    "Metaflow",
    "NamespaceMismatch",
    "Run",
    "Step",
    "TaggingError",
    "Task",
    "default_metadata",
    "default_namespace",
    "get_metadata",
    "get_namespace",
    "inspect_spin",
    "metadata",
    "namespace",
    "use_store",
]
