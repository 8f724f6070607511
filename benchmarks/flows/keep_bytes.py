"""One artifact of 1 GB."""

from stillrun import FlowSpec, step


class KeepBytes(FlowSpec):
    @step
    def start(self):
        import numpy as np

        self.data = np.random.default_rng(0).integers(0, 1 << 62, 1 << 27)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    KeepBytes()
