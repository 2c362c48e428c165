"""A branch's llama.h -> `ApiLayout`.

llama.cpp's C API moves every few weeks, so layouts and names are read from the
header of the very tree that a library was built from. The C compiler that
built it checks the result: sizes and offsets are asserted against its own.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pycparser import c_ast, c_parser

from harness.errors import HarnessError, InfrastructureError
from harness.runtime.layout import CTYPES, POINTER, ApiLayout, Prototype

COMPILER_TIMEOUT_S = 60

# The fields that are set or read; the others are carried as they are.
STRUCTS: Mapping[str, tuple[str, ...]] = {
    "llama_model_params": ("n_gpu_layers", "vocab_only"),
    "llama_context_params": (
        "n_ctx",
        "n_batch",
        "n_ubatch",
        "n_seq_max",
        "n_threads",
        "n_threads_batch",
    ),
    "llama_batch": ("n_tokens", "token", "pos", "n_seq_id", "seq_id", "logits"),
}

# Today's name of each function -> every form that it is known to have, the newest first.
FUNCTIONS: Mapping[str, tuple[Prototype, ...]] = {
    "llama_backend_init": (Prototype("llama_backend_init", "void", ()),),
    "llama_backend_free": (Prototype("llama_backend_free", "void", ()),),
    "llama_model_default_params": (
        Prototype("llama_model_default_params", "llama_model_params", ()),
    ),
    "llama_context_default_params": (
        Prototype("llama_context_default_params", "llama_context_params", ()),
    ),
    "llama_model_load_from_file": (
        Prototype("llama_model_load_from_file", POINTER, (POINTER, "llama_model_params")),
        Prototype("llama_load_model_from_file", POINTER, (POINTER, "llama_model_params")),
    ),
    "llama_init_from_model": (
        Prototype("llama_init_from_model", POINTER, (POINTER, "llama_context_params")),
        Prototype("llama_new_context_with_model", POINTER, (POINTER, "llama_context_params")),
    ),
    "llama_model_free": (
        Prototype("llama_model_free", "void", (POINTER,)),
        Prototype("llama_free_model", "void", (POINTER,)),
    ),
    "llama_free": (Prototype("llama_free", "void", (POINTER,)),),
    "llama_model_get_vocab": (Prototype("llama_model_get_vocab", POINTER, (POINTER,)),),
    "llama_vocab_n_tokens": (
        Prototype("llama_vocab_n_tokens", "int", (POINTER,)),
        Prototype("llama_n_vocab", "int", (POINTER,)),
    ),
    "llama_vocab_get_add_bos": (
        Prototype("llama_vocab_get_add_bos", "_Bool", (POINTER,)),
        Prototype("llama_add_bos_token", "_Bool", (POINTER,)),
    ),
    "llama_vocab_bos": (
        Prototype("llama_vocab_bos", "int", (POINTER,)),
        Prototype("llama_token_bos", "int", (POINTER,)),
    ),
    "llama_tokenize": (
        Prototype(
            "llama_tokenize",
            "int",
            (POINTER, POINTER, "int", POINTER, "int", "_Bool", "_Bool"),
        ),
    ),
    "llama_get_memory": (Prototype("llama_get_memory", POINTER, (POINTER,)),),
    "llama_memory_clear": (
        Prototype("llama_memory_clear", "void", (POINTER, "_Bool")),
        Prototype("llama_memory_clear", "void", (POINTER,)),
        Prototype("llama_kv_self_clear", "void", (POINTER,)),
        Prototype("llama_kv_cache_clear", "void", (POINTER,)),
    ),
    "llama_decode": (Prototype("llama_decode", "int", (POINTER, "llama_batch")),),
    "llama_get_logits": (Prototype("llama_get_logits", POINTER, (POINTER,)),),
}

# Older headers have neither: there the model is its vocabulary, the context its memory.
OPTIONAL = frozenset({"llama_model_get_vocab", "llama_get_memory"})


def read_api(checkout: Path, blame: type[HarnessError]) -> ApiLayout:
    """Read the layouts and prototypes that the driver needs from a llama.cpp tree.

    Parameters
    ----------
    checkout : Path
        The tree; ``include/llama.h`` and ``ggml/include`` are read.
    blame : type of HarnessError
        Raised where the header has a struct, field or function that the driver
        doesn't know: PrError for the PR's tree, InfrastructureError for main's.

    Raises
    ------
    InfrastructureError
        When no C compiler is there.
    """
    header = checkout / "include" / "llama.h"
    if not header.is_file():
        raise blame(f"no header at {header}: this is no llama.cpp tree")
    names = _Names(_parse(header, _preprocess(header, blame), blame), header, blame)
    structs = {name: names.fields(name, needed) for name, needed in STRUCTS.items()}
    functions = {}
    for name, forms in FUNCTIONS.items():
        found = names.prototype(forms, optional=name in OPTIONAL)
        if found is not None:
            functions[name] = found
    layout = ApiLayout(structs, functions)
    _check_with_compiler(layout, header, blame)
    return layout


def _preprocess(header: Path, blame: type[HarnessError]) -> str:
    defined_away = (
        "-D__attribute__(x)=",
        "-D__asm__(x)=",
        "-D__extension__=",
        "-D__restrict=",
        "-D__inline=",
        "-D__inline__=",
        "-D__builtin_va_list=int",
    )
    done = _compiler(header, "-E", "-P", "-x", "c", "-std=c11", *defined_away, str(header))
    if done.returncode != 0:
        raise blame(f"the preprocessor refuses {header}:\n{_last(done.stderr)}")
    return done.stdout


def _compiler(
    header: Path, *arguments: str, source: str | None = None
) -> subprocess.CompletedProcess[str]:
    root = header.parent.parent
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc") or "cc"
    command = [*compiler.split(), f"-I{root / 'include'}", f"-I{root / 'ggml' / 'include'}"]
    try:
        return subprocess.run(
            [*command, *arguments],
            input=source,
            capture_output=True,
            text=True,
            timeout=COMPILER_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"no C compiler: {compiler} cannot be run, and llama.h is read through it",
            hint="install gcc, or name another compiler in CC",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(
            f"{compiler} did not read {header} within {COMPILER_TIMEOUT_S} s"
        ) from error


def _parse(header: Path, text: str, blame: type[HarnessError]) -> c_ast.FileAST:
    try:
        return c_parser.CParser().parse(text, str(header))
    except Exception as error:  # pycparser's ParseError has moved between its versions
        raise blame(f"{header} is not C as it is known here: {error}") from error


class _Names:
    """The declarations of a parsed header, by name."""

    def __init__(self, tree: c_ast.FileAST, header: Path, blame: type[HarnessError]) -> None:
        self.header = header
        self.blame = blame
        self.typedefs: dict[str, c_ast.Node] = {}
        self.structs: dict[str, list[c_ast.Decl]] = {}
        self.functions: dict[str, c_ast.FuncDecl] = {}
        for node in tree.ext:
            self._note(node)

    def _note(self, node: c_ast.Node) -> None:
        if isinstance(node, c_ast.Typedef):
            self.typedefs[node.name] = node.type
            inner = getattr(node.type, "type", None)
        elif isinstance(node, c_ast.Decl):
            if isinstance(node.type, c_ast.FuncDecl):
                self.functions[node.name] = node.type
            inner = node.type
        else:
            return
        if isinstance(inner, c_ast.Struct) and inner.name and inner.decls:
            self.structs[inner.name] = inner.decls

    def fields(self, struct: str, needed: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Return the (name, type) pairs of a struct, in order."""
        if struct not in self.structs:
            raise self.blame(f"{self.header} defines no struct {struct}")
        fields = []
        for field in self.structs[struct]:
            kind = self.type_name(field.type)
            if kind not in CTYPES or kind == "void" or getattr(field, "bitsize", None) is not None:
                raise self.blame(
                    f"{self.header}: field {struct}.{field.name} has a type unknown here ({kind})"
                )
            fields.append((field.name, kind))
        missing = [name for name in needed if name not in dict(fields)]
        if missing:
            raise self.blame(f"{self.header}: struct {struct} has no field {', '.join(missing)}")
        return tuple(fields)

    def prototype(self, forms: tuple[Prototype, ...], *, optional: bool) -> Prototype | None:
        """Return the first of a function's known forms that the header declares."""
        declared = {
            form.symbol: self._declared(form.symbol)
            for form in forms
            if form.symbol in self.functions
        }
        for form in forms:
            if declared.get(form.symbol) == form:
                return form
        if not declared and optional:
            return None
        known = " or ".join(map(str, forms))
        there = " and ".join(map(str, declared.values())) or "none of these"
        raise self.blame(f"{self.header} declares {there}; known here: {known}")

    def _declared(self, symbol: str) -> Prototype:
        function = self.functions[symbol]
        arguments = [self.type_name(a.type) for a in function.args.params] if function.args else []
        if arguments == ["void"]:
            arguments = []
        return Prototype(symbol, self.type_name(function.type), tuple(arguments))

    def type_name(self, node: c_ast.Node) -> str:
        """Return a type's name in the terms of `ApiLayout`; C's own words where it has none."""
        if isinstance(node, c_ast.PtrDecl | c_ast.FuncDecl):
            return POINTER
        if isinstance(node, c_ast.TypeDecl | c_ast.Typename):
            return self.type_name(node.type)
        if isinstance(node, c_ast.Enum):
            return "int"
        if isinstance(node, c_ast.Struct):
            return node.name or "an unnamed struct"
        if isinstance(node, c_ast.IdentifierType):
            if len(node.names) == 1 and node.names[0] in self.typedefs:
                return self.type_name(self.typedefs[node.names[0]])
            return _builtin(node.names)
        if isinstance(node, c_ast.EllipsisParam):
            return "..."
        return {"ArrayDecl": "an array", "Union": "a union"}.get(
            type(node).__name__, type(node).__name__
        )


