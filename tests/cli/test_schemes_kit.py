"""`rmapbox schemes new` and `check`, and a scheme from another package, as a user meets them."""

import json
import subprocess
import sys

import pytest

THIRD_PARTY = """from mmcore.rmap import Card
from rmap_plugins.anon_vma import AnonVma


class Elsewhere(AnonVma):
    card = Card(name="elsewhere", title="from another package", kernels="none", origin="a test",
        complexity="anon_vma's")
"""


def test_a_new_scheme_runs_and_its_tests_pass(rmapbox, environment, tmp_path):
    made = rmapbox("schemes", "new", "my_scheme", "--dir", "mine")
    assert made.status == 0 and "rmapbox schemes check mine/my_scheme.py:MyScheme" in made.out, made.err
    ran = rmapbox(
        "run", "--quiet", "--pressure", "--audit", "full", "--rmap", "mine/my_scheme.py:MyScheme", "mremap_pingpong"
    )
    assert ran.status == 0, ran.err
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_scheme.py"]
    done = subprocess.run(
        command, cwd=tmp_path / "mine", env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_a_new_scheme_passes_the_check(rmapbox):
    rmapbox("schemes", "new", "my_scheme")
    checked = rmapbox("schemes", "check", "my_scheme.py:MyScheme", "--json", "r.json", timeout=400)
    assert checked.status == 0, checked.out


@pytest.mark.thorough
def test_a_faulty_scheme_fails_with_a_script_that_does_it_again(rmapbox, environment, tmp_path):
    rmapbox("schemes", "new", "my_scheme")
    path = tmp_path / "my_scheme.py"
    text = path.read_text()
    line = (
        "        frames.np_index[moved] = (frames.np_index[moved].astype(np.int64) + (delta >> 12)).astype(np.uint32)"
    )
    assert text.count(line) == 1
    path.write_text(text.replace(line, "        pass"))
    checked = rmapbox("schemes", "check", "my_scheme.py:MyScheme", "--seconds", "1", "--json", "r.json", timeout=400)
    assert checked.status == 1 and "Traceback" not in checked.out + checked.err, checked.err
    report = json.loads((tmp_path / "r.json").read_text())
    verdicts = {row["name"]: row["verdict"] for row in report["checks"]}
    assert (
        not report["passed"]
        and verdicts["contract"] == "ok"
        and verdicts["exact walks"] == verdicts["hooks"] == "FAILED"
    )
    script = tmp_path / "my_scheme_fails.py"
    assert script.read_text().count("\n    ('") <= 4, "three operations are enough"
    again = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 1 and again.stdout.splitlines()[-1].startswith("FAILED walk of the scheme is wrong"), (
        again.stdout
    )
    path.write_text(text)
    mended = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert mended.returncode == 0 and "ok" in mended.stdout, mended.stdout


@pytest.mark.parametrize(
    "words, said",
    [
        (["schemes", "new", "my-scheme"], "cannot be a scheme's name"),
        (["schemes", "new", "class"], "cannot be a scheme's name"),
        (["schemes", "new", "MyScheme"], "cannot be a scheme's name"),
        (["schemes", "new", "anon_vma"], "there is a scheme called 'anon_vma' already"),
        (["schemes", "new", "check"], "would be taken for something else"),
        (["schemes", "new"], "NAME"),
        (["schemes", "new", "mine", "--dir", "/proc/nowhere"], "cannot write there"),
        (["schemes", "chek"], "did you mean 'check'"),
        (["schemes", "nothing_like_it"], "no reverse-mapping scheme is called"),
        (["schemes", "check", "nofile.py:X"], "there is no file nofile.py"),
        (["schemes", "check", "broken.py:X"], "SyntaxError"),
        (["schemes", "check", "pte_chain", "--option", "cache_lin=64"], "did you mean 'cache_line'"),
        (["schemes", "check", "pte_chain", "--option", "cache_line=wide"], "is not a number"),
        (["schemes", "check", "pte_chain", "--option", "highpte"], "is not KEY=VALUE"),
        (["schemes", "check", "pte_chain", "--seconds", "0"], "is not a number of seconds"),
        (["schemes", "check", "pte_chain", "--json", "no/dir/r.json"], "cannot write there"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(rmapbox, tmp_path, words, said):
    (tmp_path / "broken.py").write_text("class X(:\n")
    assert said in rmapbox(*words).error_line()


def test_new_overwrites_nothing(rmapbox, tmp_path):
    (tmp_path / "test_mine.py").write_text("kept")
    assert "is there already" in rmapbox("schemes", "new", "mine").error_line()
    assert not (tmp_path / "mine.py").exists() and (tmp_path / "test_mine.py").read_text() == "kept"


def test_one_card(rmapbox):
    ran = rmapbox("schemes", "pte_chain")
    assert ran.status == 0 and ran.out.startswith("pte_chain:") and "anon_vma:" not in ran.out


def test_a_third_partys_package_is_found_by_name(rmapbox, tmp_path):
    """What an installed wheel leaves: a module, and metadata with the entry point."""
    site = tmp_path / "site"
    info = site / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "elsewhere.py").write_text(THIRD_PARTY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rmapbox.schemes]\nelsewhere = elsewhere:Elsewhere\n")
    (info / "RECORD").write_text("")
    from tests.cli.conftest import ROOT

    path = {"PYTHONPATH": f"{ROOT}:{site}"}
    listed = rmapbox("schemes", env=path)
    assert listed.status == 0 and "elsewhere: from another package" in listed.out, listed.err
    assert rmapbox("run", "--rmap", "elsewhere", "hello", env=path).status == 0
    assert (
        "no reverse-mapping scheme is called 'elsewhere'" in rmapbox("run", "--rmap", "elsewhere", "hello").error_line()
    )
    (info / "entry_points.txt").write_text("[rmapbox.schemes]\nelsewhere = elsewhere:Nowhere\n")
    assert "its package cannot be loaded" in rmapbox("run", "--rmap", "elsewhere", "hello", env=path).error_line()
