"""Dynamic programs nobody here wrote: Debian's own i386 builds of shells, tools, compressors, interpreters and a
database.

Natively they run in a private mount namespace whose root is the unpacked packages; here the same trees are mounted at
the same places: ld-linux maps the shared libraries, threads share an address space, and every byte of output and the
exit status must be the same.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox import Config, Machine
from sandbox.result import Result
from tests.guests.cells import native_works
from tests.guests.debian import system

PACKAGES = (
    "libc6 dash coreutils mawk gawk sed grep gzip xz-utils pigz bc sqlite3 perl-base python3.11-minimal "
    "libpython3.11-minimal libacl1 libattr1 libgmp10 "
    "libselinux1 libpcre2-8-0 zlib1g liblzma5 libreadline8 libtinfo6 libncurses6 libsqlite3-0 libmpfr6 libsigsegv2 "
    "libcrypt1 libgcc-s1 libexpat1 findutils "
    "diffutils tar bash libbz2-1.0 bzip2 make"
).split()
ENVIRONMENT = {
    "PATH": "/bin:/usr/bin",
    "LC_ALL": "C",
    "TZ": "UTC",
    "HOME": "/root",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}

# The private namespace of a native run: the tree is the root, with the host's /dev and /proc, and DIR as /play.
ENTER = """set -e
cd "$1"; mkdir -p dev proc play tmp
mount --rbind /dev dev; mount --rbind /proc proc; mount --bind "$2" play; mount -t tmpfs tmpfs tmp
shift 2
exec setarch i686 -R -3 chroot . "$@"
"""

SHELL = {
    "ls": "ls -l /play | mawk '{ print substr($1, 1, 10), $5, $NF }' | grep -v '^d\\|^total'; ls -n /play/words | "
    "mawk '{ print $3, $4 }'; ls -laR /play | wc -l; ls -R /play; ls /nowhere; ls -ld /play/words | cut -c1-10",
    "sort": "sort /play/words | md5sum; sort --parallel=4 -S 100K -k1.2,1.4 /play/words | cksum; sort -n "
    "/play/numbers | tail -2; sort -R --random-source=/play/blob /play/words | cksum",
    "coreutils": "cd /play; sha256sum blob; base64 blob | tail -1; factor 1234567890123; seq -s, 1 20; expr 6 '*' 7; "
    "nproc >/dev/null; stat -c '%s %a %F' words; tac words | head -2; "
    "shuf --random-source=blob -n 3 words; split -n 3 blob part; cat part* | cmp - blob && echo whole; date -d "
    "@86400 +%F; printf '%05d\\n' 42; numfmt --to=iec 1234567",
    "dash": "f() { local x=$1; while [ $x -gt 0 ]; do x=$((x - 1)); done; echo done $x; }; f 500; (trap 'echo usr1' "
    "USR1; kill -USR1 $(exec sh -c 'echo $PPID'); echo next); "
    "for i in 1 2 3; do (exit $i) & done; wait; echo waited; echo ${PATH%%:*}; set -- a b c; shift; echo $#",
    "bash": "bash -c 'declare -A m; for w in $(head -50 /play/words); do m[${#w}]=$((m[${#w}]+1)); done; for k in "
    '$(printf "%s\\n" "${!m[@]}" | sort -n); do echo $k ${m[$k]}; done; '
    "diff <(sort /play/words) <(sort -u /play/words) | wc -l; coproc cat; echo hi >&${COPROC[1]}; read -u "
    "${COPROC[0]} x; echo got $x; ulimit -n >/dev/null; echo $BASHPID >/dev/null; exit 6'; echo $?",
    "awk": "for a in mawk gawk; do $a '{ n[length($0)]++ } END { for (i = 0; i < 20; i++) if (n[i]) print i, n[i] }' "
    '/play/words; $a \'BEGIN { for (i = 0; i < 6; i++) printf "%d %.6f\\n", i, exp(i) * sin(i); '
    '"echo sub" | getline x; print x; print "to sort" | "sort"; exit 4 }\'; echo $?; done',
    "grep_sed": "cd /play; grep -c '^a' words; grep -nE '(ab|cd)+' words | head -3; grep -P 'a(?=b)' words | wc -l; "
    "grep -rl begin . | sort; sed -E 's/([a-z])([a-z])/\\2\\1/g' words | md5sum; "
    "cp words w2; sed -i '1d;$d' w2; wc -l <w2; diff words w2; echo $?",
    "compress": "cd /play; for z in gzip bzip2 xz; do $z -kc blob >b.z; $z -dc b.z | cmp - blob && echo $z same; "
    "done; seq 1 30000 | gzip -9 | gzip -dc | cksum; tar czf t.tgz tree words; mkdir x; tar xzf t.tgz -C x; "
    "find x -type f | sort | xargs md5sum; gzip -t blob; echo $?",
    "threads": "cd /play; seq 1 40000 | pigz -p4 -b 128 | pigz -dc | cksum; seq 1 12000 | xz -T2 -0 "
    "--block-size=20000 | xz -dc | cksum",
    "bc": "echo 'scale=60; 4*a(1); 2^512 % 1000007; sqrt(2)' | bc -l; echo 'define f(n) { if (n<2) return 1; return "
    "n*f(n-1); } f(60)' | bc",
    "make": "cd /play; printf 'all: a b\\n\\t@cat a b\\na:\\n\\t@echo one >a\\nb: a\\n\\t@sed s/one/two/ a "
    ">b\\nbad:\\n\\t@false\\n' >Makefile; make -j2 all; make all; make bad 2>/dev/null; echo $?",
    "find": "cd /play; find . -name '*.c' -newermt 2000-01-01 | sort; find tree -type f -size +1k -exec basename {} "
    "';' | sort; find . -maxdepth 1 -printf '%f %y\\n' | sort; find tree -delete; ls",
    "mv_cp": "cd /play; cp -a tree t2; ln words hard; ln -s words soft; cp -d soft soft2; mv t2 /tmp/t3; ls -R "
    "/tmp/t3; readlink soft2; rm -r /tmp/t3; mkfifo /tmp/p; (echo through >/tmp/p &) ; cat /tmp/p; touch -d @1000000 "
    "words; stat -c %Y hard; "
    "chmod u=rw,go= words; stat -c %a soft hard; dd if=blob of=z bs=1k seek=2 conv=notrunc count=3 2>/dev/null; "
    "cksum z; truncate -s 70000 z; cksum z; du --apparent-size -b z; rmdir tree; echo $?",
}
SQL = """create table t(id integer primary key, k text, v real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 1500) insert into t(k, v) select 'key'
    || (i * 7919 % 1009), i * 1.5 from n;
