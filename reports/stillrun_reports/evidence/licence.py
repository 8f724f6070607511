"""The licence that a run's owner gives its code and data, as they typed it."""

from __future__ import annotations

import re

from stillrun_engine.errors import EngineError

__all__ = ["checked_licence"]

_ADDRESS = re.compile(r"https?://[^\s<>\"{}|\\^`\x00-\x1f]+")


def checked_licence(said: str) -> str:
    """An address as it is, an SPDX identifier as SPDX spells it. Raises EngineError for anything else."""
    if _ADDRESS.fullmatch(said):
        return said
    from cyclonedx import spdx  # late: it reads the list of licences

    found = spdx.fixup_id(said)
    if found is None:
        raise EngineError(
            f"{said[:60]!r} is no licence that SPDX lists; give an identifier such as CC-BY-4.0 "
            "(https://spdx.org/licenses), or the address of the licence."
        )
    return str(found)
