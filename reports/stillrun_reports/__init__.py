"""Pages and exports, rendered from records alone. Nothing here yet but the place that the layers leave for it."""
