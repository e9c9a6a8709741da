"""Settings: what is accepted, and what each mistake is told."""

from pathlib import Path

import pytest

from mmcore.errors import ConfigError
from sandbox.config import BadValue, Config, Mount, format_size, parse_size
from sandbox.configfile import build_config


@pytest.mark.parametrize(
    "text, size",
    [
        ("4096", 4096),
        (4096, 4096),
        ("64K", 65536),
        ("64M", 64 << 20),
        ("1g", 1 << 30),
        ("64 MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("0", 0),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64X", "M", "-1", "1.5G", "64 M M", -5, 1.5, None, True, "0x40"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="not a size.*as in 64M"):
        parse_size(text)


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, 64 << 20, 3 << 30, (64 << 20) + 4096])
def test_formatted_sizes_read_back(size):
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    "setting, value, words",
    [
        ("memory", "1M", "too small to boot: give at least 5M"),
        ("memory", "65G", "64G"),
        ("lowmem", "16M", "from 32M to 896M"),
        ("lowmem", "1G", "from 32M to 896M"),
        ("highpte", "yes", "is not true or false"),
        ("swap", "100T", "at most 64G"),
        ("paging", "3level", "'3level' is not one of pae, 2level"),
        ("clock", "wall", "virtual, host"),
        ("audit", "on", "off, end, full"),
        ("overcommit", 3, "whole number from 0 to 2"),
        ("swappiness", 101, "from 0 to 100"),
        ("swappiness", True, "whole number"),
        ("cache_line", 48, "32, 64, 128"),
        ("smp", 1, "true or false"),
        ("dirty_tracking", "on", "true or false"),
        ("page_cluster", 9, "from 0 to 8"),
        ("seed", -1, "whole number"),
        ("time_limit", 0, "seconds above 0"),
        ("time_limit", "soon", "'soon' is not a number of seconds"),
        ("time_limit", float("nan"), "seconds above 0"),
        ("scheme", "", "a scheme's name"),
        ("env", {"A=B": "c"}, "no '='"),
        ("env", {"A": 1}, "strings"),
        ("stdin", "/nonexistent/file", "no such file"),
        ("stdin", "/", "is a directory"),
        ("mounts", ("here",), "HOST:GUEST:ro or"),
        ("mounts", ("/tmp:relative",), "absolute path"),
        ("mounts", ("/tmp:/",), "absolute path below /"),
        ("mounts", ("/tmp:/data:rx",), "ro or rw"),
        ("mounts", ("/nonexistent/dir:/data",), "no such file or directory on the host"),
    ],
)
def test_wrong_values_are_named_with_the_remedy(setting, value, words):
    with pytest.raises(ConfigError) as caught:
        Config(**{setting: value})
    message = str(caught.value)
    assert message.startswith(setting + " ") and words in message and "\n" not in message


def test_memory_is_whole_pages():
    assert Config(memory=(64 << 20) + 5).memory == 64 << 20


def test_environment_is_fixed_and_ordered():
    one = Config(env={"B": "2", "A": "1", "TZ": "CET"}).environment()
    two = Config(env={"TZ": "CET", "A": "1", "B": "2"}).environment()
    assert list(one.items()) == list(two.items())
    assert one["TZ"] == "CET" and one["HOME"] == "/root"


def write(tmp_path, text):
    path = tmp_path / "rmapbox.toml"
    path.write_text(text)
    return str(path)


def test_the_file_and_the_command_line(tmp_path):
    (tmp_path / "in").write_text("x")
    path = write(
        tmp_path,
        """
        [machine]
        memory = "32M"
        paging = "2level"
        [rmap]
        scheme = "pte_chain"
        [rmap.pte_chain]
        cache_line = 64
        [rmap.anon_vma]
        share = false
        [guest]
        stdin = "in"
        mounts = [".:/data:rw"]
        env = { A = "1", B = "2" }
        [audit]
        when = "end"
    """,
    )
    config = build_config(path, {"memory": "16M", "env": {"B": "3"}}, {"memory": "--memory"})
    assert (config.memory, config.paging, config.scheme, config.audit) == (16 << 20, "2level", "pte_chain", "end")
    assert config.scheme_options == {"cache_line": 64}
    assert config.env == {"A": "1", "B": "3"}
    assert config.stdin == str(tmp_path / "in")
    assert config.mounts == (Mount(str(tmp_path) + "/.", "/data", "rw"),)
    assert build_config(path, {"scheme": "anon_vma"}, {}).scheme_options == {"share": False}


