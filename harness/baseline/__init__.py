"""The BF16 reference: its format and the manifest that says what it belongs to."""

from harness.baseline.format import (
    FORMAT_VERSION,
    Baseline,
    BaselineWriter,
    open_baseline,
)
from harness.baseline.manifest import (
    MANIFEST,
    Manifest,
    find_folder,
    load_manifest,
    require_same_model,
    save_manifest,
)
from harness.baseline.reference import Reference, open_reference

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Baseline",
    "BaselineWriter",
    "Manifest",
    "Reference",
    "find_folder",
    "load_manifest",
    "open_baseline",
    "open_reference",
    "require_same_model",
    "save_manifest",
]
