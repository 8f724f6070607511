"""Stillrun beside Metaflow, one after the other in one run: `python -m benchmarks [NAME...]`."""
