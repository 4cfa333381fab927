"""The Amazon review releases: where their files lie, and what they are called.

2018: Ni et al., *Justifying recommendations using distantly-labeled reviews and fine-grained aspects*, EMNLP 2019.
2023: Hou et al., *Bridging language and items for retrieval and recommendation*, arXiv:2403.03952.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from recbole_msm4sr.core.errors import UserError

REVIEWS = ("full", "5-core", "ratings")


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        bases: URLs that the paths are below; the next is asked where one does not have a file.
        metadata: path of the items' metadata; ``{}`` is the category.
        reviews: kind -> path of the interactions.
        categories: all categories.
        missing: kind -> categories that it does not exist for.
    """

    bases: tuple[str, ...]
    metadata: str
    reviews: Mapping[str, str]
    categories: tuple[str, ...]
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ReleaseFiles:
    """Paths below a base URL, with ``/``."""

    reviews: str
    metadata: str


# fmt: off
AMAZON = {
    2018: Release(
        bases=(
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/",
            "https://datarepo.eng.ucsd.edu/mcauley_group/data/amazon_v2/",
        ),
        metadata="metaFiles2/meta_{}.json.gz",
        reviews={
            "full": "categoryFiles/{}.json.gz",
            "5-core": "categoryFilesSmall/{}_5.json.gz",
            "ratings": "categoryFilesSmall/{}.csv",
        },
        categories=(
            "AMAZON_FASHION", "All_Beauty", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Books",
            "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry", "Digital_Music",
            "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food", "Home_and_Kitchen", "Industrial_and_Scientific",
            "Kindle_Store", "Luxury_Beauty", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments",
            "Office_Products", "Patio_Lawn_and_Garden", "Pet_Supplies", "Prime_Pantry", "Software",
            "Sports_and_Outdoors", "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games",
        ),
    ),
    2023: Release(
        bases=(
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/",
            "https://datarepo.eng.ucsd.edu/mcauley_group/data/amazon_2023/",
        ),
        metadata="raw/meta_categories/meta_{}.jsonl.gz",
        reviews={
            "full": "raw/review_categories/{}.jsonl.gz",
            "5-core": "benchmark/5core/rating_only/{}.csv.gz",
            "ratings": "benchmark/0core/rating_only/{}.csv.gz",
        },
        categories=(
            "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products",
            "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories",
            "Clothing_Shoes_and_Jewelry", "Digital_Music", "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food",
            "Handmade_Products", "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen",
            "Industrial_and_Scientific", "Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV",
            "Musical_Instruments", "Office_Products", "Patio_Lawn_and_Garden", "Pet_Supplies", "Software",
            "Sports_and_Outdoors", "Subscription_Boxes", "Tools_and_Home_Improvement", "Toys_and_Games", "Unknown",
            "Video_Games",
        ),
        missing={
            "5-core": (
                "Amazon_Fashion", "Appliances", "Digital_Music", "Handmade_Products", "Health_and_Personal_Care",
                "Subscription_Boxes",
            )
        },
    ),
}
# fmt: on


def release_files(release: int, category: str, reviews: str) -> ReleaseFiles:
    """The two files of a category.

    Raises:
        UserError: there is no such release, category or kind of reviews; it lists what comes near.
    """
    if release not in AMAZON:
        raise UserError(f"there is no Amazon release {release}: give one of {', '.join(map(str, AMAZON))}")
    entry = AMAZON[release]
    if reviews not in entry.reviews:
        raise UserError(f"there are no {reviews!r} reviews: give one of {', '.join(entry.reviews)}")
    if category not in entry.categories:
        raise UserError(f"Amazon {release} has no category {category!r}: {_near(category, entry.categories)}")
    if category in entry.missing.get(reviews, ()):
        others = [kind for kind in entry.reviews if category not in entry.missing.get(kind, ())]
        raise UserError(f"Amazon {release} has no {reviews} file of {category}: ask for {' or '.join(others)}")
    return ReleaseFiles(entry.reviews[reviews].format(category), entry.metadata.format(category))


def _near(category: str, categories: tuple[str, ...]) -> str:
    """What to write instead: near matches whatever the case and the signs between words, else all categories."""
    by_key = {known.lower(): known for known in categories}
    key = "_".join(category.lower().replace("&", " and ").replace(",", " ").replace("-", " ").split())
    matches = difflib.get_close_matches(key, by_key, n=3, cutoff=0.6)
    matches += [known for known in by_key if key and key in known.split("_") and known not in matches]
    if matches:
        return f"is it {' or '.join(by_key[match] for match in matches)}?"
    return f"give one of {', '.join(categories)}"
