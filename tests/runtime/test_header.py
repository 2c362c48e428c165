from __future__ import annotations

import json
import subprocess

import pytest
from fake_llama import HEADER, OLDER_HEADER, make_tree

from harness.errors import InfrastructureError, PrError
from harness.runtime.header import STRUCTS, read_api
from harness.runtime.layout import ApiLayout


def offsets_by_compiler(folder, layout):
    """Return {"struct.field": offset} with sizes under the struct's name, as gcc has them."""
    lines = []
    for name, fields in layout.structs.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        for field, _ in fields:
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));')
    headers = "".join(f"#include <{name}.h>\n" for name in ("stddef", "stdio", "llama"))
    (folder / "offsets.c").write_text(f"{headers}int main() {{{''.join(lines)}}}")
    includes = [f"-I{folder / 'include'}", f"-I{folder / 'ggml' / 'include'}"]
    subprocess.run(["gcc", *includes, "offsets.c", "-o", "offsets"], cwd=folder, check=True)
    out = subprocess.run([folder / "offsets"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0]: int(line.split()[1]) for line in out.splitlines()}


def offsets_by_ctypes(layout):
    import ctypes

    types = layout.ctypes()
    found = {name: ctypes.sizeof(types[name]) for name in layout.structs}
    for name, fields in layout.structs.items():
        found |= {f"{name}.{field}": getattr(types[name], field).offset for field, _ in fields}
    return found


@pytest.mark.parametrize("header", [HEADER, OLDER_HEADER], ids=["of today", "of 2024"])
def test_the_layout_is_the_compilers_and_survives_json(tmp_path, header):
    tree = make_tree(tmp_path, header)
    layout = read_api(tree, PrError)
    assert set(layout.structs) == set(STRUCTS)
    assert offsets_by_ctypes(layout) == offsets_by_compiler(tree, layout)
    assert ApiLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_fields_that_a_branch_adds_move_those_behind_them(tmp_path):
    added = (
        "uint32_t n_seq_max;\n    bool one; double two; unsigned short three; enum new_kind four;"
    )
    header = HEADER.replace("uint32_t n_seq_max;", added).replace(
        "struct llama_context_params {", "enum new_kind { A };\nstruct llama_context_params {"
    )
    tree = make_tree(tmp_path, header)
    layout = read_api(tree, PrError)
    by_ctypes = offsets_by_ctypes(layout)
    assert by_ctypes == offsets_by_compiler(tree, layout)
    assert by_ctypes["llama_context_params.n_threads"] == 40


def test_functions_are_found_under_their_older_names(tmp_path):
    functions = read_api(make_tree(tmp_path, OLDER_HEADER), PrError).functions
    assert functions["llama_memory_clear"].symbol == "llama_kv_cache_clear"
    assert functions["llama_model_load_from_file"].symbol == "llama_load_model_from_file"
    assert "llama_get_memory" not in functions


def test_a_deprecated_name_beside_the_new_one_is_left_alone(tmp_path):
    both = HEADER + "LLAMA_API void llama_kv_self_clear(struct llama_context * ctx);\n"
    functions = read_api(make_tree(tmp_path, both), PrError).functions
    assert functions["llama_memory_clear"].symbol == "llama_memory_clear"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (
            "int8_t * logits;",
            "int8_t * output;",
            r"struct llama_batch has no field logits",
        ),
        (
            "float rope_freq_base;",
            "struct { int a; } rope;",
            r"field llama_context_params\.rope has a type unknown here \(an unnamed struct\)",
        ),
        ("float rope_freq_base;", "int32_t a[4];", r"llama_context_params\.a .*\(an array\)"),
        ("float rope_freq_base;", "long double b;", r"llama_context_params\.b .*\(long double\)"),
        ("bool embeddings;", "int c : 3;", r"field llama_context_params\.c"),
        (
            "struct llama_batch batch);",
            "struct llama_batch batch, int32_t how);",
            r"declares int llama_decode\(pointer, llama_batch, int\); "
            r"known here: int llama_decode\(pointer, llama_batch\)",
        ),
        (
            "llama_get_logits",
            "llama_logits",
            r"declares none of these; known here: pointer llama_get_logits\(pointer\)",
        ),
        ("typedef struct llama_batch {", "typedef struct llama_pack {", r"no struct llama_batch"),
        ("} llama_batch;", "} __attribute__((packed)) llama_batch;", r"lays .* out otherwise"),
        ("bool use_mmap;", "bool use_mmap", r"is not C as it is known here"),
        ("#include <stddef.h>", "#error not today", r"preprocessor refuses .*\n.*not today"),
    ],
)
def test_an_api_that_is_not_known_is_named(tmp_path, before, after, says):
    header = HEADER.replace(before, after)
    if "pack {" in after:
        header = header.replace("} llama_batch;", "} llama_batch_t;").replace(
            "struct llama_batch batch", "llama_batch_t batch"
        )
    assert header != HEADER
    with pytest.raises(PrError, match=says):
        read_api(make_tree(tmp_path, header), PrError)


def test_the_caller_says_whose_header_it_is(tmp_path):
    with pytest.raises(InfrastructureError, match=r"no header at .*include/llama.h"):
        read_api(tmp_path, InfrastructureError)


def test_a_missing_compiler_is_nobodys_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(InfrastructureError, match=r"no C compiler: no-such-compiler"):
        read_api(make_tree(tmp_path, HEADER), PrError)
