"""CLI, ini and [tool.quant-gate] TOML -> one frozen GateConfig."""

from harness.options.config import (
    PR_BRANCH,
    GateConfig,
    add_options,
    default_cache_dir,
    read_config,
    rerun_command,
)

__all__ = [
    "PR_BRANCH",
    "GateConfig",
    "add_options",
    "default_cache_dir",
    "read_config",
    "rerun_command",
]
