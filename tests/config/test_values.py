"""Every setting of every model: any value either works, or is refused in one line that names the setting."""

from __future__ import annotations

import datetime
import pkgutil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.model import general_recommender, sequential_recommender

from recbole_msm4sr.config import registry
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.config.stock import recbole_models, stock_schema
from recbole_msm4sr.core.errors import UserError

MODELS = [*registry.our_models(), "SASRec", "S3Rec", "BERT4Rec", "FEARec", "GRU4RecCPR", "LightGCN", "NGCF", "RaCT"]

_SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**5, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf")]),
    st.just(5000).map(lambda digits: 10**digits),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "None", "\x1b[31m", "a\x00b", "\udc80", "x" * 5000, "[5", "abc", "text", "uni0", "../.."]),
    st.dates(),
    st.binary(max_size=5),
    st.sampled_from([datetime.datetime(2020, 1, 1), object(), {1, 2}]),
)
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("model", MODELS)
@settings(deadline=None, derandomize=True, max_examples=100, database=None)
@given(data=st.data())
def test_any_value_works_or_is_refused_by_name(model: str, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(registry.find(model).settings.model_fields)))
    value = data.draw(VALUES)
    try:
        Config(model, "mine", None, {key: value})
    except UserError as error:
        message = str(error)
        assert key in message
        assert message.isprintable()
        assert len(message) < 1000


RANKERS = {module.name.lower() for kind in (general_recommender, sequential_recommender)
           for module in pkgutil.iter_modules(kind.__path__)}  # fmt: skip


