"""Who is looked for in a file, and what of a result is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from streamer.errors import ConfigError
from streamer.tracks import PRIVATE_STYLES, FrameResult, Style, Target, Track


@dataclass(frozen=True, slots=True)
class Cast:
    """The members that a user chose, in the order given, and the object in them."""

    members: tuple[str, ...]
    """At least one, each once."""
    object: str | None = None
    everybody: bool = False
    """All people are shown or concealed, not the members alone (style `only`)."""
    private: bool = False
    """The style promises to hide somebody: who is not named yet may be the one, so that all masks are wanted."""

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("no member is named: say whom to follow (--member NAME)")

    @classmethod
    def of(cls, members: Sequence[str], prompt: str | None, style: Style) -> Cast:
        """Each member once."""
        return cls(tuple(dict.fromkeys(members)), prompt, style == "only", style in PRIVATE_STYLES)

    def sought(self) -> Target:
        """For the processor: it follows one member, or everybody it sees."""
        return replace(self.target(), everybody=self.everybody or self.private)

    def target(self) -> Target:
        """For drawing."""
        return Target(self.members[0] if len(self.members) == 1 else None, self.object, self.everybody)

    def scene(self, result: FrameResult) -> tuple[FrameResult, Target]:
        """For drawing: `result` and the target that shows the chosen members of it and nobody else. To be hidden with
        them is who may turn out to be one, as long as one is not in sight.

        With several members, each has a colour of its own wherever they appear: ids are those of the members' order.
        """
        if len(self.members) == 1:
            return result, self.target()
        order = {name: number for number, name in enumerate(self.members)}
        tracks = tuple(self._chosen(track, order) for track in result.tracks)
        if not self.everybody:
            sought = order.keys() - {track.name for track in tracks if track.state == "tracked"}
            maybe = self.private and bool(sought)
            tracks = tuple(track for track in tracks if track.name is not None or (maybe and track.undecided))
        return replace(result, tracks=tracks), Target(None, self.object, self.everybody)

    @staticmethod
    def _chosen(track: Track, order: dict[str, int]) -> Track:
        if track.name not in order:
            return replace(track, name=None)
        return replace(track, id=order[track.name])

    def seen(self, result: FrameResult) -> list[Track]:
        """Tracks of the members that are on this frame."""
        return [track for track in result.tracks if track.name in self.members and track.seen]

    def lead(self, result: FrameResult) -> Track | None:
        """The first-named member that is on this frame."""
        tracks = {track.name: track for track in reversed(self.seen(result))}
        return next((tracks[name] for name in self.members if name in tracks), None)
