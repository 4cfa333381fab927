"""The paper's tables and figures as plans: which rows, on top of which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole_msm4sr.evaluation.groups import COLD
from recbole_msm4sr.studies.cells import Variant


@dataclass(frozen=True)
class Study:
    """One of the paper's experiments.

    Attributes:
        title: what the report is headed with.
        variants: its rows.
        subject: label of the row that the others are compared with.
        tune_once: whether all rows use the subject's settings: they differ in one thing only.
        n_seeds: runs of every row, unless more or fewer are asked for.
        paper: name of the paper's table in ``properties/study/paper.yaml``, to be shown beside ours.
        sweeps: settings that the rows vary one at a time, with the symbols to draw them by.
    """

    title: str
    variants: Callable[[], tuple[Variant, ...]]
    subject: str = "MSM4SR"
    tune_once: bool = True
    n_seeds: int = 3
    paper: str | None = None
    sweeps: Mapping[str, str] = field(default_factory=dict)


def _overall() -> tuple[Variant, ...]:
    """Table II, as far as the baselines need nothing but what every prepared data set has."""
    general, sequential = ("LightGCN", "GRCN", "DualGNN"), ("MVRNN", "SASRec", "SINE", "SASRecM", "UniSRec", "MSM4SR")
    return tuple(Variant(name, name) for name in (*general, *sequential))


def _ablation() -> tuple[Variant, ...]:
    """Table III, but for the row of ResNet features, which needs a feature store of its own."""
    return (
        Variant("w/o NIP", "MSM4SR", {"use_nip": False}),
        Variant("w/o CMCL", "MSM4SR", {"use_cmcl": False}),
        Variant("w/o mixup", "MSM4SR", {"use_mixup": False}),
        Variant("w/o pre-training", "MSM4SR", {"training": "finetune"}),
        Variant("end-to-end", "MSM4SR", {"training": "e2e"}),
        Variant("MSM4SR", "MSM4SR"),
    )


def _modality() -> tuple[Variant, ...]:
    """Table IV: fine-tuned on pictures, on text, on both; pre-trained on both."""
    both = ["text", "image"]
    return (
        Variant("V", "MSM4SR", {"modalities": ["image"], "pretrain_modalities": both}),
        Variant("T", "MSM4SR", {"modalities": ["text"], "pretrain_modalities": both}),
        Variant("MSM4SR", "MSM4SR"),
    )


def _sensitivity() -> tuple[Variant, ...]:
    """Figure 3 around the paper's values, but for N, which is a matter of preparing the data (``--top-n``)."""
    rows = [Variant("MSM4SR", "MSM4SR")]
    for key, name, values in (
        ("cmcl_weight", "lambda", (0.001, 0.1, 1.0)),
        ("n_experts", "O", (1, 2, 4, 16)),
        ("sequence_dropout", "rho", (0.0, 0.1, 0.3, 0.4, 0.5)),
    ):
        rows += [Variant(f"{name} = {value}", "MSM4SR", {key: value}) for value in values]
    return tuple(rows)


def _convergence() -> tuple[Variant, ...]:
    """MP4SR's figure 3: the losses of fine-tuning with and without pre-training."""
    return (
        Variant("w/o pre-training", "MSM4SR", {"record_losses": True, "training": "finetune"}),
        Variant("MSM4SR", "MSM4SR", {"record_losses": True}),
    )


def _cold_start() -> tuple[Variant, ...]:
    """Table V: no item IDs; pre-trained on warm items, fine-tuned on all, chosen and tested by cold targets.

    MASR is not here.
    """
    rows: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("CLCRec", "CLCRec", {"min_item_count": COLD}),
        ("w/o pre-training", "MSM4SR", {"use_id": False, "training": "finetune"}),
        ("UniSRec", "UniSRec", {"train_stage": "inductive_ft"}),
        ("MSM4SR", "MSM4SR", {"use_id": False, "pretrain_min_item_count": COLD}),
    )
    return tuple(Variant(label, model, {**settings, "eval_target_below": COLD}) for label, model, settings in rows)


def cross_domain(checkpoints: Mapping[str, str]) -> tuple[Variant, ...]:
    """Table VI: fine-tuned from another data set's first stage with the transformer frozen. RecGURU is not here.

    Args:
        checkpoints: of the first stages, by the name of the model that starts from them.
    """
    frozen = {"freeze_transformer": True, "training": "two_stage"}
    return (
        Variant("UniSRec", "UniSRec", {**frozen, "pretrained_path": checkpoints.get("UniSRec")}),
        Variant("w/o pre-training", "MSM4SR", {"training": "finetune"}),
        Variant("MSM4SR", "MSM4SR", {**frozen, "pretrained_path": checkpoints.get("MSM4SR")}),
    )


STUDIES = {
    "overall": Study("Overall performance (table II)", _overall, tune_once=False, paper="II"),
    "ablation": Study("Ablation (table III)", _ablation, paper="III"),
    "modality": Study("Modalities (table IV)", _modality, paper="IV"),
    "sensitivity": Study(
        "Sensitivity (figure 3)", _sensitivity, sweeps={"cmcl_weight": "λ", "n_experts": "O", "sequence_dropout": "ρ"}
    ),
    "cold-start": Study("Cold-start items (table V)", _cold_start, tune_once=False, paper="V"),
    "convergence": Study("Convergence (MP4SR, figure 3)", _convergence, n_seeds=5),
    "user-groups": Study(
        "User groups (figure 4)",
        lambda: tuple(Variant(name, name) for name in ("SASRec", "SASRecM", "MSM4SR")),
        tune_once=False,
    ),
}
