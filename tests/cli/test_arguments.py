"""Options before and right after PROGRAM are rmapbox's; the rest is the program's."""

import pytest

from mmcore.errors import ConfigError
from sandbox.cli.arguments import arrange

OPTIONS = {"--memory": True, "--quiet": False, "--pressure": False, "--help": False}


@pytest.mark.parametrize("words, arranged", [
    ("hello", "-- hello"),
    ("--quiet hello a b", "--quiet -- hello a b"),
    ("fork_cow --pressure --memory 8M 512 2", "--pressure --memory 8M -- fork_cow 512 2"),
    ("fork_cow --memory=8M 512", "--memory=8M -- fork_cow 512"),
    ("sh -c true --quiet", "-- sh -c true --quiet"),
    ("ls -- --help", "-- ls --help"),
    ("ls --quiet -- --help", "--quiet -- ls --help"),
    ("--quiet -- ls --help", "--quiet -- ls --help"),
    ("prog --own-option", "-- prog --own-option"),
    ("prog 1 --presure", "-- prog 1 --presure"),
    ("--bogus prog", "--bogus prog"),
    ("--memory", "--memory"),
    ("", ""),
])
def test_arranged(words, arranged):
    assert arrange(words.split(), OPTIONS) == arranged.split()


def test_a_misspelt_option_right_after_the_program():
    with pytest.raises(ConfigError, match="no such option --presure: did you mean --pressure.*pass it to prog"):
        arrange(["prog", "--presure", "3"], OPTIONS)
