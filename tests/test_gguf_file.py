import gguf
import pytest
from gguf_maker import TENSORS, write_gguf

from harness.errors import UsageError
from harness.gguf_file import model_sha256, read_gguf, split_files
from harness.store import Store


def test_a_header_tells_tensors_types_and_sizes(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", types={TENSORS[1]: gguf.GGMLQuantizationType.Q8_0})
    info = read_gguf(path)
    assert info.architecture == "llama"
    assert info.n_vocab == 4
    assert info.size_bytes == path.stat().st_size
    assert info.types == {TENSORS[0]: "F32", TENSORS[1]: "Q8_0", TENSORS[2]: "F32"}
    assert {t.name: t.size_bytes for t in info.tensors}[TENSORS[1]] == 32 * 256 // 32 * 34


def test_a_vocabulary_is_the_tokens_in_their_order(tmp_path):
    def digest(name, tokens):
        return read_gguf(write_gguf(tmp_path / name, tokens=tokens)).vocabulary

    assert digest("a", ("x", "yz")) == digest("b", ("x", "yz"))
    assert digest("c", ("x", "yz")) != digest("d", ("yz", "x"))
    assert digest("e", ("x", "yz")) != digest("f", ("xy", "z"))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = write_gguf(tmp_path / "m.gguf")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UsageError, match="truncated"):
        read_gguf(path)


def test_what_is_no_gguf_is_refused(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"PK\x03\x04 a zip")
    with pytest.raises(UsageError, match="not a GGUF"):
        read_gguf(path)
    with pytest.raises(UsageError, match="no such model file"):
        read_gguf(tmp_path / "absent.gguf")


def test_a_split_model_is_all_its_files(tmp_path):
    first = write_gguf(tmp_path / "m-00001-of-00002.gguf", tensors=TENSORS[:2])
    with pytest.raises(UsageError, match="1 of 2 splits are missing"):
        read_gguf(first)
    second = write_gguf(tmp_path / "m-00002-of-00002.gguf", tensors=TENSORS[2:])
    info = read_gguf(first)
    assert [t.name for t in info.tensors] == list(TENSORS)
    assert info.size_bytes == first.stat().st_size + second.stat().st_size
    assert split_files(first) == [first, second]
    assert model_sha256(first, Store(tmp_path / "store")).count("+") == 1
