"""Who resembles whom in a gallery: photos that do not fit their member, members that a model cannot tell apart.

Means of cosines stand in for single ones: the mean over all pairs of two members is the product of their mean vectors,
so a gallery of hundreds is judged in milliseconds. Nothing here decides a name; it is advice to who enrols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamer.vision.known import Known
from streamer.vision.member import Member, Photo

TOO_NEAR = 0.10
"""Members nearer to each other than their own photos by less than this count as alike: one standard deviation of one
person's cosines (0.09 with MobileFaceNet) is then all that separates them."""
MAX_NOTICES = 5
"""Of each kind about one member."""
BEST_PACK = "buffalo_l"
_BEST_RECOGNISER = "w600k_r50"


@dataclass(frozen=True, slots=True)
class Likeness:
    """What cosines of a recogniser usually are."""

    same: float
    """Mean between photos of one person."""
    stranger: float
    """Under it two photos hardly show one person."""


EMBEDDED = Likeness(0.75, 0.40)
"""MobileFaceNet: one person 0.72-0.82 +- 0.09, strangers 0.00-0.03 +- 0.14, look-alikes up to 0.49."""
W600K = Likeness(0.55, 0.25)
"""InsightFace w600k: a false acceptance in a million at 0.41."""


def likeness_of(model_id: str) -> Likeness:
    """Of the recogniser `model_id` (see `ModelStore.model_id`)."""
    return W600K if model_id.startswith("w600k") else EMBEDDED


def advice(model_id: str) -> str:
    """What helps where `model_id` cannot tell people apart."""
    if model_id.startswith(_BEST_RECOGNISER):
        return "add more clear photos of both, from the front"
    return f"the model pack {BEST_PACK} tells people apart better (vision.pack: {BEST_PACK})"


def notices(members: Sequence[Member], known: Known) -> dict[str, list[str]]:
    """What there is to say about members, by name; members of whom there is nothing to say are left out.

    Args:
        members: Everybody, as the gallery gives them together with `known` (`Gallery.snapshot`).
        known: Their embeddings by one model, each member's in the order of its photos.
    """
    said: dict[str, list[str]] = {}
    if not known.names:
        return said
    sums, counts = _sums(known)
    means = sums / counts[:, None]
    by_name = {member.name: member for member in members}
    for number, name in enumerate(known.names):
        photos = [photo for photo in by_name[name].photos if known.model_id in photo.models]
        rows = known.embeddings[known.owners == number]
        found = _misfits(number, photos, rows, means, known)
        if found:
            said[name] = found[:MAX_NOTICES]
    for first, second, text in _alike(sums, counts, known):
        for number in (first, second):
            texts = said.setdefault(known.names[number], [])
            if len(texts) < 2 * MAX_NOTICES:
                texts.append(text)
    return said


def _sums(known: Known) -> tuple[np.ndarray, np.ndarray]:
    """(m, d) float64 sums of each member's embeddings, and (m,) how many."""
    sums = np.zeros((len(known.names), known.embeddings.shape[1]))
    np.add.at(sums, known.owners, known.embeddings)
    counts = np.bincount(known.owners, minlength=len(known.names)).astype(np.float64)
    return sums, counts


def _alike(sums: np.ndarray, counts: np.ndarray, known: Known) -> list[tuple[int, int, str]]:
    """Pairs of members that the model can hardly tell apart, nearest first."""
    usual = likeness_of(known.model_id)
    between = (sums / counts[:, None]) @ (sums / counts[:, None]).T
    squares = (sums**2).sum(axis=1)
    several = counts >= 2
    # Mean over pairs of a member's own photos. Photos of one afternoon resemble each other more than the person does.
    own = np.full(len(counts), usual.same)
    own[several] = np.minimum((squares - counts)[several] / (counts * (counts - 1))[several], usual.same)
    pairs = []
    for first, second in zip(*np.triu_indices(len(counts), 1), strict=True):
        within = float(min(own[first], own[second]))
        near = float(between[first, second])
        if near >= usual.stranger and near > within - TOO_NEAR:
            pairs.append((near, within, int(first), int(second)))
    return [
        (
            first,
            second,
            f"{known.names[first]!r} and {known.names[second]!r} can hardly be told apart (similarity {_shown(near)} "
            f"between them, {_shown(within)} within one person): {advice(known.model_id)}",
        )
        for near, within, first, second in sorted(pairs, reverse=True)
    ]


def _misfits(number: int, photos: Sequence[Photo], rows: np.ndarray, means: np.ndarray, known: Known) -> list[str]:
    """Photos of member `number` that fit another member better than its own other photos, or fit nobody."""
    usual, name = likeness_of(known.model_id), known.names[number]
    count = len(rows)
    if count < 2:
        return []
    to_members = rows @ means.T
    own = (to_members[:, number] * count - 1) / (count - 1)
    to_members[:, number] = -1.0
    nearest = to_members.argmax(axis=1)
    if count == 2 and own[0] < usual.stranger:
        files = " and ".join(repr(photo.file) for photo in photos)
        return [f"the photos {files} do not look like one person (similarity {_shown(own[0])}): check them"]
    found = []
    for photo, fit, other, rival in zip(photos, own, nearest, to_members.max(axis=1), strict=True):
        if rival > fit and rival >= usual.stranger:
            found.append(
                f"the photo {photo.file!r} fits {known.names[other]!r} better (similarity {_shown(rival)}) than the "
                f"other photos of {name!r} ({_shown(fit)}): check whom it shows"
            )
        elif fit < usual.stranger:
            found.append(
                f"the photo {photo.file!r} does not fit the other photos of {name!r} (similarity {_shown(fit)}): "
                "check whom it shows"
            )
    return found


def _shown(similarity: float) -> str:
    """Without the sign of a zero."""
    return f"{round(similarity, 2) + 0.0:.2f}"
