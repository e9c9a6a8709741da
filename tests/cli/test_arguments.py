"""Options before and right after PROGRAM are rmapbox's; the rest is the program's."""

import pytest

from mmcore.errors import ConfigError
from sandbox.cli.arguments import split
from sandbox.cli.run import make_parser

OPTIONS = {"--memory": True, "--quiet": False, "--pressure": False, "--help": False}


@pytest.mark.parametrize(
    "words, own, program, arguments",
    [
        ("hello", "", "hello", ""),
        ("--quiet hello a b", "--quiet", "hello", "a b"),
        ("fork_cow --pressure --memory 8M 512 2", "--pressure --memory=8M", "fork_cow", "512 2"),
        ("fork_cow --memory=8M 512", "--memory=8M", "fork_cow", "512"),
        ("--memory -5 hello", "--memory=-5", "hello", ""),
        ("sh -c true --quiet", "", "sh", "-c true --quiet"),
        ("ls -- --help", "", "ls", "--help"),
        ("ls --quiet -- --help", "--quiet", "ls", "--help"),
        ("--quiet -- ls --help -- x", "--quiet", "ls", "--help -- x"),
        ("prog --own-option", "", "prog", "--own-option"),
        ("prog 1 --presure", "", "prog", "1 --presure"),
    ],
)
def test_split(words, own, program, arguments):
    assert split(words.split(), OPTIONS) == (own.split(), program, arguments.split())


@pytest.mark.parametrize("words", ["", "--quiet", "--memory", "--memory 8M", "--"])
def test_no_program(words):
    assert split(words.split(), OPTIONS).program is None


def test_a_misspelt_option_right_after_the_program():
    with pytest.raises(ConfigError, match="no such option --presure: did you mean --pressure.*pass it to prog"):
        split(["prog", "--presure", "3"], OPTIONS)


@pytest.mark.parametrize(
    "word, said", [("--presure", "did you mean --pressure"), ("--xyzzy", "see `rmapbox run --help`")]
)
def test_an_unknown_option_before_the_program(word, said):
    with pytest.raises(ConfigError, match=f"no such option {word}.*{said}"):
        split([word, "prog"], OPTIONS)


def test_the_options_are_the_documented_ones():
    assert make_parser().own_options() == {
        "-h": False,
        "--help": False,
        "--rmap": True,
        "--config": True,
        "--memory": True,
        "--swap": True,
        "--smp": False,
        "--accounting": True,
        "--paging": True,
        "--mount": True,
        "--env": True,
        "--stdin": True,
        "--seed": True,
        "--clock": True,
        "--time-limit": True,
        "--audit": True,
        "--pressure": False,
        "--picture": True,
        "--json": True,
        "--quiet": False,
    }
