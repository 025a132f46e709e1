"""Names from evidence: which enrolled member a track is, if any.

A name is a claim about a person over time, so it rests on all faces seen of a track, weighted by how good a probe each
was, and not on one frame's nearest neighbour. A track keeps the weighted sum of its embeddings (template pooling, as in
set-based face recognition: Yang et al., "Neural Aggregation Network", CVPR 2017, without the learnt part); the cosines
of that sum to the gallery are the weighted means of the single cosines, and a change of the gallery judges old evidence
anew. A name is given when the mean similarity *and* the mean lead over every other member clear a level; with little
evidence the level is higher (a lower confidence bound). Unsure is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from streamer.vision.known import Known
from streamer.vision.levels import Levels, levels_for
from streamer.vision.quality import FaceQuality
from streamer.vision.templates import Templates

STILL_SHARE = 0.4
"""Of the extras, for a photo: nothing will be added to its one look, and photos are better probes than video."""
DECAY_A_LOOK = 0.88
DECAY_SECONDS = 6.0
"""Evidence falls to 1/e in this time: what was proved long ago must be proved again."""
FADED_WEIGHT = 0.12
"""A name rests on no less than this."""
UNSEEN_SECONDS = 4.0
"""How long a followed mask keeps its name with the face turned away."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What is said about a track."""

    name: str | None
    similarity: float | None
    """Cosine of the newest face to the named (else the nearest) member; None before any face was compared."""
    reason: str | None = None
    """Why, in a few words, where this is news; None: the name is as it was."""


@dataclass(slots=True)
class Evidence:
    """All that was seen of one track's face."""

    total: np.ndarray
    """(d,) float64: sum of weight x embedding, decayed."""
    weight: float = 0.0
    clarity: float = 0.0
    """Sum of weight x clarity, decayed with `weight`."""
    newest: np.ndarray | None = None
    newest_weight: float = 0.0
    newest_clarity: float = 0.0
    looks: int = 0
    seen_at: float = 0.0
    """pts of the newest look."""
    name: str | None = None
    doubted: bool = False
    """The track was lost for a moment: its name waits for a look that agrees."""
    strange: int = 0
    """Looks in a row that spoke against the name."""
    said: str | None = None
    """The name that was last shown."""
    against: str | None = None
    """What took the name away, until it is told."""
    was: str | None = None
    """The name that it lost because its face was not seen for long, until it is seen again."""


