"""The module ``metaflow`` for flows that were written for it: its names and module paths, served from our own.

A finder makes the modules when they are imported; nothing is on disk. Metaflow itself, where it is installed, goes first
unless STILLRUN_METAFLOW is ``names``.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["MODULES", "become_metaflow", "is_installed", "is_ours", "serve_metaflow"]

VERSION = "2.19.39"
"""The version of Metaflow whose names these are."""


def _all(home: str, names: str) -> dict[str, tuple[str, str]]:
    return {name: (home, name) for name in names.split()}


_FLOW = _all(
    "stillrun",
    "Config FlowMutator FlowSpec IncludeFile JSONType MutableFlow MutableStep Parameter StepMutator USER_SKIP_STEP "
    "UserStepDecorator batch card catch conda conda_base config_expr current environment "
    "exit_hook kubernetes parallel project pypi pypi_base resources retry schedule secrets step timeout trigger "
    "trigger_on_finish user_step_decorator",
)
_READING = _all(
    "stillrun.client",
    "DataArtifact Flow Metaflow Run Step Task default_metadata default_namespace get_metadata get_namespace inspect_spin "
    "metadata namespace",
)
_RUNNING = _all("stillrun.client", "Deployer ExecutingRun ExecutingTask NBDeployer NBRunner Runner S3")
_CORES = _all("stillrun.multicore", "parallel_imap_unordered parallel_map")
_CARDS = _all(
    "stillrun.cards",
    "Artifact Component DefaultCard Error EventsTimeline Image JSONViewer Markdown MetaflowCard MetaflowCardComponent "
    "ProgressBar PythonCode Table ValueBox VegaChart YAMLViewer get_cards",
)
_PARSERS = _all(
    "stillrun.config_parsers",
    "conda_environment_yml_parser pyproject_toml_parser requirements_txt_parser yaml_parser",
)
_OWN = _all(
    "stillrun", "FlowMutator MutableFlow MutableStep StepMutator USER_SKIP_STEP UserStepDecorator user_step_decorator"
)
_ERRORS = {
    "CommandException": ("stillrun.errors", "StillrunError"),
    "ExternalCommandFailed": ("stillrun.errors", "StillrunError"),
    "InvalidDecoratorAttribute": ("stillrun.errors", "FlowError"),
    "InvalidNextException": ("stillrun.errors", "NextError"),
    "MergeArtifactsException": ("stillrun.errors", "MergeConflict"),
    "MetaflowDataMissing": ("stillrun.errors", "ArtifactMissing"),
    "MetaflowException": ("stillrun.errors", "StillrunError"),
    "MetaflowExceptionWrapper": ("stillrun.caught", "CaughtException"),
    "MetaflowInvalidPathspec": ("stillrun.client", "InvalidPathspec"),
    "MetaflowInternalError": ("stillrun.errors", "StillrunError"),
    "MetaflowNamespaceMismatch": ("stillrun.client", "NamespaceMismatch"),
    "MetaflowNotFound": ("stillrun.client", "NotFound"),
    "MetaflowTaggingError": ("stillrun.client", "TaggingError"),
    "MissingInMergeArtifactsException": ("stillrun.errors", "MissingInMerge"),
    "ParameterFieldFailed": ("stillrun.errors", "ParameterError"),
    "ParameterFieldTypeMismatch": ("stillrun.errors", "ParameterError"),
    "TimeoutException": ("stillrun.errors", "StepTimeout"),
    "UnhandledInMergeArtifactsException": ("stillrun.errors", "MergeConflict"),
    "UnpicklableArtifactException": ("stillrun.errors", "NotPicklable"),
}

MODULES: dict[str, dict[str, tuple[str, str]]] = {
    "metaflow": {**_FLOW, **_READING, **_RUNNING, **_CORES, **_PARSERS, "profile": ("stillrun.multicore", "profile")},
    "metaflow.cards": _CARDS,
    "metaflow.client": _READING,
    "metaflow.client.core": _READING,
    "metaflow.decorators": {"step": _FLOW["step"]},
    "metaflow.exception": _ERRORS,
    "metaflow.flowspec": {"FlowSpec": _FLOW["FlowSpec"]},
    "metaflow.includefile": {"IncludeFile": _FLOW["IncludeFile"]},
    "metaflow.metaflow_current": {"current": _FLOW["current"]},
    "metaflow.multicore_utils": _CORES,
    "metaflow.parameters": {
        "JSONType": _FLOW["JSONType"],
        "JSONTypeClass": _FLOW["JSONType"],
        "Parameter": _FLOW["Parameter"],
    },
    "metaflow.metaflow_config": _all("stillrun.metaflow_facts", "DATATOOLS_S3ROOT DEFAULT_METADATA"),
    "metaflow.plugins": _PARSERS,
    "metaflow.plugins.cards": {},
    "metaflow.plugins.cards.card_client": {"Card": ("stillrun.cards", "Card"), "get_cards": _CARDS["get_cards"]},
    "metaflow.plugins.cards.card_modules": _CARDS,
    "metaflow.plugins.cards.card_modules.basic": _CARDS,
    "metaflow.plugins.cards.card_modules.card": _CARDS,
    "metaflow.plugins.cards.card_modules.components": _CARDS,
    "metaflow.plugins.datatools": {"S3": _RUNNING["S3"]},
    "metaflow.plugins.datatools.s3": {"S3": _RUNNING["S3"]},
    "metaflow.plugins.parsers": _PARSERS,
    "metaflow.plugins.project_decorator": {"project": _FLOW["project"]},
    "metaflow.plugins.pypi": {},
    "metaflow.plugins.pypi.parsers": _PARSERS,
    "metaflow.plugins.catch_decorator": {"FailureHandledByCatch": ("stillrun.caught", "CaughtException")},
    "metaflow.plugins.timeout_decorator": {"TimeoutException": _ERRORS["TimeoutException"]},
    "metaflow.runner": _RUNNING,
    "metaflow.runner.deployer": _RUNNING,
    "metaflow.runner.metaflow_runner": _RUNNING,
    "metaflow.runner.nbdeploy": _RUNNING,
    "metaflow.runner.nbrun": _RUNNING,
    "metaflow.util": {"get_username": ("stillrun.metaflow_facts", "get_username")},
    "metaflow.metaflow_version": {"get_version": ("stillrun.metaflow_facts", "get_version")},
    "metaflow.user_decorators": {},
    "metaflow.user_decorators.mutable_flow": {"MutableFlow": _OWN["MutableFlow"]},
    "metaflow.user_decorators.mutable_step": {"MutableStep": _OWN["MutableStep"]},
    "metaflow.user_decorators.user_flow_decorator": {"FlowMutator": _OWN["FlowMutator"]},
    "metaflow.user_decorators.user_step_decorator": _OWN,
    "metaflow.user_configs": {},
    "metaflow.user_configs.config_parameters": {
        "Config": _FLOW["Config"],
        "ConfigValue": ("stillrun.configs", "ConfigValue"),
        "config_expr": _FLOW["config_expr"],
    },
}
"""Module -> name -> where it is with us."""


def serve_metaflow() -> None:
    """From now on ``import metaflow`` finds these names, unless Metaflow itself is there."""
    if any(isinstance(each, _Finder) for each in sys.meta_path):
        return
    forced = os.environ.get("STILLRUN_METAFLOW") == "names" or _only_our_package()
    sys.meta_path.insert(0 if forced else len(sys.meta_path), _Finder())


def become_metaflow(module: ModuleType) -> None:
    """Let a module that was found on the path be ours: the package of ``stillrun[metaflow-api]``."""
    finder = next((each for each in sys.meta_path if isinstance(each, _Finder)), None)
    if finder is None:
        finder = _Finder()
        sys.meta_path.insert(0, finder)
    finder.exec_module(module)
    if module.__spec__ is not None:
        module.__spec__.loader = finder  # type: ignore[assignment]  # it is one, without the base class


def _only_our_package() -> bool:
    """Whether what the path has under this name is the package of ``stillrun[metaflow-api]``.

    A task then imports these names from the face that it runs with, and not from a package that a rebuilt environment lacks.
    """
    found = importlib.machinery.PathFinder.find_spec("metaflow")
    place = os.path.dirname(os.path.dirname(found.origin or "")) if found is not None else ""
    return os.path.basename(place) == "stillrun_metaflow_api"


def is_ours(module: str | None) -> bool:
    """Whether a module of this name is, or would be, one of these."""
    return (
        module is not None and module.split(".")[0] == "metaflow" and "metaflow" in sys.modules and not is_installed()
    )


def is_installed() -> bool:
    """Whether the ``metaflow`` that was imported is Metaflow itself."""
    module = sys.modules.get("metaflow")
    return module is not None and not isinstance(getattr(module.__spec__, "loader", None), _Finder)


class _Finder:
    """Finder and loader of the modules."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:  # noqa: ARG002
        """The spec of a module of ours; None for what is not Metaflow's. Raises ModuleNotFoundError for what is not served."""
        if name not in MODULES:
            if name.startswith("metaflow.") and not is_installed():
                raise ModuleNotFoundError(f"Stillrun serves no module {name!r}", name=name)
            return None
        inner = any(other.startswith(name + ".") for other in MODULES)
        return importlib.machinery.ModuleSpec(name, self, origin="stillrun", is_package=inner)  # type: ignore[arg-type]

    def create_module(self, spec: object) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Its names are loaded when they are asked for."""
        names = MODULES[module.__name__]
        scope = vars(module)
        scope["__all__"] = sorted(names)
        if module.__name__ == "metaflow":
            scope["__version__"] = VERSION

        def find(name: str) -> Any:
            if name not in names:
                text = f"Stillrun serves no {name!r} in {module.__name__}; docs/from-metaflow.md lists what it does."
                raise AttributeError(text)
            home, own = names[name]
            value = scope[name] = getattr(__import__(home, fromlist=("_",)), own)
            return value

        scope["__getattr__"] = find
        scope["__dir__"] = lambda: sorted({*scope, *names})
