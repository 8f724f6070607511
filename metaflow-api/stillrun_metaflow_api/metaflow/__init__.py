"""The names that flows written for Metaflow import, served by Stillrun. Metaflow itself is not in it."""

import sys

from stillrun.metaflow_names import become_metaflow

become_metaflow(sys.modules[__name__])
