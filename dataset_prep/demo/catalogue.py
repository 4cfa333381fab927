"""The items of the demo data set: latent attributes, and the sentences that name some of them.

Half of what an item is stands only in its text (kind, material, theme), half only in its picture (colour, shape,
pattern), so that neither modality can replace the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = (
    *("lamp", "candle", "mug", "teapot", "cushion", "blanket", "notebook", "pencil"),
    *("backpack", "bottle", "clock", "mirror", "puzzle", "kite", "apron", "basket"),
)
MATERIALS = ("cotton", "bamboo", "ceramic", "leather", "steel", "glass", "wool", "paper")
THEMES: dict[str, tuple[str, ...]] = {
    "ocean": ("ocean", "sea", "marine"),
    "forest": ("forest", "woodland", "grove"),
    "space": ("space", "cosmic", "galaxy"),
    "desert": ("desert", "dune", "canyon"),
    "city": ("city", "urban", "street"),
    "garden": ("garden", "botanical", "floral"),
    "winter": ("winter", "arctic", "snow"),
    "circus": ("circus", "carnival", "fairground"),
}
BRANDS = ("Alder", "Bexley", "Corvane", "Dunmore", "Elstree", "Farrow", "Gladwin", "Hartley")

# What a picture shows: the attribute's value, and the words of the dictionary D that are true of it.
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"),
    "orange": ("orange", "amber"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue", "navy"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
}
SHAPES: dict[str, tuple[str, ...]] = {
    "circle": ("round", "circle"),
    "square": ("square", "boxy"),
    "triangle": ("triangular", "pointed"),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus"),
    "ring": ("ring", "hollow"),
}
PATTERNS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "smooth"),
    "striped": ("striped", "banded"),
    "upright": ("vertical", "pinstripe"),
    "dotted": ("dotted", "speckled"),
    "checked": ("checked", "chequered"),
}
# Words of D that are true of no picture: a dictionary is not made for the pictures at hand.
DISTRACTORS = (
    *("engine", "river", "hammer", "bread", "violin", "sugar", "window", "horse", "ticket", "shoe", "planet", "ladder"),
    *("soap", "castle", "feather", "radio", "spoon", "tunnel", "jacket", "coin", "onion", "train", "pillow", "rope"),
)

TITLES = ("{brand} {theme} {kind}", "{theme} {kind} by {brand}", "The {brand} {material} {kind}", "{material} {kind}")
ABOUT_KIND = (
    "This {kind} is made for everyday use.",
    "A {kind} that is easy to keep clean.",
    "Customers say it is the {kind} they reach for first.",
    "A practical {kind} for the whole family.",
)
ABOUT_MATERIAL = (
    "Made of {material} of the best quality.",
    "The {material} feels good in the hand.",
    "We use only {material} from certified sources.",
    "Its {material} surface ages well.",
)
ABOUT_THEME = (
    "Part of our {theme} collection.",
    "The design was inspired by {theme} life.",
    "A lovely present for every {theme} lover.",
    "It brings a touch of {theme} to your home.",
)
FILLER = (
    "Ships in two working days.",
    "Comes in a recyclable box.",
    "Returns are free for one month.",
    "Designed in our own studio.",
    "A two year warranty is included.",
    "New in the catalogue this season.",
)


@dataclass(frozen=True)
class Item:
    """One product. ``has_text`` and ``n_pictures`` say which modalities its record carries."""

    token: str
    kind: str
    material: str
    theme: str
    brand: str
    colour: str
    shape: str
    pattern: str
    has_text: bool
    n_pictures: int

    def visual_words(self) -> frozenset[str]:
        """The words of :func:`dictionary` that are true of the item's pictures."""
        return frozenset((*COLOURS[self.colour], *SHAPES[self.shape], *PATTERNS[self.pattern]))

    def classes(self) -> tuple[str, ...]:
        """Category-like attributes, as a shop's catalogue would list them."""
        return (self.kind, self.material, self.theme)


def dictionary() -> list[str]:
    """The word dictionary D of eq. 2: what pictures can show, and words that none shows, in alphabetical order."""
    visual = (word for group in (COLOURS, SHAPES, PATTERNS) for words in group.values() for word in words)
    return sorted((*visual, *DISTRACTORS))


def make_items(n_items: int, rng: np.random.Generator) -> list[Item]:
    """Draw ``n_items`` products. About 3% lack text, 5% lack pictures (never both) and a fifth have two pictures."""
    missing = rng.random(n_items)
    items = []
    for index in range(n_items):
        items.append(
            Item(
                token=f"P{index + 1:04d}",
                kind=str(rng.choice(KINDS)),
                material=str(rng.choice(MATERIALS)),
                theme=str(rng.choice(list(THEMES))),
                brand=str(rng.choice(BRANDS)),
                colour=str(rng.choice(list(COLOURS))),
                shape=str(rng.choice(list(SHAPES))),
                pattern=str(rng.choice(list(PATTERNS))),
                has_text=bool(missing[index] >= 0.03),
                n_pictures=0 if 0.03 <= missing[index] < 0.08 else int(rng.choice((1, 2), p=(0.8, 0.2))),
            )
        )
    return items


def describe(item: Item, rng: np.random.Generator) -> list[str]:
    """Three to seven English sentences about an item: its kind always, material and theme nearly always.

    Nothing that the picture shows is mentioned. An item without text gets no sentences.
    """
    if not item.has_text:
        return []
    theme_words = THEMES[item.theme]
    body: list[tuple[str, ...]] = [ABOUT_KIND]
    body += [ABOUT_THEME] * int(rng.choice((0, 1, 2), p=(0.05, 0.65, 0.3)))
    body += [ABOUT_MATERIAL] * int(rng.choice((0, 1), p=(0.1, 0.9)))
    body += [FILLER] * int(rng.integers(1, 3))
    order = rng.permutation(len(body))
    templates_in_order: list[tuple[str, ...]] = [TITLES, *(body[position] for position in order)]
    sentences = []
    for templates in templates_in_order:
        theme = str(rng.choice(theme_words))
        text = str(rng.choice(templates)).format(brand=item.brand, kind=item.kind, material=item.material, theme=theme)
        sentences.append(text[0].upper() + text[1:])
    return list(dict.fromkeys(sentences))