create index ik on t(k);
begin; update t set v = v + 1 where id % 3 = 0; rollback;
begin; delete from t where id % 5 = 0; commit;
select count(*), sum(v), min(k), max(k) from t;
select k, count(*) c, sum(v) from t group by k order by c desc, k limit 5;
pragma integrity_check; pragma page_count; vacuum; select count(*) from t where k like 'key1%';
"""
PERL = r"""my %h; $h{$_ % 7} += $_ for 1 .. 20000; print join(",", map { "$_=$h{$_}" } sort keys %h), "\n";
my $pid = open(my $k, "-|") // die; if (!$pid) { print "from the child\n"; exit 3 } print <$k>; close $k;
    print $? >> 8, "\n";
my $s = join "", map { chr 97 + $_ * 7 % 26 } 1 .. 5000; my $n = () = $s =~ /a.b?c*/g; print "$n\n";
    $SIG{ALRM} = sub { die "alarm\n" };
eval { alarm 1; select undef, undef, undef, 20; }; print $@; open my $f, "<", "/play/words" or die; my @l = sort <$f>;
    print scalar(@l), " $l[0]"; print `echo sub shell`;
printf "%.10g %s\n", atan2(1, 1) * 4, unpack("H*", pack("Nv", 1234567, 4660)); kill 15, $$; sleep 5;
"""
PYTHON = r"""
import sys, os, mmap, threading, signal, struct
print(sys.version_info[:2], sum(i * i for i in range(20000)), hash("x") == hash("x"))
pid = os.fork()
if not pid:
    os._exit(9)
print(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
total, lock = [0], threading.Lock()
def work(n):
    for i in range(200):
        with lock:
            total[0] += n
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(total)
m = mmap.mmap(-1, 65536); m[4096:4100] = b"page"; print(m.find(b"page"), m[4096:4100])
with open("/play/data", "w+b") as f:
    f.write(bytes(10000)); f.flush()
    v = mmap.mmap(f.fileno(), 0); v[5000:5003] = b"abc"; v.flush(); f.seek(5000); print(f.read(3)); v.close()
r, w = os.pipe(); os.write(w, b"pipe"); print(os.read(r, 9))
got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(a[0])); os.kill(os.getpid(), signal.SIGUSR1); print(got)
print(sorted(os.listdir("/play"))[:3], os.stat("/play/words").st_size)
try:
    os.open("/nowhere", 0)
except OSError as e:
    print(e)
