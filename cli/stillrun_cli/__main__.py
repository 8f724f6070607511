"""`python -m stillrun_cli`: the command, without the working directory that -m puts before the standard library."""

import sys

if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # a user's secrets.py or random.py there is the flow's, and not ours

from stillrun_cli.main import main

main()
