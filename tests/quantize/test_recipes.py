from pathlib import Path

import pytest

from harness.domain import Recipe
from harness.errors import UsageError
from harness.quantize import (
    SHIPPED,
    ftypes_of,
    named_recipe,
    parse_recipe,
    require_imatrix,
    rungs,
)

TABLE = """
static const std::vector<quant_option> QUANT_OPTIONS = {
    { "Q4_0",     LLAMA_FTYPE_MOSTLY_Q4_0,     " 4.34G, +0.4685 ppl @ Llama-3-8B",  },
    { "IQ2_XXS",  LLAMA_FTYPE_MOSTLY_IQ2_XXS,  " 2.06 bpw quantization",            },
    { "Q2_K",     LLAMA_FTYPE_MOSTLY_Q2_K,     " 2.96G, +3.5199 ppl @ Llama-3-8B",  },
    { "Q4_K",     LLAMA_FTYPE_MOSTLY_Q4_K_M,   "alias for Q4_K_M",                  },
    { "COPY",     LLAMA_FTYPE_ALL_F32,         "only copy tensors, no quantizing",  },
};
"""


@pytest.fixture(params=["tools", "examples"])
def tree(request, tmp_path) -> Path:
    folder = tmp_path / request.param / "quantize"
    folder.mkdir(parents=True)
    (folder / "quantize.cpp").write_text(TABLE)
    return tmp_path


def test_a_tree_tells_its_types_without_a_build(tree):
    assert ftypes_of(tree) == {"Q4_0", "IQ2_XXS", "Q2_K", "Q4_K", "COPY"}


def test_a_tree_without_the_table_knows_nothing(tmp_path):
    assert ftypes_of(tmp_path) == frozenset()


def test_a_type_is_a_recipe_in_any_case():
    assert parse_recipe("iq2_xxs", {}, {"IQ2_XXS"}) == Recipe("IQ2_XXS", "IQ2_XXS")


def test_the_articles_q2_k_l_is_shipped():
    recipe = parse_recipe("Q2_K_L", {}, {"Q2_K"})
    assert recipe.ftype == "Q2_K"
    assert recipe.arguments == (
        "--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0",
    )  # fmt: skip


def test_a_configured_recipe_goes_before_a_shipped_one():
    own = Recipe("Q2_K_L", "Q2_K", ("--pure",))
    assert parse_recipe("Q2_K_L", {"Q2_K_L": own}, {"Q2_K"}) is own


def test_an_unknown_recipe_names_the_closest():
    with pytest.raises(UsageError, match="unknown recipe 'IQ2_XXL'") as caught:
        parse_recipe("IQ2_XXL", {}, {"IQ2_XXS", "Q4_0"})
    assert "IQ2_XXS" in caught.value.hint


def test_a_named_recipe_is_a_type_and_its_arguments():
    assert named_recipe("mine", "q4_k_m --tensor-type 'ffn_down=q6_K' --pure") == Recipe(
        "mine", "Q4_K_M", ("--tensor-type", "ffn_down=q6_K", "--pure")
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not begin with a type"),
        ("--pure Q2_K", "does not begin with a type"),
        ("Q2_K --dry-run", "no argument that a recipe may pass on"),
        ("Q2_K --imatrix other.gguf", "no argument that a recipe may pass on"),
        ("Q2_K --tensor-type", "lacks its value"),
    ],
)
def test_a_bad_named_recipe_is_refused(text, complaint):
    with pytest.raises(UsageError, match=complaint):
        named_recipe("mine", text)


def test_a_missing_imatrix_is_found_before_anything_is_built(tmp_path):
    override = Recipe("over", "Q4_K_M", ("--tensor-type", "ffn_down=iq2_xxs"))
    recipes = [Recipe("IQ2_XXS", "IQ2_XXS"), Recipe("Q4_0", "Q4_0"), Recipe("mine", "IQ1_M")]
    with pytest.raises(UsageError, match=r"IQ2_XXS, mine, over: .*importance matrix"):
        require_imatrix([*recipes, override], None)
    require_imatrix(recipes[1:2], None)
    require_imatrix(recipes, tmp_path / "imatrix.gguf")


KNOWN = {"IQ1_M", "IQ2_XXS", "IQ2_XS", "Q2_K", "Q4_0", "Q4_K_M", "TQ1_0", "BF16", "F16", "IQ2_KS"}
IQ2_XXS, Q2_K_L = Recipe("IQ2_XXS", "IQ2_XXS"), SHIPPED["Q2_K_L"]


def names(*arguments):
    return [recipe.name for recipe in rungs(*arguments)]


def test_what_stands_beside_a_file_does_not_depend_on_what_else_was_asked_for():
    alone = names(IQ2_XXS, [IQ2_XXS], KNOWN, True)
    assert set(alone) == {"IQ1_M", "IQ2_XXS", "IQ2_XS", "Q4_K_M", "BF16"}
    everything = [IQ2_XXS, Q2_K_L, Recipe("Q4_K_M", "Q4_K_M")]
    assert names(IQ2_XXS, everything, KNOWN, True) == alone


def test_a_recipe_stands_beside_itself_and_a_forks_types_count():
    assert names(Q2_K_L, [Q2_K_L], KNOWN, True)[0] == "Q2_K_L"
    fork = Recipe("IQ2_KS", "IQ2_KS")
    assert "IQ2_KS" in names(IQ2_XXS, [IQ2_XXS, fork], KNOWN, True)
    assert "NEW" not in names(Recipe("NEW", "NEW"), [], KNOWN, True)


def test_without_an_imatrix_the_k_types_fill_in():
    assert names(Recipe("Q4_K_M", "Q4_K_M"), [], KNOWN, False) == ["Q4_K_M", "Q2_K", "BF16"]
