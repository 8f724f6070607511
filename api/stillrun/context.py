"""current: what a running task can ask about itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

__all__ = ["Current", "Parameters", "current"]


class Parameters:
    """The run's parameters, as a read-only mapping that loads each value when it is first read."""

    def __init__(self, names: tuple[str, ...], flow: Any = None) -> None:
        self._names = names
        self._flow = flow

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._flow._stillrun.parameter(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(f"this flow has no parameter {name!r}")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def keys(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return self._names

    def items(self) -> list[tuple[str, Any]]:
        """Names and values of the parameters."""
        return [(name, self[name]) for name in self._names]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a parameter, or ``default`` when there is none of that name."""
        return self[name] if name in self._names else default

    def __repr__(self) -> str:
        return f"<parameters {', '.join(self._names)}>"


class Current:
    """Facts about the task that is running; each is None outside a task, those that a decorator gives are missing."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._facts: Mapping[str, Any] = {}
        self._parameters = Parameters(())

    def _bind(self, facts: Mapping[str, Any], parameters: Parameters) -> None:
        self._facts = facts
        self._parameters = parameters

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and not name.startswith("_") and hasattr(self, name)

    def _of_decorator(self, name: str, decorator: str) -> Any:
        """A fact that is there where a decorator is."""
        value = self._facts.get(name)
        if value is None:
            where = "outside a task" if not self._facts else f"in a step without @{decorator}"
            raise AttributeError(f"there is no current.{name} {where}")
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The fact of that name, or ``default`` when there is none or it is None."""
        value = getattr(self, name, None) if not name.startswith("_") and name not in ("run", "task") else None
        return default if value is None else value

    @property
    def is_running_flow(self) -> bool:
        """True inside a task."""
        return bool(self._facts)

    @property
    def flow_name(self) -> str | None:
        """Name of the flow."""
        return self._facts.get("flow_name")

    @property
    def run_id(self) -> str | None:
        """Id of the run."""
        return self._facts.get("run_id")

    @property
    def step_name(self) -> str | None:
        """Name of the step."""
        return self._facts.get("step_name")

    @property
    def task_id(self) -> str | None:
        """Id of the task."""
        return self._facts.get("task_id")

    @property
    def retry_count(self) -> int | None:
        """How many attempts at this task came before; 0 the first time."""
        return self._facts.get("retry_count")

    @property
    def origin_run_id(self) -> str | None:
        """Id of the run that this one resumes or replays, else None."""
        return self._facts.get("origin_run_id")

    @property
    def pathspec(self) -> str | None:
        """FLOW/RUN/STEP/TASK."""
        return self._facts.get("pathspec")

    @property
    def username(self) -> str | None:
        """Who started the run."""
        return self._facts.get("username")

    @property
    def namespace(self) -> str | None:
        """The namespace of the run, ``user:NAME``."""
        return self._facts.get("namespace")

    @property
    def tags(self) -> frozenset[str]:
        """The tags that the run was started with."""
        return frozenset(self._facts.get("tags", ()))

    @property
    def tempdir(self) -> str | None:
        """A folder for temporary files."""
        import tempfile

        return tempfile.gettempdir() if self._facts else None

    @property
    def graph_info(self) -> Any:
        """The graph of the flow: ``["steps"][NAME]["type"]``, ``["graph_structure"]`` and more, as plain data."""
        return self._facts["graph"]() if self._facts else None

    @property
    def run(self) -> Any:
        """The client's object of the run."""
        return None if not self._facts else _client("Run", f"{self.flow_name}/{self.run_id}")

    @property
    def task(self) -> Any:
        """The task, which has not ended: its ``id``, ``pathspec`` and ``run``."""
        if self.pathspec is None:
            return None
        from stillrun.running import RunningTask

        return RunningTask(self.pathspec, self.retry_count or 0)

    @property
    def trigger(self) -> None:
        """What started a deployed run; None on this machine."""
        return None

    @property
    def project_name(self) -> Any:
        """The project that the flow belongs to, by @project."""
        return self._of_decorator("project_name", "project")

    @property
    def branch_name(self) -> Any:
        """The branch of the project: ``user.NAME``, ``test.BRANCH``, ``prod`` or ``prod.BRANCH``."""
        return self._of_decorator("branch_name", "project")

    @property
    def project_flow_name(self) -> Any:
        """PROJECT.BRANCH.FLOW."""
        return self._of_decorator("project_flow_name", "project")

    @property
    def is_production(self) -> Any:
        """Whether the branch is for production."""
        return self._of_decorator("is_production", "project")

    @property
    def is_user_branch(self) -> Any:
        """Whether the branch is a user's own."""
        return self._of_decorator("is_user_branch", "project")

    @property
    def card(self) -> Any:
        """What the task's card shows: ``current.card.append(component)``."""
        return self._of_decorator("card", "card")

    @property
    def parallel(self) -> Any:
        """Where a task of a parallel step stands: ``num_nodes``, ``node_index``, ``main_ip``, ``control_task_id``."""
        return self._of_decorator("parallel", "parallel")

    @property
    def parameter_names(self) -> list[str]:
        """Names of the run's parameters."""
        return list(self._parameters)

    @property
    def parameters(self) -> Parameters:
        """The run's parameters as a mapping."""
        return self._parameters

    def __repr__(self) -> str:
        return f"<current {self.pathspec or 'no task is running'}>"


def _client(name: str, pathspec: str | None) -> Any:
    from stillrun import client

    return getattr(client, name)(pathspec)


current = Current()
