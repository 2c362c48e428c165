"""Options: their three spellings, which one counts, and what a wrong one says."""

import argparse
from pathlib import Path

import pytest

from harness.domain import Policy, Recipe
from harness.errors import UsageError
from harness.options import PR_BRANCH, read_config, rerun_command
from harness.options.table import OPTIONS

VALUES = {  # a legal text, and what it becomes, per key
    "main-branch": ("upstream/master", "upstream/master"),
    "main-at": ("tip", "tip"),
    "repo": ("https://example.org/llama.cpp", "https://example.org/llama.cpp"),
    "types": ("iq2_xxs, Q4_K_M,", ("iq2_xxs", "Q4_K_M")),
    "model": ("scout", "scout"),
    "bf16": ("big/model.gguf", "PLACE/big/model.gguf"),
    "imatrix": ("i.dat", "PLACE/i.dat"),
    "chunks": ("7", 7),
    "evaluator": ("own", "own"),
    "policy": ("per-gb", Policy.PER_GB),
    "limit": ("2.5", 2.5),
    "cmake-args": ("-DGGML_CUDA=ON '-DX=a b'", ("-DGGML_CUDA=ON", "-DX=a b")),
    "jobs": ("3", 3),
    "threads": ("5", 5),
    "sequences": ("8", 8),
    "gpu-layers": ("0", 0),
    "timeout": ("1.5", 1.5),
    "report-dir": ("out", "PLACE/out"),
    "cache-dir": ("../cache", "ABOVE/cache"),
    "cache-size": ("0.5", 0.5),
}


@pytest.fixture
def read(tmp_path):
    """Merge options given as keyword: ``cli``, ``ini`` by their names; TOML lies in the folder."""
    root = tmp_path / "root"
    folder = root / "folder"
    folder.mkdir(parents=True)

    def run(cli=None, ini=None):
        given = argparse.Namespace(**{PR_BRANCH: "mine"}, **{o.ini: None for o in OPTIONS})
        vars(given).update(cli or {})
        return read_config(given, (ini or {}).get, root, folder, root)

    run.folder, run.root = folder, root
    return run


def expected(value, place):
    if not isinstance(value, str):
        return value
    text = value.replace("PLACE", str(place)).replace("ABOVE", str(place.parent))
    return Path(text) if text != value else value


def test_every_option_is_tried_here():
    assert set(VALUES) == {option.key for option in OPTIONS}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.key)
def test_three_spellings_of_each_option(read, option):
    text, value = VALUES[option.key]
    given = [text] if option.repeated else text
    assert getattr(read({option.ini: given}), option.field) == expected(value, read.folder)
    assert getattr(read(ini={option.ini: given}), option.field) == expected(value, read.root)
    (read.folder / "quant-gate.toml").write_text(f'{option.key} = "{text}"\n')
    assert getattr(read(), option.field) == expected(value, read.folder)
    (read.folder / "quant-gate.toml").unlink()
    (read.root / "pyproject.toml").write_text(f'[tool.quant-gate]\n{option.key} = "{text}"\n')
    assert getattr(read(), option.field) == expected(value, read.root)


def test_which_one_counts(read):
    (read.root / "pyproject.toml").write_text("[tool.quant-gate]\nchunks = 1\njobs = 1\n")
    assert read().chunks == 1
    (read.root / "quant-gate.toml").write_text("chunks = 2\n")
    assert read().chunks == 2
    assert read().jobs == 1
    assert read(ini={"quant_chunks": "3"}).chunks == 3
    assert read({"quant_chunks": "4"}, {"quant_chunks": "3"}).chunks == 4


def test_the_nearest_file_counts(read):
    (read.root / "quant-gate.toml").write_text("chunks = 1\n")
    (read.folder / "quant-gate.toml").write_text("chunks = 2\n")
    assert read().chunks == 2


def test_a_pyproject_without_our_table_is_nobodys_business(read):
    (read.root / "pyproject.toml").write_text("[tool.black]\nline-length = 3\n")
    assert read().chunks is None


def test_defaults(read, monkeypatch):
    monkeypatch.setenv("QUANT_GATE_CACHE", "/somewhere/cache")
    config = read()
    assert (config.pr_branch, config.model, config.main_at) == ("mine", "tinyscout", "merge-base")
    assert (config.limit_pct, config.sequences, config.timeout_s) == (1.0, 4, 600.0)
    assert (config.recipes, config.policy, config.evaluator) == ((), Policy.EQUAL_SIZE, "auto")
    assert config.report_dir == read.folder / ".quant-gate"
    assert config.cache_dir == Path("/somewhere/cache")
    assert config.cache_gb == 20.0


