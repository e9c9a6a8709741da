"""`--picture PID:ADDRESS[@peak]`: which page, when, and one clear line where there is nothing to draw."""

import re

import pytest

from sandbox.config import Config
from sandbox.lab.picture import tree
from sandbox.machine import Machine

# Parent and child share a page at a fixed address; the child lives until it is told to go.
SHARE = """
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
    int go[2], status;
    char *p = mmap((void *)0x50000000, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    p[4096] = 1;
    pipe(go);
    pid_t child = fork();
    if (!child) {
        char c;
        close(go[1]);
        read(go[0], &c, 1);
        _exit(p[4096]);
    }
    p[0] = 2;
    write(go[1], "x", 1);
    waitpid(child, &status, 0);
    return p[4096] + WEXITSTATUS(status);
}
"""


@pytest.fixture
def share(compile_c):
    return compile_c(SHARE)


def pictures(ran):
    """The part of stderr that `--picture` wrote."""
    return ran.err[ran.err.index("picture  ") :].splitlines()


def test_a_page_as_its_process_exits(rmapbox, share):
    ran = rmapbox("run", "--rmap", "anon_vma", "--picture", "3:0x50001234", share)
    assert ran.status == 2 and "rmapbox: exited, status 2;" in ran.err
    head, frame, *rest = pictures(ran)
    assert re.fullmatch(r"picture     3:0x50001234, as \S+\[3\] exits", head)
    assert re.fullmatch(r"frame 0x[0-9a-f]+ at c[0-9a-f]{7}: anonymous, mapped by 2 PTEs", frame)
    assert re.match(r"└─ mapping: anon_vma c[0-9a-f]{7} \(8 bytes\): lists 2 areas", rest[0])
    assert [re.sub(r".*PTE c\w{7} \(8 bytes\) of \S+(\[\d\]): ", r"\1 ", line) for line in rest if "PTE" in line] == [
        "[3] 50001000, read-only",
        "[2] 50001000, read-only",
    ]


def test_at_the_peak_and_again_at_the_end(rmapbox, share):
    """Two pictures in the order they were asked for; with --quiet nothing else."""
    words = ["--picture", "2:0x50001000@peak", "--picture=2:1342181376", "--quiet", "--rmap", "pte_chain"]
    ran = rmapbox("run", *words, share)
    assert ran.status == 2
    lines = ran.err.splitlines()
    heads = [k for k, line in enumerate(lines) if line.startswith("picture")]
    assert len(heads) == 2 and heads[0] == 0
    assert re.fullmatch(r"picture     2:0x50001000@peak, when \d+ kB were free, the least ever", lines[0])
    assert lines[2].startswith("└─ pte.chain: pte_chain c") and lines[2].endswith(" (32 bytes): 2 of 7 slots used")
    assert re.fullmatch(r"picture     2:1342181376, as \S+\[2\] exits", lines[heads[1]])
    assert lines[heads[1] + 1].endswith("mapped by 1 PTE")


@pytest.mark.parametrize("scheme", ["virtual_scan", "anonmm_chained", "anon_vma_chain", "rmap_series:stage=9"])
def test_under_other_schemes(rmapbox, share, scheme):
    ran = rmapbox("run", "--quiet", "--audit", "full", "--rmap", scheme, "--picture", "3:0x50001000", share)
    assert ran.status == 2
    ptes = [line for line in ran.err.splitlines() if re.search(r"PTE c\w{7} .*: 50001000, read-only", line)]
    assert len(ptes) == 2, ran.err
    assert ("(nothing leads" in ran.err) == (scheme == "virtual_scan")
    assert ("(lost: nothing leads" in ran.err) == scheme.startswith("rmap_series")


@pytest.mark.parametrize(
    "wanted, reason",
    [
        ("7:0x50001000", r"no process 7 ran: there were 2 \(\S+\), 3 \(\S+\)"),
        ("7:0x50001000@peak", r"no process 7 ran: there were 2 \(\S+\), 3 \(\S+\)"),
        (
            "2:0x60000000",
            r"as \S+\[2\] exits, no area held that address; the nearest were 0x50000000-0x50004000 and .*",
        ),
        ("2:0x50002000", r"as \S+\[2\] exits, no frame was mapped there: .*"),
    ],
)
def test_a_page_that_is_not_there(rmapbox, share, wanted, reason):
    ran = rmapbox("run", "--quiet", "--picture", wanted, share)
    assert ran.status == 2
    (line,) = ran.err.splitlines()
    assert re.fullmatch(rf"picture     {wanted}: {reason}", line), line


@pytest.mark.parametrize("wanted", ["2", "2:", "x:0x1000", "2:0x1000@low", "2:0xzz", "-1:0x1000", "2:0x1000@peak@peak"])
def test_what_is_no_page(rmapbox, wanted):
    line = rmapbox("run", f"--picture={wanted}", "hello").error_line()
    assert f"--picture {wanted!r} is not PID:ADDRESS or PID:ADDRESS@peak" in line


def test_an_address_of_the_kernels(rmapbox):
    assert "the address is the kernel's" in rmapbox("run", "--picture", "2:0xc0000000", "hello").error_line()


def test_a_process_that_executes_another_program(rmapbox, compile_c):
    program = compile_c(
        """
        #include <unistd.h>
        int main(int argc, char **argv, char **envp)
        {
            char *again[] = { argv[0], "again", 0 };
            return argc > 1 ? 0 : execve(argv[0], again, envp);
        }
        """
    )
    ran = rmapbox("run", "--quiet", "--picture", "2:0xbffff000", program)
    assert ran.status == 0
    assert re.fullmatch(r"picture     2:0xbffff000, as \S+\[2\] exits", ran.err.splitlines()[0])


def test_a_run_that_is_cut(rmapbox, compile_c):
    """A process that still lives is looked at when the run ends."""
    program = compile_c("int main(void) { volatile int here = 1; while (here) ; }")
    ran = rmapbox("run", "--quiet", "--time-limit", "1", "--picture", "2:0xbffff000", program)
    assert ran.status == 124
    assert ran.err.splitlines()[0] == "picture     2:0xbffff000, at the end of the run, in which 2 lives on"


def test_looking_changes_nothing():
    """Neither the event hash nor any meter, under pressure, with many pictures."""

    def run(scheme, pictures):
        config = Config(memory="6M", scheme=scheme)
        return Machine(config).run(["fork_cow", "400"], capture=True, pictures=pictures)

    pages = [0xB7F00000 + 0x8000 * k for k in range(12)]  # of the memory that fork_cow shares
    wanted = [f"{pid}:{page:#x}{peak}" for pid in (2, 3) for page in pages for peak in ("", "@peak")]
    for scheme in ("pte_chain", "anonmm", "anon_vma_chain", "virtual_scan"):
        plain, looked = run(scheme, ()), run(scheme, wanted)
        for name in plain.__struct_fields__:
            if name not in ("wall_s", "notes"):
                assert getattr(plain, name) == getattr(looked, name), name
        assert [page.wanted for page in looked.notes.pictures] == wanted
        found = [page for page in looked.notes.pictures if page.picture is not None]
        assert len(found) > 5, [page.reason for page in looked.notes.pictures]
        assert all(tree(page.picture, page.names).startswith("frame ") for page in found)
