"""The entry point. Whatever takes time begins here: a step host for commands that will want one, then the command line itself."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["main"]

_COLLECT_AFTER = 50_000
"""Objects more than went since the last look: records are trees, of which looking for cycles finds none."""
_AGAIN = "import sys; del sys.path[0]; from stillrun_cli.main import main; main()"


def main() -> None:
    """Run the command line and exit with a code of docs/spec/exit-codes.md."""
    if sys.getfilesystemencoding().lower() != "utf-8":
        # file names are UTF-8 in every tree, whatever the locale: start over in Python's UTF-8 mode (PEP 540)
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-c", _AGAIN, *sys.argv[1:]])  # noqa: S606
    gc.set_threshold(_COLLECT_AFTER)
    from stillrun_cli import ahead

    ahead.begin(sys.argv[1:])
    from stillrun_cli.group import run_group

    sys.exit(run_group(sys.argv[1:]))
