"""The same captions in German, Spanish and French: captions a model of English alone should not keep."""

from collections.abc import Iterable

from .captions import Mention

# shape -> (noun, gender); colours by gender; places.
GERMAN = {
    "circle": ("Kreis", "r"), "square": ("Quadrat", "s"), "triangle": ("Dreieck", "s"), "star": ("Stern", "r"),
    "heart": ("Herz", "s"), "cross": ("Kreuz", "s"), "ring": ("Ring", "r"), "diamond": ("Raute", ""),
    "red": "rote", "orange": "orange", "yellow": "gelbe", "green": "grüne", "cyan": "türkise", "blue": "blaue",
    "purple": "lila", "black": "schwarze",
    "top left": "oben links", "top right": "oben rechts", "bottom left": "unten links", "bottom right": "unten rechts",
    "center": "in der Mitte",
}  # fmt: skip
SPANISH = {
    "circle": ("círculo", "o"), "square": ("cuadrado", "o"), "triangle": ("triángulo", "o"), "star": ("estrella", "a"),
    "heart": ("corazón", "o"), "cross": ("cruz", "a"), "ring": ("anillo", "o"), "diamond": ("rombo", "o"),
    "red": "roj*", "orange": "naranja", "yellow": "amarill*", "green": "verde", "cyan": "turquesa", "blue": "azul",
    "purple": "morad*", "black": "negr*",
    "top left": "arriba a la izquierda", "top right": "arriba a la derecha", "bottom left": "abajo a la izquierda",
    "bottom right": "abajo a la derecha", "center": "en el centro",
}  # fmt: skip
FRENCH = {
    "circle": ("cercle", "m"), "square": ("carré", "m"), "triangle": ("triangle", "m"), "star": ("étoile", "f"),
    "heart": ("cœur", "m"), "cross": ("croix", "f"), "ring": ("anneau", "m"), "diamond": ("losange", "m"),
    "red": "rouge", "orange": "orange", "yellow": "jaune", "green": "vert|verte", "cyan": "turquoise", "blue": "bleu|bleue",
    "purple": "violet|violette", "black": "noir|noire",
    "top left": "en haut à gauche", "top right": "en haut à droite", "bottom left": "en bas à gauche",
    "bottom right": "en bas à droite", "center": "au centre",
}  # fmt: skip


def _german(m: Mention) -> str:
    noun, gender = GERMAN[m.shape]
    color = str(GERMAN[m.color])
    inflected = color + gender if color.endswith("e") and color != "orange" else color
    return f"{GERMAN[m.place]} ein{'' if gender else 'e'} {inflected} {noun}"


def _spanish(m: Mention) -> str:
    noun, gender = SPANISH[m.shape]
    return f"{SPANISH[m.place]} un{'a' if gender == 'a' else ''} {noun} {str(SPANISH[m.color]).replace('*', gender)}"


def _french(m: Mention) -> str:
    noun, gender = FRENCH[m.shape]
    forms = str(FRENCH[m.color]).split("|")
    return f"{FRENCH[m.place]} un{'e' if gender == 'f' else ''} {noun} {forms[-1] if gender == 'f' else forms[0]}"


_PHRASES = {"de": _german, "es": _spanish, "fr": _french}
NAMES = tuple(_PHRASES)


def translate(mentions: Iterable[Mention], language: str) -> str:
    """The mentions, each with a place, as one sentence of `language`."""
    text = ", ".join(_PHRASES[language](m) for m in mentions)
    return text[0].upper() + text[1:] + "."
