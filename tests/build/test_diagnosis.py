"""The first error of a log, whichever tool said it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.build.diagnosis import first_error, not_the_codes_fault

GNU = """\
[12/139] Building CXX object src/CMakeFiles/llama.dir/llama-quant.cpp.o
FAILED: [code=1] src/CMakeFiles/llama.dir/llama-quant.cpp.o
/usr/bin/c++ -DFOO -o src/llama-quant.cpp.o -c /x/src/llama-quant.cpp
In file included from /x/src/llama-quant.cpp:3:
/x/src/llama-quant.h:9:1: note: declared here
/x/src/llama-quant.cpp:40:5: warning: error: is only a word here [-Wfoo]
/x/src/llama-quant.cpp:77:13: error: 'n_gqa' was not declared in this scope
   77 |     return n_gqa;
/x/src/llama-quant.cpp:99:1: error: expected '}' at end of input
ninja: build stopped: subcommand failed.
"""

CMAKE = """\
-- The C compiler identification is GNU 12.2.0
CMake Warning at common/CMakeLists.txt:33 (message):
  Git repository not found

CMake Error at ggml/CMakeLists.txt:12 (find_package):
  Could not find a package configuration file provided by "BLAS"
  with any of the following names

    BLASConfig.cmake

-- Configuring incomplete, errors occurred!
"""

LINK = """\
[139/139] Linking CXX executable bin/llama-quantize
FAILED: [code=1] bin/llama-quantize
/usr/bin/ld: CMakeFiles/q.dir/q.cpp.o: in function `main':
q.cpp:(.text.startup+0x9): undefined reference to `llama_gone()'
collect2: error: ld returned 1 exit status
ninja: build stopped: subcommand failed.
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (GNU, "/x/src/llama-quant.cpp:77:13: error: 'n_gqa' was not declared in this scope"),
        (
            CMAKE,
            "CMake Error at ggml/CMakeLists.txt:12 (find_package): Could not find a package "
            'configuration file provided by "BLAS" with any of the following names',
        ),
        ("CMake Error: no such source\n-- Configuring incomplete\n", "CMake Error: no such source"),
        (LINK, "q.cpp:(.text.startup+0x9): undefined reference to `llama_gone()'"),
        ("x\n/usr/bin/ld: cannot find -lcuda\ncollect2: error: ld returned 1 exit status\n",
         "/usr/bin/ld: cannot find -lcuda"),
        ("ld.lld: error: undefined symbol: llama_gone\n",
         "ld.lld: error: undefined symbol: llama_gone"),
        ("/usr/bin/ld: b.o: in function `f':\nb.cpp:(.text+0x0): multiple definition of `f'; "
         "a.o:a.cpp: first defined here\n",
         "b.cpp:(.text+0x0): multiple definition of `f'; a.o:a.cpp: first defined here"),
        ("\x1b[1m/x/a.cpp:1:10: \x1b[31mfatal error: \x1b[0mgone.h: No such file or directory\n",
         "/x/a.cpp:1:10: fatal error: gone.h: No such file or directory"),
        ("/x/a.cu(12): error: identifier \"foo\" is undefined\n",
         '/x/a.cu(12): error: identifier "foo" is undefined'),
        ("/x/a.cu(12): error #20: identifier \"foo\" is undefined\n",
         '/x/a.cu(12): error #20: identifier "foo" is undefined'),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_999'\n",
         "nvcc fatal   : Unsupported gpu architecture 'compute_999'"),
        ("ptxas a.ptx, line 9; error   : Out of range\n",
         "ptxas a.ptx, line 9; error   : Out of range"),
        ("/tmp/cc.s:12: Error: no such instruction: `foo'\n",
         "/tmp/cc.s:12: Error: no such instruction: `foo'"),
        ("/x/a.cpp:5:1: internal compiler error: Segmentation fault\n",
         "/x/a.cpp:5:1: internal compiler error: Segmentation fault"),
        ("c++: error: unrecognized command-line option '-mfoo'\n",
         "c++: error: unrecognized command-line option '-mfoo'"),
        ("ninja: error: unknown target 'llama-gone'\n",
         "ninja: error: unknown target 'llama-gone'"),
        ("bin/llama-quantize: error while loading shared libraries: libx.so: cannot open\n",
         "bin/llama-quantize: error while loading shared libraries: libx.so: cannot open"),
        ("collect2: error: ld returned 1 exit status\n",
         "collect2: error: ld returned 1 exit status"),
        ("[1/2] Building C object error.c.o\n[2/2] Linking\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_first_error(log: str, expected: str | None) -> None:
    assert first_error(log.splitlines(keepends=True)) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("c++: fatal error: Killed signal terminated program cc1plus", "memory"),
        ("collect2: fatal error: ld terminated with signal 9 [Killed]", "memory"),
        ("cc1plus: out of memory allocating 65536 bytes", "memory"),
        ("/tmp/a.s: fatal error: a.o: No space left on device", "disk"),
        ("sccache: error: Server startup failed", "compile cache"),
    ],
)
def test_a_machine_that_lacks_something_is_not_the_prs_fault(line: str, said: str) -> None:
    found = not_the_codes_fault(["[1/2] Building", line + "\n"])
    assert found is not None
    assert said in found[0]
    assert found[1]


def test_code_that_speaks_of_memory_is_not_excused() -> None:
    lines = ['a.cpp:1:2: error: no matching function for fail("out of memory")']
    assert not_the_codes_fault(lines) is None
    assert not_the_codes_fault(GNU.splitlines()) is None


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=200), max_size=20))
def test_any_log_is_read(lines: list[str]) -> None:
    found = first_error(lines)
    assert found is None or found
