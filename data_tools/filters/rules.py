"""The language of rules over signals: `image.width < 100 or text.words < 3 and not (similarity.clip in bottom 20%)`.

    rule       := conjunction ("or" conjunction)*
    conjunction:= negation ("and" negation)*
    negation   := "not" negation | "(" rule ")" | test
    test       := operand (op operand)+          op: < <= > >= == !=, and chains such as 0.5 < image.aspect < 2
                | NAME "in" ("top" | "bottom") NUMBER "%"
                | NAME ["not"] "in" "(" literal ("," literal)* ")"
                | NAME "is" ("known" | "unknown")
                | NAME                           a signal that is itself yes or no
    operand    := NAME | literal                 literal: a number, "text", 'text', true, false

Words are read in either case. Nothing of a rule is ever executed as code.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from .rule_terms import (
    COMPARE,
    Comparison,
    Cuts,
    InShare,
    Join,
    Known,
    Not,
    OneOf,
    Operand,
    RuleError,
    Share,
    Side,
    Signal,
    Signals,
    Term,
    Yes,
)

__all__ = ["Rule", "RuleError", "parse"]

RULE = "rule:"  # what the reason of a row that left by a rule begins with, and the flag of one that would have
DEEPEST = 50  # brackets inside brackets
WORDS = frozenset({"and", "or", "not", "in", "is", "top", "bottom", "known", "unknown", "true", "false"})
TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])|(?P<name>[A-Za-z_]\w*(?:\.\w+)*)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')|(?P<mark><=|>=|==|!=|<|>|%|\(|\)|,))"
)
LIKELY = {"=": "==", "&": "and", "&&": "and", "|": "or", "||": "or", "!": "not"}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that was read. `names`: the signals it looks at; `shares`: the fractions whose ends it must be told."""

    text: str
    term: Term
    names: tuple[str, ...]
    shares: tuple[Share, ...]

    def __call__(self, signals: Signals, knowledge: Cuts | None = None) -> bool | None:
        """Whether the rule holds for a row; None where what is known does not settle it, which must never drop a row.

        knowledge: where each of `shares` ends among all rows (see `cuts`). Raises RuleError where a text meets a number.
        """
        try:
            return self.term(signals, knowledge or {})
        except RuleError as error:
            raise RuleError(f"rule '{self.text}': {error}") from None

    def __str__(self) -> str:
        return self.text


def parse(text: str, known: Collection[str] | None = None) -> Rule:
    """The rule that `text` states. Raises RuleError showing the place; with `known`, also for a signal that is none of them."""
    term = _Parser(text, known).whole()
    return Rule(" ".join(text.split()), term, tuple(dict.fromkeys(term.names)), tuple(dict.fromkeys(term.shares)))


class _Token(NamedTuple):
    kind: str  # number, name, text, mark, word, end
    text: str
    at: int


