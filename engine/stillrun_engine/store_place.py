"""Where the store of a user is."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["default_store"]


def default_store(given: str | Path | None = None) -> Path:
    """``given``, else STILLRUN_STORE, else the user's data folder."""
    found = given or os.environ.get("STILLRUN_STORE")
    if found:
        return Path(found).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("stillrun", appauthor=False)
