"""A training part of five users over the tiny catalogue, for general models, and triples to learn from."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from tiny_catalogue import ITEM, N_ITEMS, make_dataset

USER = "user_id"
N_USERS = 6  # ids 1..5; 0 is padding
ITEMS_OF = {1: [1, 2, 3, 4], 2: [2, 4, 5], 3: [8, 6, 7, 1], 4: [5], 5: [2, 4, 1, 3]}  # item 9 has no user
PAIRS = [(user, item) for user, items in ITEMS_OF.items() for item in items]
TRIPLES = [(1, 2, 5), (3, 8, 9), (2, 4, 1), (1, 3, 9), (4, 5, 8), (5, 1, 6)]  # user, item, negative


def make_training_part(pairs: list[tuple[int, int]] = PAIRS) -> Any:
    """What general models ask of a training part: sizes, features and interactions."""
    part = make_dataset()
    users, items = torch.tensor(pairs).unbind(dim=1)
    part.uid_field, part.iid_field = USER, ITEM
    part.num = {USER: N_USERS, ITEM: N_ITEMS}.get
    part.inter_feat = {USER: users, ITEM: items}
    return part


def triples() -> Interaction:
    """``TRIPLES`` as RecBole's loader gives them."""
    users, items, negatives = torch.tensor(TRIPLES).unbind(dim=1)
    return Interaction({USER: users, ITEM: items, f"neg_{ITEM}": negatives})


def of_users(users: list[int]) -> Interaction:
    """Users as RecBole's full-ranking evaluation asks for them."""
    return Interaction({USER: torch.tensor(users)})
