"""What is known of one branch's C API: struct layouts and prototypes, as plain data."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

POINTER = "pointer"

CTYPES: Mapping[str, Any] = {
    POINTER: ctypes.c_void_p,
    "void": None,
    "_Bool": ctypes.c_bool,
    "char": ctypes.c_char,
    "signed char": ctypes.c_int8,
    "unsigned char": ctypes.c_uint8,
    "short": ctypes.c_short,
    "unsigned short": ctypes.c_ushort,
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "long": ctypes.c_long,
    "unsigned long": ctypes.c_ulong,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}


@dataclass(frozen=True)
class Prototype:
    """A C function: its symbol in the library and the names of its types."""

    symbol: str
    result: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.result} {self.symbol}({', '.join(self.arguments)})"


@dataclass(frozen=True)
class ApiLayout:
    """The C API of one llama.h, in the names of `CTYPES` and of its own structs.

    ``structs`` maps a struct's name to its fields, (name, type) in order;
    ``functions`` maps the name that a function has today to the prototype that
    it has in this header. A type is a key of `CTYPES` or of ``structs``.
    """

    structs: Mapping[str, tuple[tuple[str, str], ...]]
    functions: Mapping[str, Prototype]

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON's types."""
        return {
            "structs": {name: [list(f) for f in fields] for name, fields in self.structs.items()},
            "functions": {
                name: [p.symbol, p.result, list(p.arguments)] for name, p in self.functions.items()
            },
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ApiLayout:
        """Return the layout that `to_json` wrote."""
        return ApiLayout(
            structs={
                name: tuple((str(field), str(kind)) for field, kind in fields)
                for name, fields in data["structs"].items()
            },
            functions={
                name: Prototype(symbol, result, tuple(arguments))
                for name, (symbol, result, arguments) in data["functions"].items()
            },
        )

    def ctypes(self) -> dict[str, Any]:
        """Return the ctypes type of every type name, the structs as new classes."""
        types: dict[str, Any] = dict(CTYPES)
        for name, fields in self.structs.items():
            types[name] = type(
                name, (ctypes.Structure,), {"_fields_": [(f, CTYPES[kind]) for f, kind in fields]}
            )
        return types
