"""Values of settings, and files of them: they work, or one line names the key or the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from damage import Damage, bytes_damage, damaged, inputs
from hypothesis import assume, given
from hypothesis import strategies as st
from outcome import outcome_of

from recbole_msm4sr.cli import main
from recbole_msm4sr.config.load import Config

_SMALL = ["--topk=[5]", "--valid_metric=Recall@5", "--use_gpu=false", "--reuse=false"]
#: Keys whose large values are allowed and take as long as they say.
_LONG = {"epochs", "pretrain_epochs"}
_TEXTS = [
    *("", " ", "abc", "None", "null", "true", "~", "0", "-1", "1", "3", "0.5", "1e-3", "1e39", ".nan", ".inf", "-.inf"),
    *("100000", "1e9", "999999999999999999999", "9" * 5000, "[]", "[x]", "[1, 2]", "[1, [2]]", "{}", "{a: 1}"),
    *("{split: {RS: [8]}}", "{mode: labeled}", "{mode: uni10}", "{split: {LS: x}}", "[5", "(1,2)", "[1,inf)", "'"),
    *(
        "2020-13-45",
        "2020-01-01",
        "!!python/object:os.system x",
        "*a",
        "&a [*a]",
        "[" * 3000,
        "\x00",
        "\x1b[31m",
        "\x85",
    ),
    *(
        "ü",
        "..",
        "/dev/null",
        "a\nb",
        "%s",
        "${HOME}",
        "1_0",
        "0x10",
        "1:30",
        "yes",
        "text",
        "[text]",
        "float16",
        "cuda:9",
    ),
]


@pytest.fixture(autouse=True, scope="module")
def some_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    lines = [f"u{user}\ti{(user * 3 + time) % 20}\t{time}\n" for user in range(12) for time in range(6)]
    (folder / "some").mkdir()
    (folder / "some" / "some.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines))
    return folder


def _keys(model: str) -> list[str]:
    config = Config(model, "some", config_dict={"use_gpu": False})
    return sorted(set(config.resolved) - _LONG - {"data_path", "use_gpu"})


@inputs(16)
@given(st.data(), st.sampled_from(["SASRec", "BPR", "GRU4Rec", "MVRNN"]), st.sampled_from(_TEXTS) | st.text(max_size=8))
def test_a_value_on_the_command_line(some_data: Path, data: st.DataObject, model: str, value: str) -> None:
    key = data.draw(st.sampled_from(_keys(model)))
    argv = [f"--model={model}", "--dataset=some", f"--data_path={some_data}", *_SMALL]
    argv = [word for word in argv if not word.startswith(f"--{key}=")]
    if model == "MVRNN":
        argv += ["--allow_missing_features=true"]
    outcome_of(
        main, [*argv, "--epochs=0", f"--{key}={value}"], [key, "setting", "argument", "some.", "features", "/dev/null"]
    )


_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=6,
)


@inputs(8)
@given(st.data())
def test_a_value_in_a_dictionary(some_data: Path, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(_keys("SASRec")))
    value = data.draw(_value)
    assume(not (isinstance(value, int) and value > 10**5))
    text = yaml.safe_dump({key: value}, allow_unicode=True)
    Path("more.yaml").write_text(text, encoding="utf-8")
    argv = ["--model=SASRec", "--dataset=some", f"--data_path={some_data}", "--config_files=more.yaml", "--epochs=0"]
    argv += [word for word in _SMALL if not word.startswith(f"--{key}=")]
    outcome_of(main, argv, [key, "more.yaml", "some."])


_FILE = b"learning_rate: 0.001\ntopk: [5]\nvalid_metric: Recall@5\neval_args:\n  order: TO\nseed: 1\n"
_KEYS = ["learning_rate", "topk", "valid_metric", "eval_args", "order", "seed"]
_BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 107)
)


@inputs(6)
@given(st.lists(bytes_damage, min_size=1, max_size=3), st.sampled_from([_FILE, _FILE + _BOMB, b"seed: " + b"9" * 5000]))
def test_a_file_of_settings(some_data: Path, damages: list[Damage], content: bytes) -> None:
    Path("more.yaml").write_bytes(damaged(content, damages))
    argv = [
        "--model=SASRec",
        "--dataset=some",
        f"--data_path={some_data}",
        "--use_gpu=false",
        "--config_files=more.yaml",
    ]
    outcome_of(main, [*argv, "--epochs=0"], ["more.yaml", "setting", *_KEYS])


@inputs(2)
@given(st.lists(bytes_damage, min_size=1, max_size=3))
def test_a_grid(some_data: Path, damages: list[Damage]) -> None:
    grid = b"learning_rate: [0.001, 0.01]\nweight_decay: [0.0]\nembedding_size: [8, 16]\n"
    Path("grid.yaml").write_bytes(damaged(grid, damages))
    argv = ["compare", "--models=BPR", "--dataset=some", f"--data_path={some_data}", "--grid=grid.yaml", "--trials=1"]
    argv += ["--seeds=1", "--epochs=1", "--use_gpu=false", "--topk=[5]", "--valid_metric=Recall@5"]
    outcome_of(main, argv, ["grid.yaml", "setting", "learning_rate", "weight_decay", "embedding_size"])
