"""CLIP as a tagger: f(w) = sim(CLIP(v), CLIP(w)) of eq. 2, the cosine of a picture v and every word w of D."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from dataset_prep.hub import is_local_model, loading_error
from recbole_msm4sr.errors import UserError

if TYPE_CHECKING:
    from transformers import CLIPModel

TOP_N = 15  # the paper's N
_WORD_BATCH = 256


class PictureTagger:
    """CLIP and a word dictionary; the dictionary is encoded once.

    Args:
        name_or_path: a folder with a ``CLIPModel`` and its processor (read without network access), or a hub name.
        words: the dictionary D; empty strings and repeats are dropped.
        device: ``cpu``, ``cuda``, ...; left out, a GPU if there is one.

    Raises:
        UserError: the model cannot be loaded, or the dictionary is empty.
    """

    def __init__(self, name_or_path: str, words: Sequence[str], device: str | None = None) -> None:
        self.words = list(dict.fromkeys(word.strip() for word in words if word.strip()))
        if not self.words:
            raise UserError("the word dictionary is empty: give one word a line")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._load(name_or_path)
        self.word_vectors = self._encode_words()  # [|D|, k], of length 1

    @torch.inference_mode()
    def keywords(self, pictures: Sequence[Image.Image], top_n: int = TOP_N) -> list[list[str]]:
        """The ``top_n`` words nearest to each picture (all of D if it is smaller), nearest first.

        Raises:
            UserError: ``top_n`` is below 1.
        """
        if top_n < 1:
            raise UserError(f"top_n is {top_n}: it must be 1 or more")
        pixels = self.image_processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        vectors = _unit(self.model.get_image_features(pixel_values=pixels.to(self.device)))  # [b, k]
        cosine = vectors @ self.word_vectors.T  # [b, |D|]
        best = cosine.topk(min(top_n, len(self.words)), dim=-1).indices  # [b, N]
        return [[self.words[word] for word in row] for row in best.tolist()]

    def _load(self, name_or_path: str) -> None:
        local = is_local_model(name_or_path)
        from transformers import AutoTokenizer, CLIPModel  # takes seconds: only what needs CLIP should pay for it

        try:  # the processor that works on PIL images has a name of its own since transformers 5
            from transformers import CLIPImageProcessorPil as ImageProcessor
        except ImportError:
            from transformers import CLIPImageProcessor as ImageProcessor

        try:
            self.model: CLIPModel = CLIPModel.from_pretrained(name_or_path, local_files_only=local)
            self.image_processor = ImageProcessor.from_pretrained(name_or_path, local_files_only=local)
            self.tokenizer = AutoTokenizer.from_pretrained(name_or_path, local_files_only=local)
        except (OSError, ValueError) as error:
            raise loading_error("CLIP model", name_or_path, error) from error
        self.model.to(self.device).eval()

    @torch.inference_mode()
    def _encode_words(self) -> Tensor:
        """CLIP(w) for all w in D, scaled to length 1; ``[|D|, k]``."""
        blocks = []
        for start in range(0, len(self.words), _WORD_BATCH):
            words = self.words[start : start + _WORD_BATCH]
            tokens = self.tokenizer(words, padding=True, truncation=True, return_tensors="pt").to(self.device)
            features = self.model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            blocks.append(_unit(features))
        return torch.cat(blocks)


def read_words(path: str | os.PathLike[str]) -> list[str]:
    """Read a dictionary D: one word a line, UTF-8; blank lines are passed over.

    Raises:
        UserError: the file is missing or is not UTF-8 text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the word dictionary {path} cannot be read ({error}): give a file with one word a line"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _unit(output: object) -> Tensor:
    """CLIP's projected features ``[b, k]`` scaled to length 1; transformers 5 wraps them in an output object."""
    features = output if isinstance(output, Tensor) else output.pooler_output  # type: ignore[attr-defined]
    return torch.nn.functional.normalize(features.float(), dim=-1)
