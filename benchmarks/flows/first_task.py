"""A flow that says when its first task ran."""

import os
import time

from stillrun import FlowSpec, step


class FirstTask(FlowSpec):
    @step
    def start(self):
        with open(os.environ["BEGUN"], "w") as file:
            file.write(str(time.time()))
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    FirstTask()