@pytest.mark.parametrize("model", sorted(name for name in recbole_models() if name.lower() in RANKERS))
def test_every_setting_of_every_model_of_recbole_is_typed(model: str) -> None:
    """Its default passes, alone and with the others; a value of no type at all is refused."""
    schema = stock_schema(model)
    for key, field in schema.model_fields.items():
        assert field.description, key
    for key in set(schema.model_fields) - set(stock_schema("").model_fields):
        with pytest.raises(UserError, match=key):
            Config(model, "mine", None, {key: object()})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"runs_dir": 2024}, "runs_dir must be text on one line; it is 2024"),
        ({"checkpoint_dir": 1}, "checkpoint_dir must be text"),
        ({"worker": "abc"}, "worker must be a whole number, at least 0, at most 64; it is 'abc'"),
        ({"load_col": ["x"]}, "load_col must be a mapping of names"),
        ({"n_layers": 100_000}, "n_layers must be a whole number, at least 1, at most 128; it is 100000"),
        ({"hidden_size": 10**9}, "hidden_size must be a whole number, at least 1, at most 8192"),
        ({"user_inter_num_interval": 5}, 'must be an interval, such as "[5,inf)"'),
        ({"user_inter_num_interval": "[5"}, 'must be an interval, such as "[5,inf)"'),
        ({"item_inter_num_interval": "abc"}, 'must be an interval, such as "[5,inf)"'),
        ({"item_inter_num_interval": "[9,5]"}, 'must be an interval, such as "[5,inf)"'),
        ({"val_interval": {"timestamp": "5"}}, 'must be a mapping of names, each to an interval, such as "[5,inf)"'),
        ({"eval_args": {"split": {"RS": [8]}}}, "eval_args.split must be {LS: valid_and_test}, or {RS: [a, b, c]}"),
        ({"eval_args": {"split": {"RS": [8, 1]}}}, "eval_args.split must be"),
        ({"eval_args": {"split": {"RS": [8, 1, 0]}}}, "eval_args.split must be"),
        ({"eval_args": {"split": {"LS": "valid_only"}}}, "eval_args.split must be"),
        ({"eval_args": {"split": {"LS": [8, 1, 1]}}}, "eval_args.split must be"),
        ({"eval_args": {"split": {"RS": "valid_and_test"}}}, "eval_args.split must be"),
        ({"eval_args": {"split": {"LS": "valid_and_test", "RS": [8, 1, 1]}}}, "eval_args.split must be"),
        ({"eval_args": {"mode": "labeled"}}, "eval_args.mode must be full, uniN or popN"),
        ({"eval_args": {"mode": {"valid": "uni"}}}, "eval_args.mode must be full, uniN or popN"),
        ({"eval_args": {"order": "RO"}}, "eval_args.order must be TO for a sequential model"),
        ({"eval_args": {"group_by": "item"}}, "eval_args.group_by must be one of user, none, or nothing"),
        ({"threshold": {"rating": 3}}, "threshold has no effect: it makes labels"),
        ({"valid_metric_bigger": False}, "valid_metric_bigger has no effect: it follows from valid_metric"),
        ({"save_dataset": True}, "save_dataset has no effect: it stores pickled objects"),
        (
            {"enable_amp": True},
            "enable_amp has no effect: it is a setting of RecBole's models; our sequential ones have",
        ),
        ({"loss_type": "sampled", "id_weight_decay": 0.1}, "id_weight_decay cannot be used with loss_type: sampled"),
        ({"wandb_project": "mine"}, "wandb_project has no effect without log_wandb"),
        ({"loss_type": "sampled", "clip_grad_norm": {"max_norm": 1}}, "clip_grad_norm cannot be used with"),
        ({"ITEM_LIST_LENGTH_FIELD": "item_id_list"}, "ITEM_LIST_LENGTH_FIELD and the lists with LIST_SUFFIX must have"),
        ({"weight_decay": 1e39}, "weight_decay must be a number, 0 or more, at most 1e38; it is 1e+39"),
        ({"discretization": {"a": {"method": "ED"}}, "numerical_features": ["a"]}, "discretization must be"),
        ({"load_col": {}}, "load_col must list the columns of inter"),
        ({"unused_col": {"x": ["y"]}}, "unused_col may drop columns of inter, item, user"),
        ({"unused_col": {"inter": ["user_id"]}}, "unused_col may drop columns"),
        ({"encoding": "hex"}, "encoding must be an encoding of text that Python knows"),
        ({"eval_args": {"mode": "uni999999"}}, "eval_args.mode must be full, uniN or popN"),
        ({"load_col": {"inter": ["a"]}, "unload_col": {"inter": ["b"]}}, "load_col and unload_col both name inter"),
    ],
)
def test_what_outside_cases_found_is_refused_in_one_line(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        Config("MSM4SR", "mine", None, setting)
    assert words in str(caught.value)


def test_what_general_models_do_not_use_is_refused_and_what_one_reads_is_not() -> None:
    for model, setting in (
        ("BPR", {"require_pow": True}),
        ("BPR", {"RATING_FIELD": "stars"}),
        ("BPR", {"repeatable": True}),
        ("SASRec", {"repeatable": False}),
        ("SASRec", {"train_neg_sample_args": {"sample_num": 2}}),
        ("SASRec", {"hidden_size": 63}),
        ("SASRec", {"initializer_range": -1}),
        ("BERT4Rec", {"MAX_ITEM_LIST_LENGTH": 4}),
        ("NAIS", {"weight_size": 0.5}),
    ):
        with pytest.raises(UserError, match=next(iter(setting))):
            Config(model, "mine", None, setting)
    assert isinstance(Config("MSM4SR", "mine", None, {"expert_norm_init": 1})["expert_norm_init"], float)
    assert Config("LightGCN", "mine", None, {"require_pow": True})["require_pow"] is True
    assert Config("DMF", "mine", None, {"RATING_FIELD": "stars"})["RATING_FIELD"] == "stars"
    assert Config("FEARec", "mine", None, {"tau": 0.5})["tau"] == 0.5  # read, and without a default
    assert Config("NGCF", "mine", None, {"hidden_size_list": [64, 32]})["hidden_size_list"] == [64, 32]
    assert Config("GRCN", "mine", None, {"reg_weight": 0.5, "shuffle": False})["reg_weight"] == 0.5
    sampled = {"repeatable": True, "eval_args": {"mode": "uni100"}}
    assert Config("BPR", "mine", None, sampled)["eval_args"]["mode"] == {"valid": "uni100", "test": "uni100"}


@pytest.mark.parametrize("dataset", ["", ".", "..", "a/b", "a\nb", 5])
def test_a_data_set_is_the_name_of_one_folder(dataset: Any) -> None:
    with pytest.raises(UserError, match="dataset must be the name of a folder"):
        Config("SASRec", dataset)
