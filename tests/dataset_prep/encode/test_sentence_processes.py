"""Encoding in two processes, and killed, with a real ``SentenceTransformer``: the bytes are those of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torchrun import ENVIRONMENT, torchrun

from dataset_prep.demo.encoders import build_sentence_encoder
from dataset_prep.encode.sentence_encoder import SentenceEncoder, load_sentence_encoder
from dataset_prep.encode.sentence_features import encode_dataset
from dataset_prep.readers.jsonl import write_records

WORDS = ["a", "red", "green", "blue", "mug", "lamp", "chair", "with", "two", "of", "wood", "steel", "and"]
SETTINGS = {"shard_size": 8}
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from dataset_prep.encode.sentence_features import encode_dataset
from dataset_prep.encode.sentence_encoder import SentenceEncoder, load_sentence_encoder
from recbole_msm4sr.core.distributed import rank

encoder, out, kill_after, settings = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
original, calls = SentenceEncoder.encode, []

def encode(self, sentences, *arguments, **changes):
    if len(sentences) <= 8:  # not the trial of a faster arithmetic
        calls.append(len(sentences))
        with open(out / f"rank{rank()}", "a") as log:
            log.write(f"{len(sentences)}\\n")
        if len(calls) > kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
    return original(self, sentences, *arguments, **changes)

SentenceEncoder.encode = encode
files = {"text": out / "text.jsonl", "keywords": out / "image_keywords.jsonl"}
stores = encode_dataset(out, load_sentence_encoder(encoder, "cpu"), **files, **settings)
assert {modality: store.n_items for modality, store in stores.items()} == {"text": 60, "image": 60}
"""


def make_input(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    sentences = [" ".join(rng.choice(WORDS, size=n)) for n in rng.integers(1, 9, size=100)]
    folder.mkdir()
    texts = [list(rng.choice(sentences, size=rng.integers(0, 4))) for _ in range(60)]
    write_records(folder / "text.jsonl", ({"item_id": str(n), "sentences": found} for n, found in enumerate(texts)))
    words = [[list(rng.choice(WORDS, size=3))] * int(rng.integers(0, 3)) for _ in range(60)]
    write_records(
        folder / "image_keywords.jsonl", ({"item_id": str(n), "keywords": found} for n, found in enumerate(words))
    )
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def encoded(folder: Path) -> list[int]:
    """Sizes of the shards that were encoded, by whichever process."""
    return [int(line) for path in folder.glob("rank*") for line in path.read_text().splitlines()]


def encode_here(folder: Path, encoder: SentenceEncoder) -> int:
    """Encode in this process; returns how many shards were missing."""
    shards = []

    class Counting(SentenceEncoder):
        def encode(self, sentences: Sequence[str], *arguments: Any, **changes: Any) -> np.ndarray:
            if len(sentences) <= 8:  # not the trial of a faster arithmetic
                shards.append(len(sentences))
            return super().encode(sentences, *arguments, **changes)

    counting = Counting(encoder.model, encoder.name, encoder.revision)
    files = {"text": folder / "text.jsonl", "keywords": folder / "image_keywords.jsonl"}
    encode_dataset(folder, counting, **files, **SETTINGS)  # type: ignore[arg-type]
    return len(shards)


def test_two_processes_and_a_killed_one_give_the_bytes_of_one(tmp_path: Path) -> None:
    build_sentence_encoder(tmp_path / "encoder", WORDS, seed=1, dim=16)
    encoder = load_sentence_encoder(str(tmp_path / "encoder"), "cpu")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, shared, resumed = (make_input(tmp_path / name) for name in ("whole", "shared", "resumed"))
    n_shards = encode_here(whole, encoder)
    assert n_shards > 10

    done = torchrun(str(script), str(tmp_path / "encoder"), str(shared), "1000", json.dumps(SETTINGS))
    assert done.returncode == 0, done.stderr
    assert len(encoded(shared)) == n_shards, "no shard is encoded by both"
    assert contents(shared / "features") == contents(whole / "features")

    killed = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "encoder"), str(resumed), "3", json.dumps(SETTINGS)],
        env={**os.environ, **ENVIRONMENT},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (resumed / "features").exists()
    assert encode_here(resumed, encoder) == n_shards - 3, "what was finished is not encoded again"
    assert contents(resumed / "features") == contents(whole / "features")
    assert not (resumed / "prep").exists()