class _Parser:
    """Recursive descent over the tokens of one rule."""

    def __init__(self, text: str, known: Collection[str] | None) -> None:
        self.text, self.known = text, known
        self.tokens = self._tokens()
        self.next = 0
        self.depth = 0

    def whole(self) -> Term:
        term = self._rule()
        if self._peek().kind != "end":
            self._fail(self._peek(), "expected 'and', 'or' or the end")
        return term

    def _tokens(self) -> list[_Token]:
        tokens, at = [], 0
        while self.text[at:].strip():
            match = TOKEN.match(self.text, at)
            if match is None or match.lastgroup is None:
                self._strange(at)
            kind, found, start = match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
            word = kind == "name" and found.lower() in WORDS
            tokens.append(_Token("word", found.lower(), start) if word else _Token(kind, found, start))
            at = match.end()
        return [*tokens, _Token("end", "", len(self.text))]

    def _strange(self, at: int) -> NoReturn:
        found = self.text[at:].split()[0]
        mark = re.match(r"[=&|!]+", found)
        likely = LIKELY.get(mark[0]) if mark else None
        token = _Token("", found, at + len(self.text[at:]) - len(self.text[at:].lstrip()))
        if likely:
            self._fail(token, f"write {likely!r}")
        if found[0] in "\"'":
            self._fail(token, "the text is not closed")
        self._fail(token, "this cannot be read; a rule holds names of signals, numbers, quoted texts and < <= > >= == !=")

    def _fail(self, token: _Token, why: str) -> NoReturn:
        found = f"{token.text!r}" if token.kind != "end" else "its end"
        flat = "".join(" " if c.isspace() else c for c in self.text)
        raise RuleError(f"the rule cannot be read at {found}: {why}\n  {flat}\n  {' ' * token.at}^")

    def _peek(self) -> _Token:
        return self.tokens[self.next]

    def _take(self, *texts: str) -> _Token | None:
        """The next token if it is one of these words or marks."""
        token = self._peek()
        if token.kind in ("word", "mark") and token.text in texts:
            self.next += 1
            return token
        return None

    def _need(self, *texts: str, why: str) -> _Token:
        return self._take(*texts) or self._fail(self._peek(), why)

    def _rule(self) -> Term:
        parts = [self._conjunction()]
        while self._take("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else Join("or", tuple(parts))

    def _conjunction(self) -> Term:
        parts = [self._negation()]
        while self._take("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else Join("and", tuple(parts))

    def _negation(self) -> Term:
        opened = self._take("not", "(")
        if opened is None:
            return self._test()
        self.depth += 1
        if self.depth > DEEPEST:
            self._fail(opened, f"more than {DEEPEST} brackets and nots inside each other")
        if opened.text == "not":
            term: Term = Not(self._negation())
        else:
            term = self._rule()
            self._need(")", why="expected ')'")
        self.depth -= 1
        return term

    def _test(self) -> Term:
        token = self._peek()
        left = self._operand()
        if self._peek().text in COMPARE and self._peek().kind == "mark":
            return self._comparisons(token, left)
        if not isinstance(left, Signal):
            self._fail(self._peek(), "expected a comparison after the value")
        if self._take("is"):
            return Known(left, self._need("known", "unknown", why="expected 'known' or 'unknown'").text == "known")
        if self._take("not"):
            self._need("in", why="expected 'in (...)'")
            return Not(self._choices(left))
        if self._take("in"):
            return self._choices(left) if self._peek().text == "(" else self._share(left)
        return Yes(left)

    def _comparisons(self, token: _Token, left: Operand) -> Term:
        parts: list[Term] = []
        while op := self._take(*COMPARE):
            right = self._operand()
            if not isinstance(left, Signal) and not isinstance(right, Signal):
                self._fail(token, "neither side of the comparison is a signal")
            parts.append(Comparison(left, op.text, right))
            left = right
        return parts[0] if len(parts) == 1 else Join("and", tuple(parts))

    def _operand(self) -> Operand:
        token = self._peek()
        if token.kind == "name":
            self.next += 1
            return Signal(self._known(token))
        return self._literal("expected the name of a signal, a number, a quoted text, true or false")

    def _literal(self, why: str) -> float | str | bool:
        token = self._peek()
        if word := self._take("true", "false"):
            return word.text == "true"
        if token.kind not in ("number", "text"):
            self._fail(token, why)
        self.next += 1
        return token.text[1:-1] if token.kind == "text" else float(token.text)

    def _known(self, token: _Token) -> str:
        if self.known is None or token.text in self.known:
            return token.text
        near = difflib.get_close_matches(token.text, self.known, 1, cutoff=0.5)
        what = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(self.known)) or 'none'}"
        quotes = "" if "." in token.text else ' (a text to compare with stands in quotes: "...")'
        self._fail(token, f"no signal has this name; {what}{quotes}")

    def _choices(self, left: Signal) -> Term:
        self._need("(", why="expected '(' and the values")
        choices = [self._literal("expected a number or a quoted text")]
        while self._take(","):
            choices.append(self._literal("expected a number or a quoted text"))
        self._need(")", why="expected ',' or ')'")
        return OneOf(left, tuple(choices))

    def _share(self, left: Signal) -> Term:
        side: Side = "top" if self._need("top", "bottom", why="expected 'top 30%', 'bottom 20%' or '(...)'").text == "top" else "bottom"
        token = self._peek()
        if token.kind != "number":
            self._fail(token, f"expected a percentage, as in '{side} 30%'")
        self.next += 1
        self._need("%", why=f"expected '%', as in '{side} 30%'")
        if not 0 < float(token.text) <= 100:
            self._fail(token, "a share is more than 0 and at most 100 percent")
        return InShare(Share(left.name, side, float(token.text)))
