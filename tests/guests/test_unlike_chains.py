"""The flaw of anon_vma_chain in 4.0 (mended in 2022), as a plain program reaches it: the era does not have it unless
asked, and then the scheme says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Config, Machine

SOURCE = (Path(__file__).parent / "programs" / "merge_loses.c").read_text()


@pytest.fixture(scope="module")
def guest(compile_guest):
    return compile_guest(SOURCE, "merge_loses")


@pytest.mark.parametrize("flaws", [False, True])
def test_a_merge_of_unlike_chains(guest, native, flaws):
    config = Config(
        memory="12M", swap="32M", scheme="anon_vma_chain", audit="full", scheme_options={"era": "4.0", "flaws": flaws}
    )
    result = Machine(config).run([str(guest)], capture=True)
    assert result.exit_status == 0 and result.stdout == native(guest, []).stdout, result.stderr
    assert result.audit.checks and result.audit.violations == 0
    assert result.vmstat["pswpout"] > 100