def test_lists_and_numbers_of_toml(read):
    (read.root / "quant-gate.toml").write_text(
        'types = ["IQ2_XXS", "Q4_K_M"]\ncmake-args = ["-DA=1", "-DB=2"]\nlimit = 0.5\nchunks = 9\n'
    )
    config = read()
    assert config.recipes == ("IQ2_XXS", "Q4_K_M")
    assert config.cmake_args == ("-DA=1", "-DB=2")
    assert (config.limit_pct, config.chunks) == (0.5, 9)


def test_named_recipes(read):
    (read.root / "pyproject.toml").write_text(
        '[tool.quant-gate.recipes]\nmine = "Q2_K --pure"\nother = "Q4_0"\n'
    )
    (read.root / "quant-gate.toml").write_text(
        '[recipes]\nmine = "Q3_K_M --tensor-type ffn_down=q5_k"\n'
    )
    assert read().named_recipes == {
        "mine": Recipe("mine", "Q3_K_M", ("--tensor-type", "ffn_down=q5_k")),
        "other": Recipe("other", "Q4_0", ()),
    }


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("type = 'Q4_0'\n", ["unknown key 'type'", "types", "did you mean types?"]),
        ("pr-branch = 'mine'\n", ["pr-branch is no key", "command line"]),
        ("chunks = 0\n", ["chunks: '0'", "a whole number of at least 1"]),
        ("chunks = true\n", ["chunks: True is no N"]),
        ("chunks = [1, 2]\n", ["chunks: one N is wanted, not 2"]),
        ("limit = nan\n", ["limit: 'nan'", "a number of at least 0"]),
        ("limit = -1\n", ["limit: '-1'"]),
        ("policy = 'best'\n", ["policy: 'best'", "equal-size, per-gb, frontier"]),
        ("types = []\n", []),
        ("types = ['a b']\n", ["types: 'a b'", "separated by commas"]),
        ("timeout = 0\n", ["timeout: '0'", "a number above 0"]),
        ('cmake-args = "-DX=\'"\n', ["cmake-args:", "No closing quotation"]),
        ("chunks = \n", ["not a TOML file", "line 1"]),
        ("recipes = 3\n", ["recipes is a table"]),
        ("[recipes]\n'a b' = 'Q4_0'\n", ["recipe name 'a b'"]),
        ("[recipes]\na = 3\n", ["recipe a is 3"]),
        ("[recipes]\na = '--pure'\n", ["recipe a", "does not begin with a type"]),
        ("[recipes]\na = 'Q4_0 \"'\n", ["recipe a is", "No closing quotation"]),
    ],
)
def test_what_is_wrong_is_named_with_its_file(read, toml, said):
    path = read.root / "quant-gate.toml"
    path.write_text(toml)
    if not said:
        assert read().recipes == ()
        return
    with pytest.raises(UsageError) as caught:
        read()
    for part in [str(path), *said]:
        assert part in str(caught.value)


def test_a_wrong_ini_value_says_where_it_stands(read):
    with pytest.raises(UsageError, match="the ini file: quant_jobs: 'many': a whole number"):
        read(ini={"quant_jobs": "many"})


def test_rerun_repeats_what_was_given():
    given = argparse.Namespace(**{PR_BRANCH: "#12727"}, **{o.ini: None for o in OPTIONS})
    given.quant_types = ["IQ1_M,IQ2_XXS"]
    given.quant_cmake_args = ["-DA=1 -DB=2", "-DC=3"]
    given.quant_limit = "2"
    assert rerun_command(given, "IQ2_XXS") == (
        "pytest '--pr-branch=#12727' --quant-types=IQ1_M,IQ2_XXS --quant-limit=2 "
        "'--quant-cmake-args=-DA=1 -DB=2' "
        "--quant-cmake-args=-DC=3 quant-gate::IQ2_XXS"
    )


def test_ini_files_are_read_by_pytest(pytester):
    """The ini twins exist, and a list may stand in one line."""
    pytester.makeini("[pytest]\nquant_types = IQ1_M,Q4_0 Q8_0\nquant_chunks = 5\n")
    config = pytester.parseconfig("-p", "no:benchmark")
    assert config.getini("quant_types") == ["IQ1_M,Q4_0", "Q8_0"]
    assert config.getini("quant_chunks") == "5"
    assert config.getini("quant_limit") is None
