"""Small things that flows import from the inner modules of Metaflow."""

from __future__ import annotations

import os

__all__ = ["DATATOOLS_S3ROOT", "DEFAULT_METADATA", "get_username", "get_version"]

DEFAULT_METADATA = "local"
DATATOOLS_S3ROOT: str | None = None


def get_username() -> str | None:
    """Who runs this."""
    from stillrun.context import current

    names = ("STILLRUN_USER", "METAFLOW_USER", "SUDO_USER", "USERNAME", "USER", "LOGNAME")
    return current.username or next((os.environ[name] for name in names if os.environ.get(name)), None)


def get_version(**_: object) -> str:
    """The version of Metaflow whose names are served."""
    from stillrun.metaflow_names import VERSION

    return VERSION
