"""Debian's busybox (static, i386): shell scripts and classic tools do here what they do natively.

Both sides see the same tree at the same paths (a directory with the applets, a working directory with input files),
TZ=UTC, LC_ALL=C.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import Config, Machine
from tests.guests.cells import native_works
from tests.guests.debian import package

SETARCH = shutil.which("setarch") or "setarch"
APPLETS = (
    "sh awk basename bunzip2 bzip2 cat chmod cksum cmp comm cp cpio cut date dc dd diff dirname du echo ed env "
    "expand expr false find fold grep gunzip gzip head "
    "hexdump id ln ls md5sum mkdir mktemp mv nl od paste printf pwd readlink realpath rev rm rmdir sed seq sha1sum "
    "sha256sum sha512sum sleep sort split stat strings "
    "sum tac tail tar tee test touch tr true truncate tsort uname unexpand uniq unlzma unxz uudecode uuencode wc "
    "which xargs xxd xzcat yes zcat"
).split()

SCRIPTS = {
    "pipes": "cat words | sort | uniq -c | sort -rn | head -5; seq 1 2000 | tac | sed -n '1~400p' | tr '\\n' ' '; echo",
    "subshells": "x=1; (x=2; (x=3; echo $x); echo $x); echo $x; y=$(echo $(echo deep)); echo $y; { echo a; echo b; } "
    "| cat -n",
    "loops": "for i in $(seq 1 40); do s=0; j=0; while [ $j -lt $i ]; do s=$((s + j * i)); j=$((j + 1)); done; echo "
    "$i $s; done | tail -3",
    "functions": "f() { [ $1 -le 1 ] && echo 1 && return; echo $(( $(f $(($1 - 1))) + $(f $(($1 - 2))) )); }; f 7; "
    "case abc in a*) echo A;; *) echo B;; esac",
    "traps": "trap 'echo bye' EXIT; trap 'echo usr1' USR1; kill -USR1 $$; echo after; (trap 'echo int; exit 3' INT; "
    "kill -INT $(exec sh -c 'echo $PPID')); echo $?; exit 5",
    "jobs": "for i in 1 2 3; do (sleep 0.$i; echo job $i) & done; wait; (exit 7) & wait $!; echo $?; sleep 100 & "
    "kill $!; wait $!; echo $?",
    "heredoc": 'cat <<EOF\nhome $((6 * 7)) $(echo sub)\nEOF\nread a b <<X\none two three\nX\necho "$b-$a"',
    "redirections": "exec 3>out; echo three >&3; exec 3>&-; cat out; ls nowhere 2>err; echo $?; wc -l <err; : "
    ">empty; test -s empty; echo $?",
    "exit_status": "false | true; echo $?; true | false; echo $?; ! true; echo $?; sh -c 'exit 42'; echo $?; "
    "nosuchcommand 2>/dev/null; echo $?; sh -c 'kill -9 $$'; echo $?",
    "sort": "sort -k2,2n -k1,1 table; sort -u words | wc -l; sort -r numbers | head -3; sort -n numbers | md5sum; "
    "sort -t: -k3 -s table | cksum",
    "awk": "awk '{ n[length($0)]++ } END { for (i = 0; i < 20; i++) if (n[i]) print i, n[i] }' words; awk 'BEGIN { "
    'for (i = 0; i < 10; i++) printf "%d %.3f %s\\n", i, sin(i), substr("abcdefghij", i, 3) }\'',
    "sed": "sed -e 's/\\([a-z]*\\)a/<\\1>/g' -e '/^z/d' words | md5sum; sed -n '/begin/,/end/p' table; sed "
    "'2,4{h;d};$G' table | head -20",
    "md5sum": "md5sum blob words numbers; sha1sum blob; sha256sum blob; sha512sum blob; cksum blob; sum blob",
    "gzip": "gzip -c blob >b.gz; gunzip -c b.gz | cmp - blob && echo same; bzip2 -c words >w.bz2; bunzip2 -c w.bz2 | "
    "cmp - words && echo same; gzip -t b.gz; echo $?",
    "tar": "tar cf t.tar tree words; tar tf t.tar | sort; mkdir x; tar xf t.tar -C x; find x -type f | sort | xargs "
    "md5sum; tar czf t.tgz tree; mkdir y; tar xzf t.tgz -C y; find y | sort",
    "find": "find tree | sort; find tree -name '*.c' | sort; find tree -type d | wc -l; find tree -size +2k | sort; "
    "find tree -type f -exec wc -c {} \\; | sort",
    "dc": "echo '2 100 ^ p 17 % p' | dc; echo '10 k 2 v p' | dc; echo '[la1+dsa100>x]sx0sa lxx la p' | dc",
    "files": "mkdir -p d/e/f; echo hi >d/e/f/g; cp -r d d2; mv d2/e d2/z; ls -1R d2; ln -s d/e/f/g l; readlink l; "
    "cat l; rm -r d2; ls; chmod 600 l; stat -c '%a %s %F' d/e/f/g; rmdir d 2>/dev/null; echo $?",
    "dd": "dd if=/dev/zero of=z bs=4096 count=100 2>/dev/null; wc -c <z; dd if=blob of=part bs=1000 skip=3 count=20 "
    "2>/dev/null; md5sum part; truncate -s 123456 z; wc -c z; od -An -tx1 -N32 part",
    "text": "head -c 1000 blob | xxd | tail -2; cut -d: -f2 table; paste words numbers | head -3; tr a-z A-Z <words "
    "| head -2; nl table | head -3; fold -w 20 table | tail -2; rev words | head -2; comm -12 words words2 | wc -l; "
    "expand table | cksum",
    "ed": "printf '1,3p\\n2d\\nw copy\\nq\\n' | ed -s words 2>/dev/null; wc -l copy; diff words copy; echo $?",
    "xargs": "seq 1 300 | xargs -n 50 echo | wc; find tree -type f | sort | xargs -I{} basename {}; printf 'a b\\0c "
    "d\\0' | xargs -0 -n1 echo",
    "signals": "sh -c 'trap \"\" TERM; kill -TERM $$; echo alive'; sh -c 'kill -SEGV $$'; echo $?; (yes | head -3); "
    "yes | head -100000 | tail -1; echo ${PIPESTATUS-none}",
}


def material(work: Path) -> None:
    """Input files, the same every time."""
    work.mkdir()
    seed, words = 12345, []
    for _ in range(3000):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        words.append("".join(chr(97 + (seed >> (5 * k)) % 26) for k in range(1 + seed % 6)))
    (work / "words").write_text("\n".join(words) + "\n")
    (work / "words2").write_text("\n".join(sorted(words[::2])) + "\n")
    (work / "numbers").write_text("\n".join(str((k * 7919) % 10007) for k in range(2000)) + "\n")
    (work / "table").write_text(
        "".join(f"row{k % 7}\t{k * 37 % 11}:col {'begin' if k == 5 else 'end' if k == 9 else k}\n" for k in range(30))
    )
    (work / "blob").write_bytes(b"".join(hashlib.sha256(str(k).encode()).digest() for k in range(4000)))
    for name in ("tree/a.c", "tree/b/c.c", "tree/b/d.h", "tree/e/f/g"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(name.encode() * 300)
    for path in sorted(work.rglob("*")):
        os.utime(path, (1_000_000_000, 1_000_000_000))


@pytest.fixture(scope="module")
def busybox() -> Path:
    if not native_works():
        pytest.skip("this host cannot run i386 programs")
    found = package("busybox-static")
    if isinstance(found, str):
        pytest.skip(found)
    return found / "bin" / "busybox"


@pytest.fixture
def box(busybox: Path, tmp_path: Path) -> Path:
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    shutil.copy(busybox, bin_directory / "busybox")
    for applet in APPLETS:
        (bin_directory / applet).symlink_to("busybox")
    return tmp_path


def both(box: Path, script: str, **settings: object) -> None:
    work = box / "work"
    text = f"cd {work} && {script}\n"
    variables = {"PATH": str(box / "bin"), "LC_ALL": "C", "TZ": "UTC", "HOME": "/root"}
    material(work)
    native = subprocess.run(
        [SETARCH, "i686", "-R", "-3", str(box / "bin" / "sh"), "-c", text],
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    shutil.rmtree(work)
    material(work)
    config = Config(
        mounts=(f"{box / 'bin'}:{box / 'bin'}", f"{work}:{work}:rw"),
        env=variables,
        stdin=b"",
        time_limit=240,
        audit="end",
        **settings,  # type: ignore[arg-type]
    )
    result = Machine(config).run([str(box / "bin" / "sh"), "-c", text], capture=True)
    assert result.notes.stdout.decode(errors="replace") == native.stdout.decode(errors="replace")
    assert result.exit_status == (native.returncode if native.returncode >= 0 else 128 - native.returncode)
    assert result.audit.violations == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(box: Path, name: str) -> None:
    schemes = ("anon_vma", "pte_chain")
    turn = list(SCRIPTS).index(name)
    both(box, SCRIPTS[name], scheme=schemes[turn % 2], paging=("pae", "2level")[turn // 2 % 2])


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_under_pressure(box: Path, scheme: str) -> None:
    both(box, SCRIPTS["sort"] + "; " + SCRIPTS["gzip"] + "; " + SCRIPTS["awk"], scheme=scheme, memory="8M")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-x", "-q"]))
