"""Captions that are no descriptions: file names, addresses, what pages put where a description should be, and words for search engines.

The lists are this toolkit's choice, written down from what alt texts of web pages are known to hold; what they miss shows in a run's report
as its most frequent captions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Whole captions, compared in lower case without digits and punctuation at their ends.
PLACEHOLDERS = frozenset(
    line.strip()
    for line in """
    image|images|img|photo|photos|photograph|pic|pics|picture|pictures|graphic|illustration|icon|logo|banner|avatar|thumbnail|thumb
    cover|poster|screenshot|screen shot|header|header image|hero image|background|background image|featured image|main image|slide|slider
    placeholder|placeholder image|default|default image|blank|spacer|null|none|undefined|nan|n a|untitled|no name|unknown|test|lorem ipsum
    no image|no image available|image not available|image not found|image unavailable|no photo|no photo available|image coming soon
    coming soon|image result|image may contain|image loading|loading|loading image|alt|alt text|alt tag|image alt|image description
    caption|title|description|product|product image|product photo|product picture|item image|image of product|related image|post image
    article image|blog image|news image|profile|profile photo|profile picture|profile image|user|user avatar|user photo|author|author image
    click|click here|click to enlarge|click to zoom|click for larger image|click to view|click for full size|click image to enlarge
    enlarge|enlarge image|zoom|view|view image|view larger|view larger image|view full size|view photo|view gallery|open image|open gallery
    gallery|gallery image|photo gallery|image gallery|read more|learn more|see more|show more|more|next|previous|prev|back|close|menu|home
    share|share on facebook|share on twitter|tweet|pin it|facebook|twitter|instagram|pinterest|youtube|linkedin|email|print|search|play
    play video|video|video thumbnail|watch video|advertisement|ad|ads
    sponsored|photo credit|credit|courtesy photo|file photo|stock photo|stock image
    getty images|shutterstock|alamy|istock|dreamstime|depositphotos|photo by|image by|image source|source|copyright|all rights reserved
    bild|foto|fotos|abbildung|kein bild|imagen|sin imagen|immagine|afbeelding|photo de profil|фото|изображение|图片|画像
    """.replace("\n", "|").split("|")
    if line.strip()
)  # fmt: skip

# Openings after which little of a description follows.
OPENINGS = ("image result for ", "image may contain", "photo of the day", "click to ", "click here ", "see more of ", "view all ")

_FILE = re.compile(
    r"""^\S*[^\s/\\]\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|heic|avif|ico|psd|pdf|mp4)(?:\?\S*)?$   # anything.jpg, a path to it
    | ^(?:img|dsc|dscn|dscf|dscs|pict?|image|photo|screenshot|screen\ shot|scan|untitled|wp|vid|pxl|mvimg|p|s)[-_ ]?\d{3,}[-_\d ()]*$
    | ^(?=\S*\d)[a-z0-9]+(?:[-_][a-z0-9]+){2,}$                                                      # some-slug-of-12
    | ^[0-9a-f]{16,}$ | ^[-_\d().\s]+$ | ^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$""",  # hashes, numbers, UUIDs
    re.IGNORECASE | re.VERBOSE,
)
_URL = re.compile(r"(?:https?://|www\.)\S+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|co\.uk|de|ru|info|biz|io|shop)\b(?:/\S*)?", re.IGNORECASE)
_SELLING = re.compile(
    r"\b(?:buy (?:now|online)|for sale|free shipping|best price|lowest price|low price|cheap|discount|wholesale|on sale|\d+ ?% off|coupon"
    r"|promo(?: code)?|order now|shop now|add to cart|in stock|out of stock|royalty[- ]free|stock (?:photo|image|vector|illustration)s?"
    r"|free download|download (?:free|now)|high resolution|hd wallpapers?|wallpapers? (?:hd|4k)|desktop background|near me"
    r"|official (?:site|website)|seo|click here|sign up|subscribe)\b",
    re.IGNORECASE,
)
_EDGES = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_SEPARATORS = ",|;•·»/#"
LISTED = 5  # separators from which a caption may be a list of search words
URL_SHARE = 0.5  # of the characters
LOOK = 1000  # characters of a caption that are looked at: the expressions take time with the square of it


def boilerplate(text: str, words: Sequence[str]) -> str | None:
    """ "file_name", "url", "placeholder" or "seo", the first that fits; None for what may be a description.

    words: of the text, in lower case. A url: at least half of the characters are addresses. Seo: two selling phrases, one in a
    caption of at most eight words, or a list: at least five separators and no more than two words to each.
    """
    flat = " ".join(text[:LOOK].split())
    if not flat:
        return None
    if _FILE.match(flat):
        return "file_name"
    if "." in flat and sum(len(found[0]) for found in _URL.finditer(flat)) >= URL_SHARE * len(flat):
        return "url"
    bare = _EDGES.sub("", flat.lower())
    if not bare or bare in PLACEHOLDERS or bare.startswith(OPENINGS):
        return "placeholder"
    return "seo" if _is_seo(flat, words) else None


def _is_seo(flat: str, words: Sequence[str]) -> bool:
    selling = len(_SELLING.findall(flat))
    if selling >= 2 or (selling and len(words) <= 8):
        return True
    separators = sum(flat.count(sign) for sign in _SEPARATORS)
    return separators >= LISTED and len(words) <= 2 * separators
