"""Does the newest token complete a stop string? Answered from cached token texts, without decoding the whole row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopMatcher:
    """Tells whether the last token of a row completes one of `stops` (the overhang after it does not matter).

    ASCII stop strings are matched on the joined texts of single tokens; others on the decoded tail, since a character
    beyond ASCII may be spread over several tokens.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise ValueError("a stop string must not be empty")
        self.tokenizer = tokenizer
        self.stops = tuple(stops)
        self.plain = all(stop.isascii() for stop in stops)
        self.window = 4 * max(map(len, stops), default=0)  # a character takes at most four byte tokens
        self.pieces: dict[int, str] = {}
        self.anchor = tokenizer.encode("a", add_special_tokens=False)
        self.anchor_text = self._decode(self.anchor)

    def completed(self, tokens: Sequence[int]) -> bool:
        """True when a stop string ends inside the text of `tokens[-1]`."""
        if not self.stops:
            return False
        tail = list(tokens[-self.window :])
        texts = [self.piece(t) for t in tail] if self.plain else [self._decode(tail[:-1]), ""]
        joined = "".join(texts) if self.plain else self._decode(tail)
        before = len(joined) - len(texts[-1]) if self.plain else len(texts[0].rstrip("\ufffd"))
        return any(joined.find(stop, max(0, before - len(stop) + 1)) >= 0 for stop in self.stops)

    def piece(self, token: int) -> str:
        """The text one token adds in the middle of a row (decoded behind an anchor, or a leading space would be lost)."""
        if token not in self.pieces:
            self.pieces[token] = self._decode([*self.anchor, token])[len(self.anchor_text) :]
        return self.pieces[token]

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
