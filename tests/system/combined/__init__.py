"""Flows woven from a shape of graph and a feature, and what must hold of their runs."""