print({k: v for k, v in sorted(zip("hello", range(5)))}, f"{2 ** 0.5:.15f}", struct.pack("<I", 7))
sys.exit(5)
"""


@functools.cache
def debian() -> Path:
    """The small system; skips where it, or a native run of it, cannot be had."""
    if not native_works():
        pytest.skip("this host cannot run i386 programs")
    root = system("system-1", *PACKAGES)
    if isinstance(root, str):
        pytest.skip(root)
    return root


def native(root: Path, work: Path, words: list[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    command = ["unshare", "-rm", "sh", "-c", ENTER, "enter", str(root), str(work), *words]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=60,
            env={**ENVIRONMENT, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("this host has no unshare (util-linux)")
    if b"unshare" in done.stderr or b"mount:" in done.stderr:
        pytest.skip(
            f"no private mount namespace for a native run: {done.stderr.decode(errors='replace').splitlines()[0]}"
        )
    return done


def material(work: Path) -> None:
    """Input files, the same every time."""
    work.mkdir()
    seed, words = 12345, []
    for _ in range(1500):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        words.append("".join(chr(97 + (seed >> (5 * k)) % 26) for k in range(1 + seed % 6)))
    (work / "words").write_text("\n".join(words) + "\n")
    (work / "numbers").write_text("\n".join(str(k * 7919 % 10007) for k in range(1000)) + "\n")
    (work / "blob").write_bytes(b"".join(hashlib.sha256(str(k).encode()).digest() for k in range(1500)))
    for name in ("tree/a.c", "tree/b/c.c", "tree/b/begin.h"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(name.encode() * 300)


def both(tmp_path: Path, words: list[str], *, stdin: bytes = b"", **settings: object) -> Result:
    """`words` natively and here, each on a fresh copy of the input files; what they leave in them is compared too."""
    root, work = debian(), tmp_path / "play"
    material(work)
    wanted = native(root, work, ["/usr/bin/env", f"PATH={ENVIRONMENT['PATH']}", *words], stdin)
    left = snapshot(work)
    shutil.rmtree(work)
    material(work)
    mounts = (f"{root / 'lib'}:/lib", f"{root / 'usr'}:/usr", f"{root / 'bin'}:/bin", f"{work}:/play:rw")
    config = Config(mounts=mounts, env=ENVIRONMENT, stdin=stdin, time_limit=240, audit="end", **settings)  # type: ignore[arg-type]
    result = Machine(config).run([str(root / words[0].lstrip("/")), *words[1:]], capture=True)
    assert result.stdout.decode(errors="replace") == wanted.stdout.decode(errors="replace"), result.notes
    assert result.exit_status == (wanted.returncode if wanted.returncode >= 0 else 128 - wanted.returncode), (
        result.notes,
        wanted.stderr,
    )
    assert result.audit.violations == 0
    assert snapshot(work) == left
    return result


def snapshot(work: Path) -> dict[str, str]:
    """What lies in the working directory: contents by name."""
    return {
        str(path.relative_to(work)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(work.rglob("*"))
        if path.is_symlink() or (path.is_file() and path.suffix not in (".tgz", ".z"))
    }


def turn(number: int) -> dict[str, str]:
    """Schemes and pagings, spread over the tests."""
    return {"scheme": ("anon_vma", "pte_chain")[number % 2], "paging": ("pae", "2level")[number // 2 % 2]}


@pytest.mark.parametrize("name", SHELL)
def test_shell(tmp_path: Path, name: str) -> None:
    both(tmp_path, ["/bin/dash", "-c", SHELL[name]], **turn(list(SHELL).index(name)))


def test_sqlite_in_memory_and_on_files(tmp_path: Path) -> None:
    script = (
        'sqlite3 :memory: <"$0"; sqlite3 /play/db <"$0"; sqlite3 /tmp/db <"$0"; sqlite3 /play/db .dump | '
        'md5sum; sqlite3 /play/db "pragma journal_mode=wal; insert into t values(9999, 1, 2); select count(*) from '
        't"; rm /play/db*'
    )
    both(
        tmp_path, ["/bin/dash", "-c", f"cat >/tmp/sql; set -- ; {script.replace('$0', '/tmp/sql')}"], stdin=SQL.encode()
    )


def test_perl(tmp_path: Path) -> None:
    both(tmp_path, ["/usr/bin/perl", "-e", PERL], scheme="pte_chain")


def test_python(tmp_path: Path) -> None:
    both(tmp_path, ["/usr/bin/python3.11", "-S", "-c", PYTHON])


@pytest.mark.parametrize("scheme", ["anon_vma", "pte_chain"])
def test_short_of_memory(tmp_path: Path, scheme: str) -> None:
    """The libraries' pages come and go while a script runs."""
    result = both(
        tmp_path,
        ["/bin/dash", "-c", SHELL["sort"] + "; cd /play; xz -kc numbers | xz -dc | cmp - numbers && echo same"],
        scheme=scheme,
        memory="7M",
    )
    file_hits = result.meters[
        "file_hits" if scheme == "anon_vma" else "hits"
    ]  # pte_chain finds file pages by their chains too
    assert result.vmstat["pswpout"] > 0 and file_hits > 0
