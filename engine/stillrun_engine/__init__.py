"""The engine: runs flows in step hosts, keeps what they did, replays it and judges the result."""

__version__ = "0.1.0"
