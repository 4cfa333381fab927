"""``msm4sr features``: import item features, show what a store holds, check it against a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from recbole_msm4sr.core.command import Parser
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_files import MANIFEST
from recbole_msm4sr.data.feature_import import import_mp4sr, import_npz, import_unisrec
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.data.reader import read_header, read_table

_FORMAT_OF_SUFFIX = {".npz": "npz", ".pkl": "mp4sr", ".pickle": "mp4sr"}


def main(argv: list[str]) -> int:
    """Run ``msm4sr features <argv>``; the exit code is 0, and argparse itself exits for ``--help`` and bad options.

    Raises:
        UserError: input that cannot be used, a damaged store, or items of the data set that a store lacks.
    """
    args = _parser().parse_args(argv)
    if args.command == "import":
        _import(args)
    elif args.command == "info":
        for store in _open_stores(args.path):
            print(_description(store))
    else:
        _check(args.path, args.inter)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="msm4sr features", description="Item features: import, show, check.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{import,info,check}")

    command = commands.add_parser("import", help="turn a feature file into a feature store")
    command.add_argument("source", type=Path, metavar="SOURCE", help=".npz, MP4SR pickle or UniSRec .feat1CLS file")
    command.add_argument("--out", type=Path, required=True, help="the store to make: dataset/NAME/features/text")
    command.add_argument("--format", choices=("npz", "mp4sr", "unisrec"), help="default: from the file's suffix")
    command.add_argument("--items", type=Path, metavar="ITEM2INDEX", help="unisrec: default is the one beside SOURCE")
    command.add_argument("--dim", type=int, help="unisrec: length of a vector, default is from the file's size")
    command.add_argument("--encoder", default="unknown", metavar="NAME", help="what made the vectors, for the manifest")
    command.add_argument("--revision", help="the encoder's version, for the manifest")
    command.add_argument("--overwrite", action="store_true", help="replace a store that is there already")

    where = "a modality's folder, a features/ folder, or a data set's folder"
    command = commands.add_parser("info", help="show what stores hold")
    command.add_argument("path", type=Path, metavar="PATH", help=where)

    command = commands.add_parser("check", help="check contents, and that a data set's items are covered")
    command.add_argument("path", type=Path, metavar="PATH", help=where)
    command.add_argument("--inter", type=Path, metavar="FILE.inter", help="default: the only one in the data set")
    return parser


def _import(args: argparse.Namespace) -> None:
    kind = args.format or _format_of(args.source)
    named = {"encoder": args.encoder, "revision": args.revision, "overwrite": args.overwrite}
    if kind == "unisrec":
        store = import_unisrec(args.source, args.out, items=args.items, dim=args.dim, **named)
    elif args.items is not None or args.dim is not None:
        raise UserError(f"--items and --dim are for the format unisrec, not {kind}: leave them out")
    else:
        store = (import_npz if kind == "npz" else import_mp4sr)(args.source, args.out, **named)
    print(_description(store))


def _format_of(source: Path) -> str:
    if source.suffix.startswith(".feat"):  # UniSRec: .feat1CLS, .feat2CLS, .feat1Mean
        return "unisrec"
    if source.suffix not in _FORMAT_OF_SUFFIX:
        raise UserError(f"the format of {source} does not follow from its name: say --format npz, mp4sr or unisrec")
    return _FORMAT_OF_SUFFIX[source.suffix]


def _open_stores(path: Path) -> list[FeatureStore]:
    """The store at ``path``, or all those in ``path/features`` or ``path``, by name."""
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: name a feature store, a features/ folder or a data set's folder")
    if (path / MANIFEST).exists():
        return [FeatureStore.open(path)]
    parent = path / "features" if (path / "features").is_dir() else path
    folders = sorted(folder for folder in parent.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not any((folder / MANIFEST).exists() for folder in folders):
        raise UserError(f"{path} does not hold a feature store: make one with 'msm4sr features import'")
    return [FeatureStore.open(folder) for folder in folders]


def _description(store: FeatureStore) -> str:
    """A few aligned lines on one store."""
    rows = np.diff(store.offsets)
    revision = store.manifest.get("revision")
    options = ", ".join(f"{key}={value}" for key, value in (store.manifest.get("options") or {}).items())
    return "\n".join(
        [
            f"{store.path.name}  ({store.path})",
            f"  encoder      {store.manifest.get('encoder')}{f', revision {revision}' if revision else ''}",
            f"  options      {options or '-'}",
            f"  items        {store.n_items}, {int((rows == 0).sum())} of them with 0 rows",
            f"  rows         {store.n_rows}, per item {rows.min()} to {rows.max()}, mean {rows.mean():.2f}",
            f"  values       float16 [{store.n_rows}, {store.dim}], {store.values.nbytes / 2**20:.1f} MiB",
            f"  fingerprint  {store.fingerprint}",
        ]
    )


def _check(path: Path, inter: Path | None) -> None:
    stores = _open_stores(path)
    for store in stores:
        store.verify()
        print(f"{store.path.name}: checksums match, {store.n_rows} rows of {store.dim} finite values")
    if inter is None:
        inter = _only_inter_of(path)
    if inter is None:
        return
    items = _items_of(inter)
    for store in stores:
        offsets, _ = store.select(items, allow_missing=True)
        absent = sum(item not in store for item in items)
        filled = int((np.diff(offsets) > 0).sum())
        empty = len(items) - filled - absent
        print(
            f"{store.path.name}: of {len(items)} items in {inter.name}, {filled} have rows, "
            f"{empty} are present with 0 rows, {absent} are absent"
        )
    for store in stores:  # after the report on all of them: raises where items are absent
        store.select(items)


def _only_inter_of(path: Path) -> Path | None:
    """The ``.inter`` file of a data set's folder; ``None`` for another folder, or where none stands out."""
    files = sorted(path.glob("*.inter")) if (path / "features").is_dir() else []
    if len(files) > 1:
        print(f"coverage not checked: {path} has {len(files)} .inter files, name one with --inter")
    return files[0] if len(files) == 1 else None


def _items_of(inter: Path) -> list[str]:
    """Distinct item tokens of a RecBole ``.inter`` file, in order of first occurrence.

    Raises:
        UserError: the file cannot be read (``reader``), or has no column ``item_id:token``.
    """
    if not inter.is_file():
        raise UserError(f"{inter} does not exist: name the data set's .inter file")
    read_header(inter, {"item_id": "token"})
    return list(read_table(inter, ["item_id"], names=["item_id"]).columns["item_id"].unique())
