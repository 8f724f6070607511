"""A run as evidence that tools of other people read and verify. Formats: docs/spec/evidence.md."""