class Namer:
    """Names of one stream's tracks. Not thread-safe."""

    def __init__(self, known: Known, *, still: bool = False, margin: float = 0.0) -> None:
        """`still`: a photo, whose first look is its last; less is asked on top of the levels.

        `margin`: added to the level of every member (setting `vision.naming_margin`).
        """
        self._evidence: dict[int, Evidence] = {}
        self._still = still
        self._margin = margin
        self._gallery = Templates(known, self._levels(known), margin)

    def set_known(self, known: Known) -> None:
        """Judge what was seen by another gallery; embeddings of another model are forgotten."""
        if known.model_id != self._gallery.known.model_id:
            self._evidence.clear()
        self._gallery = Templates(known, self._levels(known), self._margin)
        for evidence in self._evidence.values():
            if evidence.name is not None and evidence.name not in known.names:
                evidence.name, evidence.against = None, "the member was removed"
            elif evidence.name is not None and self._means(evidence)[known.names.index(evidence.name)] <= -1.0:
                # Now, not with the next look: that one would only be "a contrary face".
                evidence.name, evidence.against = None, f"a person said that this is not {evidence.name}"

    def observe(self, track: int, embedding: np.ndarray, quality: FaceQuality, pts_seconds: float) -> bool:
        """A face of `track` was read: `embedding` is (d,) float32 of length 1.

        False: it shows that what was seen of this track before belongs to somebody else, which is forgotten.
        """
        evidence = self._evidence.get(track)
        if evidence is None:
            evidence = self._evidence[track] = Evidence(np.zeros(len(embedding)))
        evidence.was = None
        weight, clarity = quality.weight, quality.clarity
        keep = DECAY_A_LOOK * math.exp(-max(pts_seconds - evidence.seen_at, 0.0) / DECAY_SECONDS)
        if evidence.looks == 0:
            keep = 0.0
        evidence.total = keep * evidence.total + weight * embedding
        evidence.weight = keep * evidence.weight + weight
        evidence.clarity = keep * evidence.clarity + weight * clarity
        evidence.newest, evidence.newest_weight, evidence.newest_clarity = embedding, weight, clarity
        evidence.looks += 1
        evidence.seen_at = pts_seconds
        return self._weigh_contrary(evidence, quality)

    def similarity(self, embedding: np.ndarray) -> dict[str, float]:
        """Member to cosine, for those with a photo."""
        if not self._fits(embedding):
            return {}
        pairs = zip(self._gallery.known.names, self._gallery.scores(embedding), strict=True)
        return {name: float(score) for name, score in pairs if score > -1.0}

    def is_someone_else(self, track: int, embedding: np.ndarray, quality: FaceQuality) -> bool:
        """A clear face that has nothing in common with the clear faces seen of `track`: the track jumped."""
        evidence = self._evidence.get(track)
        if evidence is None or evidence.weight < 0.8 or not quality.is_frontal or quality.weight < 0.6:
            return False
        length = float(np.linalg.norm(evidence.total))
        return float(evidence.total @ embedding) / max(length, 1e-9) < self._gallery.levels.stranger

    def doubt(self, track: int) -> None:
        """`track` was out of sight for a moment, or its face is seen elsewhere: its name must prove itself again."""
        evidence = self._evidence.get(track)
        if evidence is not None:
            evidence.doubted = True

    def forget(self, track: int) -> None:
        """`track` is gone."""
        self._evidence.pop(track, None)

    def reset(self) -> None:
        """A shot cut: no evidence crosses it."""
        self._evidence.clear()

    def resembles(self, embedding: np.ndarray, name: str) -> bool:
        """Whether this face is worth a track for the sake of `name`; no claim that it is them."""
        if name not in self._gallery.known.names or not self._gallery.known.embeddings.size:
            return False
        member = self._gallery.known.names.index(name)
        scores = self._gallery.claims(embedding)
        near = scores[member] >= self._gallery.level[member] - self._gallery.levels.hold
        return bool(near and _lead(scores, member) > 0)

    def named(self, track: int) -> bool:
        """`track` bears a name, shown or doubted."""
        evidence = self._evidence.get(track)
        return evidence is not None and evidence.name is not None

    def was(self, track: int) -> str | None:
        """Whose name `track` lost for nothing but that no face was seen for long: it is most likely still them."""
        evidence, names = self._evidence.get(track), self._gallery.known.names
        if evidence is None or evidence.was not in names or not self._fits(evidence.total):
            return None
        return None if self._means(evidence)[names.index(evidence.was)] <= -1.0 else evidence.was

    def looks(self, track: int) -> int:
        """Faces of `track` compared so far."""
        evidence = self._evidence.get(track)
        return 0 if evidence is None else evidence.looks

    def undecided(self, track: int) -> bool:
        """Another look soon could change what is said about `track`."""
        evidence = self._evidence.get(track)
        if evidence is None or evidence.doubted:
            return True
        if evidence.name is not None:
            return evidence.strange > 0
        if not self._gallery.known.embeddings.size:
            return False
        if not 3 <= evidence.looks < 12:
            return evidence.looks < 3
        best = float(np.max(self._means(evidence) - self._gallery.level))
        return best > -self._gallery.levels.hold

    def decide(self, tracks: Iterable[int], pts_seconds: float) -> dict[int, Naming]:
        """What is said about each of `tracks` now: a name at most once, the best claim first."""
        asked = list(tracks)
        claims: list[tuple[float, int, int]] = []
        for track in asked:
            evidence = self._evidence.get(track)
            claim = None if evidence is None else self._claim(evidence, pts_seconds)
            if claim is not None:
                claims.append((claim[0], track, claim[1]))
        given: dict[int, int] = {}
        for _, track, member in sorted(claims, reverse=True):
            if member not in given.values():
                given[track] = member
        said: dict[int, Naming] = {}
        for track in asked:
            evidence = self._evidence.get(track)
            said[track] = Naming(None, None) if evidence is None else self._say(evidence, given.get(track), pts_seconds)
        return said

    def _say(self, evidence: Evidence, member: int | None, pts_seconds: float) -> Naming:
        """Give the track the name of `member` (or none), and tell why where that is news."""
        before = evidence.name
        if before is not None and member is None and not self._suffices(evidence, pts_seconds):
            evidence.was = before
        evidence.name = None if member is None else self._gallery.known.names[member]
        shown = None if evidence.doubted else evidence.name
        reason = None
        if shown != evidence.said:
            if shown is None or member is None:
                reason = self._why_not(evidence, before, pts_seconds)
            else:
                reason = self._why(evidence, member)
            evidence.said, evidence.against = shown, None
        return Naming(shown, self._similarity(evidence, member), reason)

    def _levels(self, known: Known) -> Levels:
        levels = levels_for(known.model_id)
        if not self._still:
            return levels
        return replace(levels, level_extra=levels.level_extra * STILL_SHARE, lead_extra=levels.lead_extra * STILL_SHARE)

    def _claim(self, evidence: Evidence, pts_seconds: float) -> tuple[float, int] | None:
        """(strength, member) that the evidence supports, or None."""
        gallery, levels = self._gallery, self._gallery.levels
        if evidence.weight <= 0 or not gallery.known.embeddings.size:
            return None
        if not self._fits(evidence.total) or not self._suffices(evidence, pts_seconds):
            return None
        means = self._means(evidence)
        if evidence.name is not None:
            held = gallery.known.names.index(evidence.name)
            if means[held] >= gallery.level[held] - levels.hold and _lead(means, held) >= 0:
                # The holder of a name is given up only for a clearly better claim; one in doubt, whose face may be the
                # one that another track shows, for any that is about as good.
                bonus = -levels.hold if evidence.doubted else levels.hold
                return float(means[held] - gallery.level[held]) + bonus, held
            return None
        member = int(np.argmax(means))
        unclear = levels.unclear_extra * (1 - evidence.clarity / evidence.weight)
        if self._clears(means, member, _faded(evidence, pts_seconds), unclear):
            return float(means[member] - gallery.level[member]), member
        if evidence.newest is None or means[member] < gallery.level[member] - levels.level_extra:
            return None
        now = gallery.claims(evidence.newest)
        unclear = levels.unclear_extra * (1 - evidence.newest_clarity)
        # One excellent look says it alone, unless what was seen before speaks against it.
        if int(np.argmax(now)) == member and self._clears(now, member, evidence.newest_weight, unclear):
            return float(now[member] - gallery.level[member]), member
        return None

    @staticmethod
    def _suffices(evidence: Evidence, pts_seconds: float) -> bool:
        """The evidence is new and strong enough for any name. What does not keep a name must not give it back either:
        it would come and go."""
        return pts_seconds - evidence.seen_at <= UNSEEN_SECONDS and _faded(evidence, pts_seconds) >= FADED_WEIGHT

    def _clears(self, scores: np.ndarray, member: int, weight: float, unclear: float) -> bool:
        levels = self._gallery.levels
        noise = 1 / math.sqrt(max(weight, 1e-3))
        enough = float(self._gallery.level[member]) + levels.level_extra * noise + unclear
        return bool(scores[member] >= enough and _lead(scores, member) >= levels.lead + levels.lead_extra * noise)

    def _means(self, evidence: Evidence) -> np.ndarray:
        return self._gallery.claims((evidence.total / max(evidence.weight, 1e-9)).astype(np.float32))

    def _fits(self, embedding: np.ndarray) -> bool:
        """Whether there is anybody to compare with, of the same model."""
        return bool(self._gallery.known.embeddings.size) and self._gallery.centroids.shape[1] == len(embedding)

    def _why(self, evidence: Evidence, member: int) -> str:
        """What speaks for the name of `member`, just given."""
        means, names = self._means(evidence), self._gallery.known.names
        text = f"similarity {means[member]:.2f}"
        others = np.delete(means, member)
        if not others.size or others.max() <= -1.0:
            return text
        runner_up = np.delete(np.arange(len(names)), member)[int(np.argmax(others))]
        return f"{text}, {means[member] - others.max():.2f} ahead of {names[runner_up]}"

    def _why_not(self, evidence: Evidence, before: str | None, pts_seconds: float) -> str:
        """What took the name `before` away."""
        if evidence.against is not None:
            return evidence.against
        if evidence.doubted:
            return "out of sight for a moment"
        if before is None or not self._fits(evidence.total):
            return "nobody to compare with"
        if pts_seconds - evidence.seen_at > UNSEEN_SECONDS:
            return f"no face seen for {UNSEEN_SECONDS:.0f} s"
        names, held = self._gallery.known.names, self._gallery.known.names.index(before)
        means = self._means(evidence)
        if means[held] <= -1.0:
            return f"a person said that this is not {before}"
        if _lead(means, held) < 0:
            return f"nearer to {names[int(np.argmax(means))]} now"
        if means[held] < self._gallery.level[held] - self._gallery.levels.hold:
            return f"similarity fell to {means[held]:.2f}"
        return f"another track is nearer to {before}"

    def _weigh_contrary(self, evidence: Evidence, quality: FaceQuality) -> bool:
        """Whether the newest look leaves the track's evidence standing."""
        gallery = self._gallery
        if evidence.newest is None or evidence.name is None or not gallery.known.embeddings.size:
            evidence.doubted = False if evidence.name is None else evidence.doubted
            return True
        held = gallery.known.names.index(evidence.name)
        now = gallery.claims(evidence.newest)
        if now[held] >= gallery.level[held] - gallery.levels.hold and _lead(now, held) >= 0:
            evidence.strange, evidence.doubted = 0, False
            return True
        against = now[held] < gallery.levels.stranger or _lead(now, held) < -gallery.levels.lead
        if against and (quality.is_frontal or evidence.doubted):
            evidence.strange += 1 if quality.weight < 0.6 else 2
        if evidence.strange < 2:
            return True
        # What was seen before belongs to somebody else: start again from this look.
        evidence.total = evidence.newest_weight * evidence.newest.astype(np.float64)
        evidence.weight = evidence.newest_weight
        evidence.clarity = evidence.newest_weight * evidence.newest_clarity
        evidence.name, evidence.looks, evidence.strange, evidence.doubted = None, 1, 0, False
        evidence.against = "a contrary face"
        return False

    def _similarity(self, evidence: Evidence, member: int | None) -> float | None:
        if evidence.newest is None or not self._fits(evidence.newest):
            return None
        scores = self._gallery.scores(evidence.newest)
        return float(scores[int(np.argmax(scores)) if member is None else member])


def _faded(evidence: Evidence, pts_seconds: float) -> float:
    """What is left of its weight now."""
    return evidence.weight * math.exp(-max(pts_seconds - evidence.seen_at, 0.0) / DECAY_SECONDS)


def _lead(scores: np.ndarray, member: int) -> float:
    """How far `member` is ahead of every other; 1 where there is no other."""
    others = np.delete(scores, member)
    return float(scores[member] - others.max()) if others.size else 1.0
