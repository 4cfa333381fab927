"""Which items the gallery shows: a sample that says how it was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset_prep.info.inventory import MODALITIES, Inventory
from recbole_msm4sr.core.errors import UserError


@dataclass(frozen=True)
class Drawn:
    """One item of the sample. ``added``: drawn from those with something missing, on top of the sample of all."""

    place: int
    added: bool


def draw(inventory: Inventory, max_items: int, missing_share: float, order: str, seed: int) -> list[Drawn]:
    """Draw at most ``max_items`` items, without repeats.

    Up to ``round(missing_share * max_items)`` are drawn at random from the items that lack text or picture, so that
    there are some to look at however rare they are. The rest is drawn from all items: at random (``order`` is
    ``random``), or from the most popular downwards (``popular``). Any beginning of a random list is a random sample.

    Raises:
        UserError: there are no interactions to tell what is popular.
    """
    rng = np.random.default_rng(seed)
    ranking = rng.permutation(len(inventory.items))
    if order == "popular":
        if inventory.interactions is None:
            raise UserError("the most popular items are not known without interactions: choose the order random")
        ranking = ranking[np.argsort(-inventory.interactions[ranking], kind="stable")]  # ties stay in random order
    room = min(max_items, len(ranking))
    lacking = np.logical_or.reduce([inventory.lacks(modality) for modality in MODALITIES])
    reserved = round(missing_share * room)
    later = ranking[room - reserved :]
    added = rng.permutation(later[lacking[later]])[:reserved]
    others = ranking[~np.isin(ranking, added)][: room - len(added)]
    drawn = [Drawn(int(place), False) for place in others] + [Drawn(int(place), True) for place in added]
    return [drawn[i] for i in rng.permutation(len(drawn))] if order == "random" else drawn
