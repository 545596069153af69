"""A user's string is shown where it goes, and never acted upon: the same nasty strings at every destination."""

import csv
import html.parser
import io
import os
import subprocess
import sys

import pytest

from aggregated_posterior import text

from .nasty import NASTY

# What each function may add to a string of `LONGEST` characters at most.
GROWTH = 12


@pytest.fixture(params=NASTY, ids=str)
def nasty(request) -> str:
    return NASTY[request.param]


def shown(value: str) -> str:
    """What a reader shall see."""
    return text.visible(value)


@pytest.mark.parametrize(
    "function",
    [text.for_terminal, text.for_html, text.for_rest, text.for_markdown, text.for_csv, text.for_figure],
    ids=lambda function: function.__name__,
)
def test_one_line_of_bounded_length_that_can_be_encoded(function, nasty):
    made = function(nasty)
    assert len(made.encode("utf-8")) <= GROWTH * text.LONGEST
    assert len(made.splitlines()) <= 1
    assert not set(made) & set("\x1b\x9b\x07\r\0\u202e\u2066\u200f")


def test_plain_text_is_left_alone_where_it_has_no_marks():
    for function in (text.for_terminal, text.for_html, text.for_rest, text.for_markdown, text.for_csv, text.for_path):
        assert function("digits8") == "digits8"
    assert text.for_terminal("β = 0.25, naïve café 数字") == "β = 0.25, naïve café 数字"


def test_a_long_text_keeps_its_beginning_and_its_end():
    made = text.shortened("begin" + "x" * 5000 + "end", 100)
    assert made.startswith("begin") and made.endswith("end") and len(made) < 110


def test_html_shows_it_as_text(nasty):
    class Reader(html.parser.HTMLParser):
        tags: list[str]
        data = ""

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)
            self.attributes = attrs

        def handle_data(self, data):
            self.data += data

    reader = Reader()
    reader.tags = []
    reader.feed(f'<p title="{text.for_html(nasty)}">{text.for_html(nasty)}</p>')
    reader.close()
    assert reader.tags == ["p"]
    assert reader.attributes == [("title", shown(nasty))]
    assert reader.data == shown(nasty)


@pytest.mark.parametrize("around", [("", ""), ("before ", " after"), ("**bold** ", "\n\nanother paragraph")])
def test_rest_shows_it_as_text(nasty, around):
    from docutils.core import publish_doctree
    from docutils.nodes import Text, paragraph

    made = text.for_rest(nasty)
    if not made:
        pytest.skip("nothing to show")
    settings = {"report_level": 1, "halt_level": 1}
    document = publish_doctree(f"{around[0]}{made}{around[1]}\n", settings_overrides=settings)
    first = document.children[0]
    assert isinstance(first, paragraph)
    assert isinstance(first.children[-1], Text)
    last = first.children[-1].astext()
    assert last.strip() == shown(nasty).strip() or (
        around[0] == "before " and last == f"before {shown(nasty).strip()} after"
    )


def test_markdown_shows_it_as_text(nasty):
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    made = text.for_markdown(nasty)
    tokens = parser.parse(f"| a | b |\n| --- | --- |\n| {made} | end |\n")
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4 and cells[3].content == "end"
    # A table's own parser takes the backslash before a bar away, the other marks are the cell's.
    assert {child.type for child in cells[2].children} <= {"text", "text_special"}
    tokens = parser.parse(made + "\n")
    assert [token.type for token in tokens] in ([], ["paragraph_open", "inline", "paragraph_close"])
    if made:
        assert "".join(child.content for child in tokens[1].children) == shown(nasty).strip()


def test_no_cell_of_a_table_is_a_formula(nasty):
    stream = io.StringIO()
    csv.writer(stream).writerow(["a", text.for_csv(nasty), "b"])
    (row,) = csv.reader(io.StringIO(stream.getvalue()))
    assert len(row) == 3
    assert not row[1].lstrip().startswith(text.FORMULA)


def test_numbers_in_tables_stay_numbers():
    assert [text.for_csv(number) for number in ("-0.5", "+1e3", "-inf", -2)] == ["-0.5", "+1e3", "-inf", "-2"]


def test_a_figure_draws_it_without_computing(nasty):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0, 0, text.for_figure(nasty))
    figure.savefig(io.BytesIO(), format="svg")


def test_a_path_takes_words_and_nothing_else(nasty):
    with pytest.raises(ValueError) as caught:
        text.for_path(nasty)
    assert len(str(caught.value)) < 3 * text.LONGEST and str(caught.value).isprintable()


@pytest.mark.parametrize("word", ["..", ".", "a/b", "-rf", "a b", "a\n", "\na", "~", "con:", "é", "a" * 65])
def test_words_that_are_no_part_of_a_path(word):
    with pytest.raises(ValueError):
        text.for_path(word)


@pytest.mark.parametrize("word", ["digits", "control_gaussian", "0.25", "1e-05", "a" * 64])
def test_words_that_are_part_of_a_path(word):
    assert text.for_path(word) == word


def test_lists_are_cut_at_ten():
    made = text.listed(f"name {number}\n" for number in range(3000))
    assert made.startswith("name 0\\n, name 1") and made.endswith("name 9\\n and 2,990 more")
    assert text.listed(["x" * 10_000]).count("x") <= text.LONGEST_NAME
    assert text.listed([]) == "" and text.listed("ab") == "a, b"


def test_a_reason_is_one_short_line():
    assert text.reason(FileNotFoundError(2, "No such file or directory", "a" * 5000)) == "No such file or directory"
    assert text.reason(ValueError("first\nsecond")) == "first" and text.reason(KeyError()) == "KeyError"
    for nasty in NASTY.values():
        assert len(text.reason(ValueError(nasty))) < 1000 and text.reason(ValueError(nasty)).isprintable()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", b"\\u2500 \\xe9 \\udcff"), ("latin-1", b"\\u2500 \xe9 \\udcff"), ("utf-8", "─ é \\udcff".encode())],
)
def test_standard_output_of_any_encoding_takes_any_text(encoding, expected):
    code = "from aggregated_posterior.text import prepare_streams as p; p(); print('\\u2500 \\xe9 \\udcff')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": "scripts"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.strip() == expected and done.stderr == b""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_standard_output_is_no_error_and_no_file(tmp_path, closed):
    code = (
        "from aggregated_posterior.text import prepare_streams as p; p(); import os; "
        f"f = open({str(tmp_path / 'a')!r}, 'w'); print('x'); os.system('echo from a library'); f.write('own')"
    )
    command = f'"{sys.executable}" -c "{code}" {closed}'
    done = subprocess.run(["sh", "-c", command], env={**os.environ, "PYTHONPATH": "scripts"}, capture_output=True)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert (tmp_path / "a").read_text() == "own"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (43, "43 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (720, "12 min"),
        (3900, "65 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_have_two_figures(seconds, words):
    assert text.duration(seconds) == words
