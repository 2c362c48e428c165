"""Recipe -> plan (type per tensor) -> GGUF."""

from harness.quantize.files import QuantizeInputs, changed_tensors, quantize
from harness.quantize.plan import planned_bytes
from harness.quantize.recipes import (
    SHIPPED,
    UNQUANTIZED,
    ftypes_of,
    named_recipe,
    needs_imatrix,
    parse_recipe,
    require_imatrix,
    rungs,
)

__all__ = [
    "SHIPPED",
    "UNQUANTIZED",
    "QuantizeInputs",
    "changed_tensors",
    "ftypes_of",
    "named_recipe",
    "needs_imatrix",
    "parse_recipe",
    "planned_bytes",
    "quantize",
    "require_imatrix",
    "rungs",
]
