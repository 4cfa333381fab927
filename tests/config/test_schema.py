"""The schemas, the commented yaml files and RecBole's properties say the same."""

from __future__ import annotations

import re
from typing import Any

import pytest

from recbole_msm4sr.config import registry
from recbole_msm4sr.config.harness import Harness, Loaders
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.config.stock import recbole_models, recbole_properties, stock_schema
from recbole_msm4sr.config.types import Settings
from recbole_msm4sr.config.yaml_file import PROPERTIES, read_yaml


def schemas() -> dict[str, type[Settings]]:
    """Schema classes that have a yaml file, by its name."""
    found: dict[str, type[Any]] = {"overall": Harness}
    for model in registry.our_models():
        for parent in registry.find(model).settings.__mro__:
            if parent.__name__ in registry.PROPERTIES_FILES:
                found[f"model/{parent.__name__}"] = parent
    return found


def test_every_yaml_file_has_a_schema() -> None:
    files = {f"model/{path.stem}" for path in (PROPERTIES / "model").glob("*.yaml")}
    assert files | {"overall"} == set(schemas())


@pytest.mark.parametrize("model", registry.our_models())
def test_every_setting_of_ours_stands_in_a_yaml_file(model: str) -> None:
    spec = registry.find(model)
    written = {key for name in spec.properties for key in read_yaml(PROPERTIES / "model" / f"{name}.yaml")}
    assert set(spec.settings.model_fields) - set(Loaders.model_fields) <= written


@pytest.mark.parametrize("name", schemas())
def test_a_yaml_file_holds_defaults_of_its_schema_and_says_what_they_are(name: str) -> None:
    schema, text = schemas()[name], (PROPERTIES / f"{name}.yaml").read_text()
    values = read_yaml(PROPERTIES / f"{name}.yaml")
    for key, value in values.items():
        field = schema.model_fields[key]
        assert value == field.default or key == "eval_args", key
        assert field.description, key
        comment = re.search(rf"^{key}:.*#\s*\S", text, re.MULTILINE)
        assert comment or key in ("eval_args", "metrics", "topk", "train_neg_sample_args"), f"{key} has no comment"


@pytest.mark.parametrize("model", registry.our_models())
def test_the_defaults_of_a_schema_are_those_of_a_run(model: str) -> None:
    config = Config(model, "mine")
    derived = {"load_col", "eval_args", "window_stride", "precision", "pretrain_modalities"}
    derived |= set(config.spec.stage_keys) | ({"train_neg_sample_args"} if not config.spec.is_packed else set())
    for key, field in config.spec.settings.model_fields.items():
        if key in config.resolved and key not in derived:
            assert config.resolved[key] == field.default, key


def test_the_settings_of_data_sets_are_valid() -> None:
    for path in (PROPERTIES / "dataset").glob("*.yaml"):
        Config("MSM4SR", path.stem)
        assert set(read_yaml(path)) <= set(registry.find("MSM4SR").settings.model_fields)


def test_the_keys_of_recboles_models_are_those_of_its_properties_and_of_a_few_exceptions() -> None:
    """Compared once with a search of its source for ``config["..."]``: these are the keys that properties lack."""
    beside = {}
    for model in recbole_models():
        keys = set(stock_schema(model).model_fields) - set(stock_schema("").model_fields)
        lacking = keys - set(recbole_properties(f"model/{model}"))
        if lacking:
            beside[model] = lacking
    assert beside == {
        "DMF": {"RATING_FIELD"},
        "DiffRec": {"norm"},
        "FEARec": {"contrast", "sim", "tau", "use_filter"},
        "HRM": {"reg_weight"},
        "KSR": {"ENTITY_ID_FIELD", "RELATION_ID_FIELD"},
        "LightGCN": {"require_pow"},
        "SimpleX": {"require_pow"},
    }
