"""Settings of our models: one class for each file of properties/model, composed as the models are.

A class declares type, range, meaning and the paper's value of a setting, and what must agree; the yaml file of its name
holds the defaults that are used, with the same values. "release" is the value of a baseline's published code.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from recbole_msm4sr.config import types as t
from recbole_msm4sr.config.harness import Harness, Loaders
from recbole_msm4sr.config.types import knob


class Packed(Harness):
    """Item features, sizes and packed training of our sequential models."""

    feature_size: t.Count | None = knob(None, "d, checked against the feature stores when given", paper=768)
    allow_missing_features: bool = knob(False, "treat items that a store does not list as items without that modality")
    precision: Literal["float32", "bf16"] | None = knob(None, "of matrix products; default: bf16 where it is native")
    hidden_size: t.Size = knob(64, "d_0, embedding dimension", paper=64)
    hidden_dropout_prob: t.Probability = knob(0.2, "dropout of hidden states")
    initializer_range: t.Positive = knob(0.02, "standard deviation of initial weights")
    train_mode: Literal["packed", "prefix"] = knob("packed", "a row is a user's window, or a pair, RecBole's way")
    window_stride: t.Count | None = knob(None, "items between the windows of a long history; default: half a window")
    shuffle_buffer: t.Count = knob(16, "batches in a shuffle buffer")
    train_batch_size: t.Count = knob(1024, "(sequence, next item) pairs of a step", paper="256, 512, 1024")
    learning_rate: t.Positive = knob(0.001, "of the optimiser", paper="0.0001, 0.0005, 0.001")
    weight_decay: t.NonNegative = knob(0.0001, "of the optimiser", paper="0.0001, 0.0005, 0.001")
    learner: t.Learner = knob("adam", "optimiser", paper="Adam")

    @model_validator(mode="after")
    def _window(self) -> Self:
        if (self.window_stride or 0) > self.MAX_ITEM_LIST_LENGTH:
            raise ValueError(
                f"window_stride ({self.window_stride}) must not exceed MAX_ITEM_LIST_LENGTH "
                f"({self.MAX_ITEM_LIST_LENGTH})"
            )
        return self


class Transformer(Packed):
    """The causal transformer of all our sequential models but MVRNN."""

    n_layers: t.Layers = knob(2, "transformer layers L", paper=2)
    n_heads: t.Few = knob(2, "attention heads", paper=2)
    inner_size: t.Width = knob(256, "feed-forward width")
    attn_dropout_prob: t.Probability = knob(0.2, "dropout of attention weights")
    layer_norm_eps: t.Positive = knob(1e-12, "epsilon of LayerNorm")

    @model_validator(mode="after")
    def _heads(self) -> Self:
        for key in ("hidden_size", "attribute_hidden_size"):
            size = getattr(self, key, 0)
            if size % self.n_heads:
                raise ValueError(f"{key} ({size}) must be a multiple of n_heads ({self.n_heads})")
        return self


class ItemSoftmax(Packed):
    """The loss that ranks items (eq. 13), and the IDs that learn from it."""

    loss_type: Literal["CE", "sampled"] = knob("CE", "cross entropy over all items, or over a sample of them", "CE")
    n_negatives: Annotated[int, Field(ge=1, le=10_000_000)] = knob(1024, "random items of a sampled step")
    negative_distribution: Literal["popularity", "uniform"] = knob("popularity", "how they are drawn")
    logq_correction: t.Share = knob(1.0, "share of log Q subtracted from the scores of a sampled step")
    id_learning_rate: t.Positive | None = knob(None, "of the item ID embeddings; default: learning_rate")
    id_weight_decay: t.NonNegative | None = knob(None, "of the item ID embeddings; default: weight_decay")
    record_losses: bool = knob(False, "keep every epoch's losses and held-out cross entropy in metrics.json")

    @model_validator(mode="after")
    def _sparse(self) -> Self:
        if self.loss_type == "sampled" and self.clip_grad_norm:
            raise ValueError("clip_grad_norm cannot be used with loss_type: sampled, whose ID gradients are sparse")
        if self.loss_type == "sampled" and self.id_weight_decay:
            raise ValueError("id_weight_decay cannot be used with loss_type: sampled, whose IDs have no weight decay")
        if self.loss_type == "CE" and getattr(self, "feature_storage", None) == "disk":
            raise ValueError(
                "feature_storage: disk needs loss_type: sampled; loss_type: CE reads the features of all items every "
                "step"
            )
        return self


class M2SE(Transformer):
    """The item encoders (eq. 3-5)."""

    modalities: t.SomeModalities = knob(["text", "image"], "feature stores to use; table IV uses one", "[text, image]")
    feature_storage: Literal["memory", "disk"] = knob("memory", "where features are kept")
    attention_size: t.Size = knob(64, "d_a, attention dimension", paper=64)
    n_experts: t.Few = knob(8, "O, experts of the mixture", paper="8 (figure 3: 1, 2, 4, 8, 16)")
    encoder_dropout_prob: t.Probability = knob(0.2, "dropout of the experts (eq. 4)")
    expert_norm_init: t.Positive = knob(0.4, "initial gain of the experts' LayerNorm")


class TwoStages(Packed):
    """Optimisation of a first stage, which pre-trains."""

    pretrain_epochs: t.Epochs = knob(300, "epochs of stage 1; 0: none", paper=300)
    pretrain_learning_rate: t.Positive = knob(0.001, "learning rate of stage 1", paper=0.001)
    pretrain_batch_size: t.Count = knob(1024, "pairs of a step of stage 1", paper=1024)
    pretrain_weight_decay: t.NonNegative = knob(0.0, "weight decay of stage 1")
    pretrain_eval_step: t.CountOrZero = knob(0, "validate stage 1 every so many epochs; 0: never", paper=0)
    pretrain_stopping_step: t.CountOrZero = knob(10, "patience of stage 1 where it validates")
    sequence_dropout: t.Probability = knob(0.2, "rho, probability that an input item is dropped", "0.2 (fig. 3: 0-0.5)")
    temperature: t.Positive = knob(0.07, "tau of the contrastive losses", paper=0.07)


class MSM4SRPretrain(TwoStages, M2SE):
    """Stage 1, pre-training (III-C)."""

    pretrain_min_item_count: t.CountOrZero = knob(0, "leave rarer items out of stage 1", paper="table V: 10")
    pretrain_modalities: t.SomeModalities | None = knob(None, "of stage 1; default: modalities", "[text, image]")
    mixup_max: Annotated[float, Field(ge=0, le=0.5)] = knob(0.5, "largest mixup ratio p of a sequence", paper=0.5)
    cmcl_weight: t.NonNegative = knob(0.01, "lambda, weight of CMCL", paper="0.01 (figure 3: 0.001 to 1)")
    use_nip: bool = knob(True, "next item prediction loss (table III: w/o NIP)", paper=True)
    use_cmcl: bool = knob(True, "cross-modality contrastive loss (table III: w/o CMCL)", paper=True)
    use_mixup: bool = knob(True, "complementary sequence mixup (table III: w/o Mixup)", paper=True)

    @model_validator(mode="after")
    def _stage_one(self) -> Self:
        of_stage_one = self.pretrain_modalities or self.modalities
        missing = sorted(set(self.modalities) - set(of_stage_one))
        if missing:
            raise ValueError(
                f"pretrain_modalities ({self.pretrain_modalities}) must include all modalities of fine-tuning: "
                f"{', '.join(missing)} is missing"
            )
        training = getattr(self, "training", "two_stage")
        trained = self.modalities if training == "e2e" else of_stage_one
        learns = self.use_nip or (self.use_cmcl and len(trained) > 1)
        if not learns and training != "finetune":
            raise ValueError(
                "without use_nip, pre-training needs use_cmcl and both modalities: nothing is left to learn"
            )
        return self


class FineTuning(TwoStages):
    """How a second stage starts."""

    training: str
    pretrained_path: t.Text | None = knob(None, "start from this checkpoint instead of running stage 1")
    freeze_transformer: bool = knob(False, "fine-tune all but the transformer", paper="table VI: true")

    @model_validator(mode="after")
    def _start(self) -> Self:
        pretrains = self.training == "two_stage" and self.pretrain_epochs
        if self.freeze_transformer and not (self.pretrained_path or pretrains):
            raise ValueError(
                "freeze_transformer would freeze a transformer that nothing has trained: set training to two_stage, "
                "or give a pretrained_path"
            )
        return self


class MSM4SR(FineTuning, MSM4SRPretrain, ItemSoftmax):
    """Stage 2, fine-tuning (III-D)."""

    training: Literal["two_stage", "finetune", "e2e"] = knob("two_stage", "stages to run (table III)", "two_stage")
    similarity: Literal["dot", "cosine"] = knob("dot", "eq. 12, or cosine divided by temperature", paper="dot")
    use_id: bool = knob(True, "item ID embeddings E (eq. 12)", paper="true (table V: false)")

    @model_validator(mode="after")
    def _scratch(self) -> Self:
        if self.pretrained_path and self.training != "two_stage":
            raise ValueError(
                f"training: {self.training} starts from scratch: leave out pretrained_path, or set training to "
                "two_stage"
            )
        return self


class SASRecM(M2SE, ItemSoftmax):
    """SASRec on the sum of text, image and ID embeddings (table II)."""


class UniSRecPretrain(TwoStages, Transformer):
    """Stage 1 of UniSRec: contrastive pre-training on text."""

    modalities: t.SomeModalities = knob(["text"], "feature stores, the mean of an item's rows", paper="[text]")
    n_experts: t.Few = knob(8, "whitening experts of the adaptor; release: 8")
    adaptor_dropout_prob: t.Probability = knob(0.2, "dropout of the text vectors; release: 0.2")
    seq_seq_weight: t.NonNegative = knob(0.001, "lambda, weight of the sequence-sequence loss; release: 0.001")


class UniSRec(FineTuning, UniSRecPretrain, ItemSoftmax):
    """UniSRec (Hou et al., KDD 2022)."""

    train_stage: Literal["transductive_ft", "inductive_ft"] = knob("transductive_ft", "text and IDs, or text alone")
    training: Annotated[Literal["two_stage", "finetune"], "one of two_stage, finetune (only MSM4SR has e2e)"] = knob(
        "finetune", "from scratch, or pre-trained first"
    )


class DIFSR(Transformer, ItemSoftmax):
    """DIF-SR (Xie et al., SIGIR 2022)."""

    selected_features: t.Names = knob(["class"], "columns of the .item file; release: [categories]")
    modalities: t.Modalities = knob([], "feature stores, the mean of an item's rows projected")
    attribute_hidden_size: t.Size = knob(64, "embedding dimension of a piece of side information; release: 64 or 256")
    fusion_type: Literal["sum", "concat", "gate"] = knob("gate", "how attention scores are fused; release: gate")
    attribute_weight: t.NonNegative = knob(10.0, "lambda, weight of predicting attributes; release: 5 or 10")

    @model_validator(mode="after")
    def _side_information(self) -> Self:
        if not self.modalities and not self.selected_features:
            raise ValueError(
                "modalities must be a list of text and image, such as [text] or [text, image], unless "
                "selected_features names columns; it is []"
            )
        return self


class MVRNN(ItemSoftmax):
    """MV-RNN (Cui et al., TKDE 2020)."""

    modalities: t.SomeModalities = knob(["text", "image"], "feature stores, the mean of an item's rows")
    view_combination: Literal["concatenation", "addition", "reconstruction"] = knob(
        "reconstruction", "the views beside the ID; release: reconstruction"
    )
    hidden_structure: Literal["united", "separate"] = knob("united", "recurrent units: one, or one a view")
    corruption_prob: t.Probability = knob(0.1, "probability that a step blanks an item's modality; release: 0.1")
    reconstruction_weight: t.NonNegative = knob(0.001, "weight of the error of the next item's features; release: .001")


class General(Loaders):
    """Item features, sizes and training of our general models."""

    repeatable: bool = knob(False, "rank items again that a user has had; sampled evaluation of general models")
    modalities: t.SomeModalities = knob(["text", "image"], "feature stores, the mean of an item's rows")
    feature_size: t.Count | None = knob(None, "numbers of a vector, checked against the stores when given", paper=768)
    allow_missing_features: bool = knob(False, "treat items that a store does not list as items without that modality")
    embedding_size: t.Size = knob(64, "d, of ID embeddings and of each modality", paper=64)
    train_batch_size: t.Count = knob(1024, "training interactions of a step", paper="256, 512, 1024")
    weight_decay: t.NonNegative = knob(0.0, "Adam's, on all weights; releases: none")
    learner: t.Learner = knob("adam", "optimiser", paper="Adam")


class GRCN(General):
    """GRCN (Wei et al., MM 2020)."""

    learning_rate: t.Positive = knob(0.0001, "of the optimiser; release: 0.0001")
    reg_weight: t.NonNegative = knob(0.0001, "weight of the mean squares of embeddings; release: 0.1 to 0.0001")
    n_layers: t.Layers = knob(2, "graph convolutions of the ID embeddings; release: 2")
    n_routings: Annotated[int, Field(ge=0, le=128)] = knob(3, "rounds of routing; release: 3")
    pruning: Literal["hard", "soft"] = knob("soft", "cut edges of negative weight, or keep all; release: soft")


class DualGNN(General):
    """DualGNN (Wang et al., TMM 2021)."""

    learning_rate: t.Positive = knob(0.0001, "of the optimiser; release: 0.0001")
    reg_weight: t.NonNegative = knob(0.1, "weight of the mean squares of preferences; release: 0.1")
    n_layers: t.Layers = knob(2, "graph convolutions over users and items; release: 2")
    n_neighbors: t.Few = knob(40, "users of the most common items that a user takes from; release: 40")


class CLCRec(General):
    """CLCRec (Wei et al., MM 2021)."""

    learning_rate: t.Positive = knob(0.001, "of the optimiser; release: 0.001")
    train_neg_sample_args: None = knob(None, "the model draws its own negatives")
    n_negatives: t.Cutoff = knob(128, "random negatives of a pair; release: 512")
    inner_size: t.Width = knob(256, "hidden width of the content encoder; release: 256")
    temperature: t.Positive = knob(1.0, "of both contrasts; release: 1.0")
    content_weight: t.Share = knob(0.9, "lambda, weight of the contrast of ID and content; release: 0.9")
    replacement_prob: t.Share = knob(0.5, "probability that content replaces an ID; release: 0.5")
    reg_weight: t.NonNegative = knob(0.001, "weight of the mean norms of embeddings; release: 0.001")
    min_item_count: t.Count = knob(1, "items with fewer interactions are recommended by content; release: 1")
