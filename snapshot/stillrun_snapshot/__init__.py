"""The store, records, refs, code capture and checkouts. Knows nothing of flows or environments."""
