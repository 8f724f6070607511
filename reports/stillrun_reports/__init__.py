"""Pages and exports, rendered from records alone: first the report (`report.py`), then all others from it (`formats.py`)."""
