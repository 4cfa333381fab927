"""``msm4sr settings MODEL``: what can be set, in words."""

from __future__ import annotations

from recbole_msm4sr.config.harness import Harness
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.config.types import words


def settings_text(model: str) -> str:
    """All settings of a model with default, paper's value, meaning and range; the model's own first.

    Raises:
        UserError: there is no such model.
    """
    config = Config(model, "any")
    fields = config.spec.settings.model_fields
    lines = [f"Settings of {config.spec.name}: --key=value on the command line, key: value in files."]
    for title, keys in (
        ("Of the model", [key for key in fields if key not in Harness.model_fields]),
        ("Of all models", [key for key in fields if key in Harness.model_fields]),
    ):
        lines += ["", f"{title}:"]
        for key in keys:
            field, default = fields[key], config.internal_config_dict.get(key)
            extra = field.json_schema_extra
            paper = extra.get("paper") if isinstance(extra, dict) else None
            of_paper = "" if paper is None else f"   (paper: {str(paper).lower() if paper is True else paper})"
            lines += [f"  {key}: {_yaml(default)}{of_paper}", f"      {field.description}; {words(field)}"]
    return "\n".join(lines)


def _yaml(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return "~" if value is None else repr(value) if value in ("", "\t", " ") else str(value)
