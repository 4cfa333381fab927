"""The paper's equations in plain float64 numpy, written out term by term, to check the models against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]


def to_numpy(state_dict: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, Array]:
    """The weights whose names begin with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): tensor.detach().double().numpy()
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }


def softmax(x: Array) -> Array:
    exponent = np.exp(x - x.max())
    return exponent / exponent.sum()


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / (math.sqrt(a @ a) * math.sqrt(b @ b)))


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    return (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + eps) * weight + bias


def gelu(x: Array) -> Array:
    return np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x])


def attention_pooling(rows: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
    """Eq. 3 with W1 [d, d_a] and W2 [d_a] applied one after the other."""
    alpha = softmax((rows @ w1 + b1) @ w2 + b2)
    pooled = np.zeros(rows.shape[1])
    for weight, row in zip(alpha, rows, strict=True):
        pooled += weight * row
    return pooled


def mixture_of_experts(e: Array, weights: Mapping[str, Array]) -> Array:
    """Eq. 4-5, one expert after the other."""
    n_experts, size = weights["norm_weight"].shape
    gate = softmax(weights["gate.weight"] @ e + weights["gate.bias"])
    z = np.zeros(size)
    for k in range(n_experts):
        own = slice(k * size, (k + 1) * size)
        linear = weights["experts.weight"][own] @ e + weights["experts.bias"][own]
        z += gate[k] * layer_norm(linear, weights["norm_weight"][k], weights["norm_bias"][k], 1e-5)
    return z


def whitening_adaptor(features: Array, weights: Mapping[str, Array], noise: Array | None = None) -> Array:
    """UniSRec's item embeddings [n, d0] of features [n, d], one expert after the other; ``noise`` [n, G] is ε."""
    n_experts = len(weights["shift"])
    experts = weights["experts.weight"].reshape(n_experts, -1, features.shape[1])
    embeddings = []
    for i, x in enumerate(features):
        logits = weights["gate"] @ x
        if noise is not None:
            logits = logits + noise[i] * (np.log(1 + np.exp(weights["noise"] @ x)) + 1e-2)
        gates = softmax(logits)
        embeddings.append(sum(gates[k] * (experts[k] @ (x - weights["shift"][k])) for k in range(n_experts)))
    return np.array(embeddings)


def encode_item(rows: Array, weights: Mapping[str, Array]) -> Array:
    """z of one item (eq. 3-5), or the "missing" vector."""
    if len(rows) == 0:
        return weights["missing"]
    pooled = attention_pooling(
        rows,
        weights["attention.w1.weight"].T,
        weights["attention.w1.bias"],
        weights["attention.w2.weight"][0],
        weights["attention.w2.bias"][0],
    )
    experts = {name.removeprefix("experts."): w for name, w in weights.items() if name.startswith("experts.")}
    return mixture_of_experts(pooled, experts)


def encode_items(dataset: Any, state_dict: Mapping[str, torch.Tensor], modalities: list[str]) -> Array:
    """F of every modality, [M, n_items, d0]."""
    tables = []
    for modality in modalities:
        weights = to_numpy(state_dict, f"m2se.encoders.{modality}.")
        values, offsets = dataset.item_features[modality]
        rows, bounds = values.double().numpy(), offsets.tolist()
        tables.append([encode_item(rows[a:b], weights) for a, b in pairwise(bounds)])
    return np.array(tables)


def last_state(embeddings: Array, weights: Mapping[str, Array], n_heads: int, eps: float) -> Array:
    """The last row of H_L for one sequence [n, d0] without padding (III-B 4); nothing follows it, so no mask."""
    n, size = embeddings.shape
    width = size // n_heads
    hidden = [
        layer_norm(
            embeddings[i] + weights["position_embedding.weight"][i], weights["norm.weight"], weights["norm.bias"], eps
        )
        for i in range(n)
    ]
    n_layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    for layer in range(n_layers):
        w = {name.removeprefix(f"layers.{layer}."): v for name, v in weights.items() if f"layers.{layer}." in name}
        qkv = [w["query_key_value.weight"] @ h + w["query_key_value.bias"] for h in hidden]
        following = []
        for i in range(n):
            context = np.zeros(size)
            for head in range(n_heads):
                at = slice(head * width, (head + 1) * width)
                query = qkv[i][:size][at]
                scores = np.array([query @ qkv[j][size : 2 * size][at] / math.sqrt(width) for j in range(i + 1)])
                for j, share in enumerate(softmax(scores)):
                    context[at] += share * qkv[j][2 * size :][at]
            attended = w["attention_output.weight"] @ context + w["attention_output.bias"]
            h = layer_norm(hidden[i] + attended, w["attention_norm.weight"], w["attention_norm.bias"], eps)
            inner = gelu(w["inner.weight"] @ h + w["inner.bias"])
            outer = w["outer.weight"] @ inner + w["outer.bias"]
            following.append(layer_norm(h + outer, w["feed_forward_norm.weight"], w["feed_forward_norm.bias"], eps))
        hidden = following
    return hidden[-1]


def fused_row(rows: Array, fusion_type: str, weights: Mapping[str, Array]) -> Array:
    """DIF-SR's fusion of one query's scores [S, n], later keys being 0 already, to a row [n]."""
    n = rows.shape[1]
    if fusion_type == "sum":
        return rows.sum(axis=0)
    longest = len(weights["linear.bias" if fusion_type == "concat" else "inner.bias"])
    padded = np.zeros((len(rows), longest))
    padded[:, :n] = rows
    if fusion_type == "concat":
        return (weights["linear.weight"] @ padded.flatten() + weights["linear.bias"])[:n]
    energy = [
        weights["outer.weight"][0] @ np.maximum(weights["inner.weight"] @ row + weights["inner.bias"], 0)
        for row in padded
    ]
    return softmax(np.array(energy)) @ rows


def decoupled_states(
    items: Array, sides: list[Array], weights: Mapping[str, Array], n_heads: int, fusion_type: str
) -> Array:
    """All hidden states [n, d0] of DIF-SR's transformer for one sequence [n, d0] and its sides, each [n, size]."""
    n, size = items.shape
    hidden = np.array([layer_norm(x, weights["norm.weight"], weights["norm.bias"], 1e-12) for x in items])
    n_layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    for layer in range(n_layers):
        w = {name.removeprefix(f"layers.{layer}."): v for name, v in weights.items() if f"layers.{layer}." in name}
        a = {name.removeprefix("attention."): v for name, v in w.items() if name.startswith("attention.")}
        fusion = {name.removeprefix("fusion."): v for name, v in a.items() if name.startswith("fusion.")}
        sources = [hidden, weights["position_embedding.weight"][:n], *sides]
        queries = [x @ a[f"queries.{s}.weight"].T + a[f"queries.{s}.bias"] for s, x in enumerate(sources)]
        keys = [x @ a[f"keys.{s}.weight"].T + a[f"keys.{s}.bias"] for s, x in enumerate(sources)]
        values = hidden @ a["value.weight"].T + a["value.bias"]
        following = np.zeros_like(hidden)
        for i in range(n):
            context = np.zeros(size)
            for head in range(n_heads):
                scores = np.zeros((len(sources), n))
                for s, (query, key) in enumerate(zip(queries, keys, strict=True)):
                    at = _own_part(query.shape[1], head, n_heads)
                    for j in range(i + 1):
                        scores[s, j] = query[i, at] @ key[j, at]
                row = fused_row(scores, fusion_type, fusion) / math.sqrt(size // n_heads)
                at = _own_part(size, head, n_heads)
                for j, share in enumerate(softmax(row[: i + 1])):
                    context[at] += share * values[j, at]
            attended = hidden[i] + a["output.weight"] @ context + a["output.bias"]
            h = layer_norm(attended, w["attention_norm.weight"], w["attention_norm.bias"], 1e-12)
            outer = w["outer.weight"] @ gelu(w["inner.weight"] @ h + w["inner.bias"]) + w["outer.bias"]
            following[i] = layer_norm(h + outer, w["feed_forward_norm.weight"], w["feed_forward_norm.bias"], 1e-12)
        hidden = following
    return hidden


def lstm_states(inputs: Array, weights: Mapping[str, Array]) -> Array:
    """All hidden states [n, width] of an LSTM for one sequence [n, width], gate by gate, from a state of zeros."""

    def sigmoid(x: Array) -> Array:
        return 1 / (1 + np.exp(-x))

    width = inputs.shape[1]
    hidden, cell, states = np.zeros(width), np.zeros(width), []
    for x in inputs:
        gates = []
        for k in range(4):
            own = slice(k * width, (k + 1) * width)
            from_input = weights["weight_ih_l0"][own] @ x + weights["bias_ih_l0"][own]
            gates.append(from_input + weights["weight_hh_l0"][own] @ hidden + weights["bias_hh_l0"][own])
        cell = sigmoid(gates[1]) * cell + sigmoid(gates[0]) * np.tanh(gates[2])
        hidden = sigmoid(gates[3]) * np.tanh(cell)
        states.append(hidden)
    return np.array(states)


def _own_part(size: int, head: int, n_heads: int) -> slice:
    return slice(head * size // n_heads, (head + 1) * size // n_heads)


def nip(direct: Array, crossed: Array, item_emb: Array, item_ids: list[int], temperature: float) -> float:
    """Eq. 7 (and 8), mean over the pairs; another pair with j's target is not a negative of j."""

    def f(s: Array, z: Array) -> float:
        return math.exp(cosine(s, z) / temperature)

    total = 0.0
    for j in range(len(item_ids)):
        denominator = 0.0
        for other in range(len(item_ids)):
            if other != j and item_ids[other] == item_ids[j]:
                continue
            denominator += f(direct[j], item_emb[other]) + f(crossed[j], item_emb[other])
        total -= math.log((f(direct[j], item_emb[j]) + f(crossed[j], item_emb[j])) / denominator)
    return total / max(len(item_ids), 1)


def cmcl(direct: Array, crossed: Array, item_ids: list[int], temperature: float) -> float:
    """Eq. 9 (and 10), mean over the pairs; another pair with j's target is not a negative of j."""

    def f(a: Array, b: Array) -> float:
        return math.exp(cosine(a, b) / temperature)

    def ell(view: Array, other_view: Array, j: int) -> float:
        denominator = f(view[j], other_view[j])
        for other in range(len(item_ids)):
            if item_ids[other] != item_ids[j]:
                denominator += f(view[j], other_view[other])
                denominator += f(view[j], view[other])
        return math.log(f(view[j], other_view[j]) / denominator)

    n = len(item_ids)
    return -0.5 * sum(ell(direct, crossed, j) + ell(crossed, direct, j) for j in range(n)) / max(n, 1)


def info_nce(states: Array, positives: Array, item_ids: list[int], temperature: float) -> float:
    """UniSRec's contrastive losses, mean over the pairs; another pair with j's next item is not a negative of j."""
    total = 0.0
    for j, state in enumerate(states):
        negatives = [x for x in range(len(item_ids)) if item_ids[x] != item_ids[j]]
        similar = math.exp(cosine(state, positives[j]) / temperature)
        others = sum(math.exp(cosine(state, positives[x]) / temperature) for x in negatives)
        total -= math.log(similar / (similar + others))
    return total / len(item_ids)


def pretrain_losses(
    dataset: Any,
    state_dict: Mapping[str, torch.Tensor],
    pairs: list[tuple[list[int], int]],
    config: Mapping[str, Any],
) -> dict[str, float]:
    """Eq. 3-11 with ρ = 0 and p = 0: every prefix goes through the transformer by itself.

    A pair whose target lacks a modality leaves that modality's NIP, and CMCL; targets of equal content are not each
    other's negatives in NIP.
    """
    modalities = config["modalities"]
    table = encode_items(dataset, state_dict, modalities)
    transformer = to_numpy(state_dict, "m2se.transformer.")
    h = {
        name: np.array(
            [
                last_state(table[m][prefix], transformer, config["n_heads"], config["layer_norm_eps"])
                for prefix, _ in pairs
            ]
        )
        for m, name in enumerate(modalities)
    }
    targets = [target for _, target in pairs]
    losses = {}
    for m, name in enumerate(modalities):
        weight, bias = to_numpy(state_dict, f"objective.projections.{name}.").values()
        other = modalities[1 - m] if len(modalities) == 2 else name
        direct, crossed = h[name] @ weight.T + bias, h[other] @ weight.T + bias  # eq. 6
        contents = [content_of(dataset, name, target) for target in targets]
        own = [j for j, content in enumerate(contents) if content]
        same = [contents.index(contents[j]) for j in own]  # equal numbers for targets of equal content
        losses[f"nip_{name}"] = nip(direct[own], crossed[own], table[m][targets][own], same, config["temperature"])
        if len(modalities) == 2:
            both = [j for j, target in enumerate(targets) if all(content_of(dataset, k, target) for k in modalities)]
            ids = [targets[j] for j in both]
            loss = cmcl(direct[both], crossed[both], ids, config["temperature"])
            losses[f"cmcl_{name}"] = config["cmcl_weight"] * loss
    return losses


def content_of(dataset: Any, modality: str, item: int) -> list[list[float]]:
    """An item's feature rows; an empty list where it lacks the modality."""
    values, offsets = dataset.item_features[modality]
    return values[offsets[item] : offsets[item + 1]].tolist()


def finetune_scores(
    dataset: Any,
    state_dict: Mapping[str, torch.Tensor],
    prefixes: list[list[int]],
    config: Mapping[str, Any],
) -> Array:
    """The argument of eq. 12's softmax for every prefix and item, [P, n_items]; cosines over τ if so configured."""
    table = encode_items(dataset, state_dict, config["modalities"])
    if config["use_id"]:
        table = table + to_numpy(state_dict)["item_embedding.weight"]
    transformer = to_numpy(state_dict, "m2se.transformer.")
    scores = np.zeros((len(prefixes), table.shape[1]))
    for row, prefix in enumerate(prefixes):
        for stream in table:
            state = last_state(stream[prefix], transformer, config["n_heads"], config["layer_norm_eps"])
            for item, vector in enumerate(stream):
                if config["similarity"] == "cosine":
                    scores[row, item] += cosine(state, vector) / config["temperature"]
                else:
                    scores[row, item] += state @ vector
    return scores


def cross_entropy(scores: Array, targets: list[int]) -> float:
    """Eq. 13, mean over the pairs; item 0 is padding, not a candidate."""
    return float(
        np.mean([-math.log(softmax(row[1:])[target - 1]) for row, target in zip(scores, targets, strict=True)])
    )
