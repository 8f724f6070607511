"""A 200 MB random float64 array kept by one step and read by the next; runs under Stillrun and under Metaflow."""

try:
    from stillrun import FlowSpec, step
except ImportError:
    from metaflow import FlowSpec, step


class ArrayFlow(FlowSpec):
    @step
    def start(self):
        import numpy as np

        self.array = np.random.default_rng(0).random(25_000_000)
        self.next(self.end)

    @step
    def end(self):
        self.total = float(self.array.sum())
        del self.array


if __name__ == "__main__":
    ArrayFlow()
