"""Names of members: what a name may be, and when two names are the same."""

from __future__ import annotations

import unicodedata

from streamer.errors import GalleryError

MAX_CHARACTERS = 64
"""Code points after normalisation."""

MAX_TEXT_CHARACTERS = 100
"""Of a display name or a group."""

_RESERVED = frozenset({"all", "everybody", "everyone", "unknown", "nobody", "none", "null"}) | frozenset(
    # Folder imports and recordings must also work where these name devices.
    {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)}
)
_JOINERS = "\u200c\u200d"
_TAGS = range(0xE0020, 0xE0080)
"""Inside emoji of flags; format characters by category, but visible by effect."""


def clean(name: str) -> str:
    """`name` as it is stored: NFC, without spaces around it.

    Letters of any script, digits, punctuation and emoji are fine.

    Raises:
        GalleryError: no text, empty, above MAX_CHARACTERS, with control or invisible characters, with a slash or a
            backslash, beginning with a dot, or a reserved word.
    """
    given: object = name  # users of the Python API may give anything
    if not isinstance(given, str):
        raise GalleryError(f"the name is {given!r:.40}: give it as text")
    cleaned = unicodedata.normalize("NFC", given).strip()
    shown = repr(cleaned if len(cleaned) <= 40 else cleaned[:40] + "…")
    if not cleaned:
        raise GalleryError(f"a member's name is 1 to {MAX_CHARACTERS} characters long; this one is empty")
    if len(cleaned) > MAX_CHARACTERS:
        raise GalleryError(f"the name {shown} has {len(cleaned)} characters; shorten it to {MAX_CHARACTERS} or fewer")
    for character in cleaned:
        if _forbidden(character):
            raise GalleryError(
                f"the name {shown} holds {_describe(character)}; use letters, digits, spaces, punctuation and emoji"
            )
    if cleaned.startswith("."):
        raise GalleryError(f"the name {shown} begins with a dot; leave it out")
    if not any(unicodedata.category(character)[0] in "LNPS" for character in cleaned):
        raise GalleryError(f"the name {shown} shows nothing; use at least one letter, digit or emoji")
    if key(cleaned) in _RESERVED:
        raise GalleryError(f"the name {shown} is reserved; choose another, {cleaned!r} and a surname say")
    return cleaned


def clean_text(text: str, what: str) -> str | None:
    """A display name or a group as it is stored: NFC, without spaces around it; None: nothing is left.

    Args:
        what: How the message calls it ("display name").

    Raises:
        GalleryError: above MAX_TEXT_CHARACTERS, or with characters that a name may not have. Slashes are fine.
    """
    cleaned = unicodedata.normalize("NFC", text).strip()
    shown = repr(cleaned if len(cleaned) <= 40 else cleaned[:40] + "…")
    if len(cleaned) > MAX_TEXT_CHARACTERS:
        raise GalleryError(
            f"the {what} {shown} has {len(cleaned)} characters; shorten it to {MAX_TEXT_CHARACTERS} or fewer"
        )
    for character in cleaned:
        if character not in "/\\" and _forbidden(character):
            raise GalleryError(f"the {what} {shown} holds {_describe(character)}; leave it out")
    return cleaned or None


def key(name: str) -> str:
    """Two names with the same key are the same member: case, width of letters and runs of spaces do not count."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    single = " ".join(unicodedata.normalize("NFKC", folded).split())
    # Half a surrogate pair (from a wrongly encoded command line) is in no stored name, but must not break a search.
    return single.encode("utf-8", "replace").decode("utf-8")


def _forbidden(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        # Joiners belong to words and emoji; marks of writing direction would turn the text around the name.
        return character not in _JOINERS and ord(character) not in _TAGS
    return category in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp") or character in "/\\"


def _describe(character: str) -> str:
    if character in "/\\":
        return "a slash" if character == "/" else "a backslash"
    kind = "control" if unicodedata.category(character) == "Cc" else "invisible or unassigned"
    return f"the {kind} character U+{ord(character):04X}"