def _builtin(words: list[str]) -> str:
    """Return the one spelling that `CTYPES` has: "long unsigned int" is "unsigned long"."""
    base = [word for word in words if word not in ("signed", "unsigned", "int")] or ["int"]
    if "unsigned" in words:
        return " ".join(["unsigned", *base])
    return "signed char" if "signed" in words and base == ["char"] else " ".join(base)


def _check_with_compiler(layout: ApiLayout, header: Path, blame: type[HarnessError]) -> None:
    """Assert every size and offset in C: packing and alignment are the compiler's to say."""
    lines = ["#include <stddef.h>", '#include "llama.h"']
    types = layout.ctypes()
    for name, fields in layout.structs.items():
        struct = types[name]
        lines.append(_assertion(f"sizeof(struct {name})", ctypes.sizeof(struct)))
        lines += [
            _assertion(f"offsetof(struct {name}, {f})", getattr(struct, f).offset)
            for f, _ in fields
        ]
    done = _compiler(
        header, "-fsyntax-only", "-x", "c", "-std=c11", "-", source="\n".join(lines) + "\n"
    )
    if done.returncode != 0:
        raise blame(f"the compiler lays {header} out otherwise:\n{_last(done.stderr)}")


def _assertion(what: str, value: int) -> str:
    return f'_Static_assert({what} == {value}, "{what} is not {value}");'


def _last(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-15:])
