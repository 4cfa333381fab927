"""The wheel works outside the checkout: properties, console script, demo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed; its dependencies come from the running environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools writes build/ and *.egg-info beside setup.py
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout: the files that belong to the source cannot be listed")
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", str(source), "--no-deps", "--no-build-isolation", "-w", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(folder / "site"), wheel], check=True)
    return folder / "site"


def run(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_every_properties_file_is_in_the_wheel(site: Path) -> None:
    installed = {p.relative_to(site / "recbole_msm4sr") for p in (site / "recbole_msm4sr").rglob("*.yaml")}
    assert installed == {p.relative_to(ROOT) for p in (ROOT / "properties").rglob("*.yaml")}
    assert installed


def test_the_gallerys_templates_are_in_the_wheel(site: Path) -> None:
    folder = Path("dataset_prep") / "gallery" / "template"
    assert {path.name for path in (site / folder).iterdir()} == {path.name for path in (ROOT / folder).iterdir()}


def test_the_installed_console_script_runs_the_demo_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    place = run(site, tmp_path, "-c", "import recbole_msm4sr.config.load as c; print(c.__file__, c.PROPERTIES)").stdout
    assert place.count(str(site)) == 2
    done = run(
        site,
        tmp_path,
        str(site / "bin" / "msm4sr"),
        "--model=MSM4SR",
        "--dataset=demo",
        "--pretrain_epochs=1",
        "--epochs=1",
    )
    assert "demo is generated data" in done.stdout
    assert "MSM4SR" in done.stdout
    assert (tmp_path / "dataset" / "demo" / "demo.inter").is_file()
    assert list((tmp_path / "runs" / "demo" / "MSM4SR").glob("*/checkpoint.pth"))
