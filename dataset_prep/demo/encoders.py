"""Small encoders for the demo data set, built on the spot: real library classes, no download, seconds to make.

They are saved as folders that the general code loads by path like any other encoder. The Sentence-BERT is left at its
random initialisation: with mean pooling its vectors are a random projection of the bag of words, which keeps what the
demo's sentences say. The CLIP is trained for a few seconds on pictures of the generator's, so that the words nearest
to a picture are truly about it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from dataset_prep.demo.catalogue import Item
from dataset_prep.demo.pictures import SIZE, draw

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = {"pad_token": "[PAD]", "bos_token": "[BOS]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
_BATCH = 64
_LOGIT_SCALE = 10.0  # inverse temperature of the contrastive loss


def build_sentence_encoder(folder: Path, sentences: Iterable[str], seed: int, *, dim: int = 128) -> None:
    """Save a ``SentenceTransformer`` with the vocabulary of ``sentences``: one-layer BERT, mean pooling.

    The vectors of different sentences differ: their mean cosine is about 0.4.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    words = sorted({word for sentence in sentences for word in re.findall(r"\w+", sentence.lower())})
    tokenizer = _word_tokenizer(words)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=2 * dim,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    with _deterministic(seed), tempfile.TemporaryDirectory() as parts:
        bert = BertModel(config)
        # Words count, their places do not: as drawn, places would make up half of every vector.
        with torch.no_grad():
            bert.embeddings.position_embeddings.weight.mul_(0.1)
            bert.embeddings.token_type_embeddings.weight.zero_()
        bert.save_pretrained(parts)
        tokenizer.save_pretrained(parts)
        model = SentenceTransformer(modules=[Transformer(parts), Pooling(dim, "mean")], device="cpu")
        model.save(str(folder), create_model_card=False)


def build_clip(
    folder: Path, items: Sequence[Item], words: Sequence[str], seed: int, *, steps: int = 240, dim: int = 64
) -> float:
    """Train a small ``CLIPModel`` on pictures of ``items`` and save it with its processor and tokenizer.

    Args:
        items: what to draw; other items than the data set's, so that its pictures are new to the model.
        words: the dictionary D. Those of ``item.visual_words()`` are the ones to find, all others the negatives.

    Returns:
        The last step's loss: the cross-entropy between the softmax over D and the picture's true words, less the
        entropy of the latter (0 is perfect).
    """
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = _word_tokenizer(words)
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    rng = np.random.default_rng(seed)
    pixels = processor(images=[draw(item, rng) for item in items], return_tensors="pt")["pixel_values"]  # [n, 3, s, s]
    truth = torch.tensor([[word in item.visual_words() for word in words] for item in items], dtype=torch.float32)
    truth = truth / truth.sum(dim=1, keepdim=True)  # [n, |D|]
    entropy = torch.special.entr(truth).sum(dim=1).mean()
    tokens = tokenizer(list(words), padding=True, return_tensors="pt")
    tower = {"hidden_size": dim, "intermediate_size": 2 * dim, "num_hidden_layers": 2, "num_attention_heads": 4}
    with _deterministic(seed):
        model = CLIPModel(
            CLIPConfig(
                text_config={
                    **tower,
                    "vocab_size": len(tokenizer),
                    "max_position_embeddings": 8,
                    "pad_token_id": tokenizer.pad_token_id,
                    "bos_token_id": tokenizer.bos_token_id,
                    "eos_token_id": tokenizer.eos_token_id,
                },
                vision_config={**tower, "image_size": SIZE, "patch_size": 12},
                projection_dim=dim,
            )
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
        excess = float("inf")
        for step in range(steps):
            if step * _BATCH % len(items) < _BATCH:
                order = torch.randperm(len(items))
            rows = order[(torch.arange(_BATCH) + step * _BATCH) % len(items)]  # [b]
            vision = model.vision_model(pixel_values=pixels[rows]).pooler_output
            text = model.text_model(**tokens).pooler_output
            picture_vectors = functional.normalize(model.visual_projection(vision), dim=-1)  # [b, k]
            word_vectors = functional.normalize(model.text_projection(text), dim=-1)  # [|D|, k]
            logits = _LOGIT_SCALE * picture_vectors @ word_vectors.T  # [b, |D|]
            loss = functional.cross_entropy(logits, truth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            excess = float(loss.detach() - entropy)
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return excess


def _word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token a word, lower case, between [BOS] and [EOS]; unknown words become [UNK]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*_SPECIAL.values(), *words))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIAL["unk_token"]))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    begin, end = _SPECIAL["bos_token"], _SPECIAL["eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, vocabulary[begin]), (end, vocabulary[end])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **_SPECIAL)


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from ``seed`` and sum on one thread, so that results repeat; then undo both.

    Models this small are no slower on one thread.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
