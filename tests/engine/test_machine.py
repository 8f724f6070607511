"""What is recorded of a machine."""

from __future__ import annotations

from pathlib import Path

from stillrun_engine.machine import graphics_of

VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: gcc 12\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build  (dvs-builder)\n"


def test_gpus_are_told_as_their_driver_tells_them(tmp_path: Path) -> None:
    assert graphics_of(tmp_path) == ""
    for place in ("0000:07:00.0", "0000:0f:00.0"):
        (tmp_path / "gpus" / place).mkdir(parents=True)
        (tmp_path / "gpus" / place / "information").write_text("Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 33\n")
    (tmp_path / "version").write_text(VERSION)
    assert graphics_of(tmp_path) == "NVIDIA A100-SXM4-40GB, NVIDIA A100-SXM4-40GB; driver 550.54.15"
    (tmp_path / "version").write_text(OPEN)
    assert graphics_of(tmp_path).endswith("; driver 570.86.10")
