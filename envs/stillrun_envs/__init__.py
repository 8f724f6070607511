"""Environments: request → lock → prefix."""
