"""Text of a user's on its way out: one function for each destination, so that it is shown there and never acted upon.

Configurations, file names, array names, labels and class names come from strangers. Whatever becomes part of a message,
a report, a table, a figure or a path goes through the function of that place, once, at the place's border.
"""

from __future__ import annotations

import html
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

# A name of 10 000 characters hides the sentence around it.
LONGEST = 1_000
LONGEST_NAME = 100
LONGEST_IN_PATH = 64
# A list of thousands of names hides what is said about it.
MOST = 10
# What a spreadsheet takes for the beginning of a formula, in ASCII and in full width.
FORMULA = tuple("=+-@\t\r＝＋－＠")
# Marks of Markdown where they mean something: an underscore at a word's edge, a bracket that a link may follow.
MARKDOWN = re.compile(r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|^#")
PATH_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def shortened(text: str, longest: int = LONGEST) -> str:
    """`text` with its middle left out where it has more than `longest` characters; the end often says what to do."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 3]} … {text[-tail:]}"


def visible(text: object, longest: int = LONGEST) -> str:
    """One line in which whatever a reader could not see is written out, as `\\x1b`, `\\u202e`, `\\n` or `\\udcff`.

    Control characters, escape codes, line ends, blanks that are no space, marks that turn the direction of writing, and
    the halves of characters by which Python keeps bytes that are no UTF-8.
    """
    written = (
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shortened(str(text), longest)
    )
    # Once more, since what is written out is longer.
    return shortened("".join(written), longest)


def for_terminal(text: object, longest: int = LONGEST) -> str:
    """Text within a message or on standard output; it can neither move the cursor nor begin a line of its own."""
    return visible(text, longest)


def for_html(text: object, longest: int = LONGEST) -> str:
    """Text within an HTML element or a quoted attribute."""
    return html.escape(visible(text, longest), quote=True)


def for_rest(text: object, longest: int = LONGEST) -> str:
    """Text within a paragraph of reStructuredText, where a backslash takes every mark's meaning away."""
    return "".join(char if char.isalnum() or char == " " else f"\\{char}" for char in visible(text, longest).strip())


def for_markdown(text: object, longest: int = LONGEST) -> str:
    """Text within a line or a table's cell of Markdown."""
    marked = MARKDOWN.sub(r"\\\g<0>", visible(text, longest).strip())
    marked = re.sub(r"&(?=#?\w+;)", "&amp;", marked).replace("<", "&lt;")
    # At the beginning of a line these make a list or a quotation.
    return re.sub(r"^(\d*)([-+]+(?=\s|$)|[.)](?=\s|$)|>)", r"\1\\\2", marked)


def for_csv(text: object, longest: int = LONGEST) -> str:
    """A cell of a table; a spreadsheet would compute what begins as a formula, so an apostrophe makes it text.

    Numbers that came as text are left as they are.
    """
    raw = str(text)
    if not raw.lstrip(" ").startswith(FORMULA) or _is_number(raw):
        return visible(raw, longest)
    return f"'{visible(raw, longest)}"


def for_figure(text: object, longest: int = LONGEST_NAME) -> str:
    """A label in a figure, where a dollar sign would begin a formula."""
    return visible(text, longest).replace("$", r"\$")


def for_path(text: object) -> str:
    """A word as part of a path: returned as it is, or refused, since two words must not become one file.

    Raises:
        ValueError: It is not letters, digits, dots, `_` and `-` that begin with a letter or digit, or it is too long.
    """
    word = str(text)
    if len(word) > LONGEST_IN_PATH:
        raise ValueError(
            f"{for_terminal(word, 40)!r} has {len(word)} characters, at most {LONGEST_IN_PATH} are allowed"
        )
    if not PATH_WORD.fullmatch(word):
        raise ValueError(f"'{for_terminal(word)}' becomes part of a path: use letters, digits, dots, _ and - only")
    return word


def listed(names: Iterable[object], most: int = MOST) -> str:
    """Names for a message, the first `most` of them and how many more there are."""
    names = list(names)
    shown = [for_terminal(name, LONGEST_NAME) for name in names[:most]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def duration(seconds: float) -> str:
    """A time span in two figures: `43 s`, `12 min`, `1 h 05 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def reason(error: BaseException) -> str:
    """Why something failed, in a few words for a message: the system's words for it, or the error's first line."""
    words = getattr(error, "strerror", None) or next(iter(str(error).strip().splitlines()), "")
    return for_terminal(words, 200) or type(error).__name__


def prepare_streams() -> None:
    """Let standard output and error take any text: what their encoding lacks is written out, a closed one swallows it.

    A closed one is opened on the null device, since otherwise the next file that is opened would take its number, and
    a library's words to standard output would end up in that file.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