@pytest.mark.parametrize(
    "text, words",
    [
        ("[machine]\nmemroy = 1", "unknown key 'memroy' in [machine]: did you mean 'memory'?"),
        ("[machin]\nmemory = 1", "unknown table [machin]: did you mean 'machine'?"),
        ("memory = 1", "unknown table [memory]"),
        ("machine = 1", "must be a table"),
        ("[machine]\nmemory = '1X'", "machine.memory '1X' is not a size"),
        ("[audit]\nwhen = 'never'", "audit.when 'never' is not one of off, end, full"),
        ("[guest]\nmounts = 'a:/b'", "must be a list of strings"),
        ("[guest]\nmounts = ['a']", "guest.mounts 'a' is not a mount"),
        ("[machine", "not TOML"),
    ],
)
def test_mistakes_in_the_file_name_file_and_key(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        build_config(path, {}, {})
    assert str(caught.value).startswith(path) and words in str(caught.value)


def test_the_name_in_an_error_is_the_one_the_user_wrote(tmp_path):
    path = write(tmp_path, "[machine]\nmemory = '32M'")
    with pytest.raises(ConfigError, match="^--memory '9Q'"):
        build_config(path, {"memory": "9Q"}, {"memory": "--memory"})


def test_the_file_of_the_working_directory_is_read(tmp_path, monkeypatch):
    write(tmp_path, "[machine]\nswap = '8M'")
    monkeypatch.chdir(tmp_path)
    assert build_config(None, {}, {}).swap == 8 << 20


def test_a_configuration_that_begins_with_a_byte_order_mark(tmp_path: Path, rmapbox) -> None:
    (tmp_path / "rmapbox.toml").write_bytes(b'\xef\xbb\xbf[machine]\r\nmemory = "32M"\r\n')
    ran = rmapbox("run", "--quiet", "--json", "r.json", "hello")
    assert ran.status == 0, ran.err
    assert f'"memory": {32 << 20}' in (tmp_path / "r.json").read_text()


@pytest.mark.parametrize(
    "setting, value, said",
    [
        ("memory", "64", "64 is 64 bytes, less than a page: add the unit that is missing, as in 64M"),
        ("memory", "65536", "65536 bytes (there is no unit) is too small to boot: give at least 5M"),
        ("memory", "64K", "64K is too small to boot: give at least 5M"),
        ("swap", 128, "128 is 128 bytes, less than a page: add the unit that is missing, as in 128M"),
    ],
)
def test_a_size_without_its_unit(setting, value, said):
    with pytest.raises(BadValue) as caught:
        Config(**{setting: value})
    assert caught.value.text == said
    assert Config(swap=0).swap == 0


def test_several_swap_areas():
    several = Config(swap="64M:5, 32M")
    assert several.swap == 96 << 20 and several.swap_areas == ((64 << 20, 5), (32 << 20, None))
    assert several.replace(memory="16M").swap_areas == several.swap_areas
    assert several.replace(swap=8 << 20).swap_areas == ((8 << 20, None),)
    assert Config(swap=0).swap_areas == ((0, None),)
    for wrong, said in (
        ("64M:x", "a priority is a whole number from 0 to 32767"),
        ("64M:", "a priority is a whole number"),
        ("4K,64M", "an area needs two pages at least"),
        (",".join(["1M"] * 32), "32 areas are more than there can be"),
        ("40G,40G", "more than swap entries can number"),
    ):
        with pytest.raises(ConfigError, match=said):
            Config(swap=wrong)
