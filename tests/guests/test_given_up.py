"""A run that is given up in the middle of something: its bookkeeping need not agree, and nobody says that it is
wrong."""

from __future__ import annotations

import pytest

import mmcore.paging.lifecycle
from mmcore.errors import Hung, OomPanic
from sandbox import Config, Machine


@pytest.mark.parametrize(("error", "ended"), [(Hung, "hung"), (OomPanic, "oom_panic")])
def test_given_up_in_mid_fork(monkeypatch: pytest.MonkeyPatch, error: type[Exception], ended: str) -> None:
    copied = 0
    copy = mmcore.paging.lifecycle.copy_page_range

    def give_up(*arguments: object) -> None:
        nonlocal copied
        copied += 1
        if copied == 3:
            raise error("an allocation in mid-fork")
        copy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(mmcore.paging.lifecycle, "copy_page_range", give_up)
    result = Machine(Config(stdin=b"", time_limit=60, audit="end")).run(["fork_cow", "16"], capture=True)
    assert result.ended == ended and copied == 3 and not result.audit.violations
