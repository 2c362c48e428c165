"""Run the gate as a user does, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """How a gate run ended: exit code, terminal output, results.json, the folder it ran in."""

    code: int
    output: str
    results: dict[str, Any]
    folder: Path

    def item(self, recipe: str) -> dict[str, Any]:
        return next(i for i in self.results["items"] if i["recipe"] == recipe)


def run_pytest(folder: Path, *arguments: str) -> Run:
    """Run ``pytest`` with ``arguments`` in ``folder``, as a user would, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["COLUMNS"] = "160"
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    results = folder / ".quant-gate" / "results.json"
    return Run(
        ended.returncode,
        ended.stdout + ended.stderr,
        json.loads(results.read_text()) if results.exists() else {},
        folder,
    )
