"""The data flows one way: what imports what is a rule, not a habit."""

import ast
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent

# From the face down to the ground; a module imports only what stands after it.
ORDER = [
    "plugin",
    "session",
    "display",
    "items",
    "__main__",
    "options",
    "gate",
    "ladder",
    "measure",
    "report",
    "judge",
    "score",
    "baseline",
    "runtime",
    "quantize",
    "build",
    "source",
    "sandbox",
    "gguf_file",
    "store",
    "domain",
    "errors",
]
# The commands that make a baseline use the rooms that answer for a gate run.
ALLOWED = {
    ("baseline", "score"),  # the baseline is the reduced form of what is scored
    ("options", "quantize"),  # the configuration's recipes are parsed where recipes live
    ("gate", "options"),  # the configuration is handed down whole
    ("plugin", "report"),
    ("items", "report"),
}
PURE = ["score", "judge", "domain.py", "errors.py"]
OUTSIDE = {"pytest", "subprocess", "git", "llama_cpp", "socket", "os", "shutil", "tempfile"}


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if "_baselines" not in path.parts)


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_used(path: Path) -> set[str]:
    used = {name.split(".")[1] for name in imports(path) if name.startswith("harness.")}
    return {name for name in used if name in ORDER}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_the_list(path):
    here = room(path)
    if here == "__init__":
        return
    assert here in ORDER, f"{here} is a new room: give it its place in ORDER"
    for used in rooms_used(path) - {here}:
        down = ORDER.index(used) > ORDER.index(here)
        assert down or (here, used) in ALLOWED, f"{path.name} imports {used}, which stands above"


@pytest.mark.parametrize("pure", PURE)
def test_pure_rooms_import_nothing_of_the_outside(pure):
    target = ROOT / pure
    for path in target.rglob("*.py") if target.is_dir() else [target]:
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & OUTSIDE, f"{path.relative_to(ROOT)} imports {roots & OUTSIDE}"


def test_only_the_face_knows_pytest():
    for path in modules():
        if room(path) not in {"plugin", "session", "display", "items", "options"}:
            assert "pytest" not in {name.split(".")[0] for name in imports(path)}, path


def test_only_source_knows_git():
    for path in modules():
        if room(path) != "source":
            assert "git" not in {name.split(".")[0] for name in imports(path)}, path


def test_only_the_sandbox_starts_a_branchs_code():
    allowed = {"sandbox", "source", "build", "runtime"}  # git, pip, compiler versions: our tools
    for path in modules():
        if "subprocess" in {name.split(".")[0] for name in imports(path)}:
            assert room(path) in allowed, path


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_room_is_crowded(path):
    assert len(path.read_text().splitlines()) <= 325
