"""A foreach of WIDTH tasks that wait 50 ms each."""

import os
import time

from stillrun import FlowSpec, step


class SlowForeach(FlowSpec):
    @step
    def start(self):
        self.items = list(range(int(os.environ["WIDTH"])))
        self.next(self.work, foreach="items")

    @step
    def work(self):
        time.sleep(0.05)
        self.square = self.input**2
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(each.square for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SlowForeach()
