/* Names, links, directories, modes, times: every answer compared with native Linux. Run in an empty directory of a tmpfs, umask 022, as root. */
#include "probe.h"

static char buf[65536], text[5000];
struct stat64 { uint64_t dev; char p[4]; uint32_t ino32, mode, nlink, uid, gid; uint64_t rdev; char q[4]; int64_t size; uint32_t blksize; uint64_t blocks;
                uint32_t at, atn, mt, mtn, ct, ctn; uint64_t ino; } __attribute__((packed));
struct ent64 { uint64_t ino; int64_t off; uint16_t len; uint8_t type; char name[]; } __attribute__((packed));
struct ent { uint32_t ino, off; uint16_t len; char name[]; } __attribute__((packed));

static void st(const char *path)
{
    struct stat64 s;
    long r = S(lstat64_, path, &s);
    if (r) printf("  %s: %ld\n", path, r);
    else printf("  %s: mode %o nlink %u uid %u gid %u rdev %x size %d blksize %u blocks %u ino %d\n", path, s.mode, s.nlink, s.uid, s.gid,
                (unsigned)s.rdev, (int)s.size, s.blksize, (unsigned)s.blocks, s.ino == s.ino32);
}

static void list(const char *path)
{
    char *names[64];
    int n = 0, fd = S(open_, path, 0200000), i, j;
    long got;
    static char copy[65536];
    while ((got = S(getdents64_, fd, buf, 200)) > 0)
        for (i = 0; i < got; i += ((struct ent64 *)(buf + i))->len) {
            struct ent64 *e = (struct ent64 *)(buf + i);
            char *to = copy + n * 300;
            snprintf(to, 300, "%s/%d/%d", e->name, e->type, e->len);
            names[n++] = to;
        }
    for (i = 0; i < n; i++)
        for (j = i + 1; j < n; j++)
            if (strcmp(names[i], names[j]) > 0) { char *t = names[i]; names[i] = names[j]; names[j] = t; }
    printf("  list %s:", path);
    for (i = 0; i < n; i++) printf(" %s", names[i]);
    printf(" end %ld\n", got);
    S(close_, fd);
}

int main(void)
{
    int i, fd, dfd;
    P(chmod_, ".", 0755); P(umask_, 022); P(umask_, 0xfff); P(umask_, 022);
    P(mkdir_, "d", 0777); P(mkdir_, "d", 0777); P(mkdir_, "", 0777); P(mkdir_, "x/y", 0777); P(mkdir_, "/", 0777); P(mkdir_, ".", 0777); P(mkdir_, "d/..", 0777);
    P(mkdir_, "d/e/", 07777); P(mkdir_, BAD, 0777); P(mkdir_, 0, 0); st("d"); st("d/e");
    fd = P(open_, "d/f", 0102, 0666); P(wr_, fd, "hello", 5); P(close_, fd); P(close_, fd); st("d/f");
    P(open_, "d/f", 0302, 0666); P(open_, "d", 1); P(open_, "d", 2); P(open_, "d", 0102); P(open_, "d/f/", 0); P(open_, "d/f/x", 0); P(open_, "nofile", 0);
    P(open_, "nodir/f", 0102, 0666); P(open_, "d/f", 0200000); P(open_, "new/", 0102, 0666); P(open_, "", 0); P(open_, BAD, 0);
    P(mkdir_, "d/f", 0777); P(mkdir_, "d/f/x", 0777); P(rmdir_, "d"); P(rmdir_, "d/f"); P(rmdir_, "d/e/."); P(rmdir_, "d/e/.."); P(rmdir_, "/"); P(rmdir_, "none");
    P(unlink_, "d"); P(unlink_, "none"); P(unlink_, "d/f/"); P(unlink_, "."); P(unlink_, "d/e/"); P(unlink_, "none/");
    P(link_, "d/f", "d/g"); P(link_, "d/f", "d/g"); P(link_, "d", "dd"); P(link_, "none", "q"); P(link_, "d/f", "no/q"); st("d/f"); P(unlink_, "d/f"); st("d/g");
    P(symlink_, "g", "d/s"); P(symlink_, "g", "d/s"); P(symlink_, "", "d/t"); P(symlink_, "loop", "loop"); P(symlink_, "d", "ld"); st("d/s"); st("ld");
    P(open_, "loop", 0); P(open_, "loop", 0102, 0666); P(open_, "d/s", 0400000); P(open_, "d/s", 0302, 0600); P(open_, "ld/", 0400000); P(mkdir_, "ld", 0777); P(rmdir_, "ld"); P(unlink_, "ld/");
    P(readlink_, "d/s", text, 100); P(readlink_, "d/s", text, 0); P(readlink_, "d/s", text, -1); P(readlink_, "d/g", text, 10); P(readlink_, "none", text, 10); P(readlink_, "d/s", BAD, 10);
    P(symlink_, "made", "d/dang"); fd = P(open_, "d/dang", 0102, 0640); P(close_, fd); st("d/made"); P(unlink_, "d/made");
    P(open_, "d/dang", 0); P(stat_, "d/dang", buf); P(chmod_, "d/dang", 0700); P(access_, "d/dang", 0);
    memset(text, 'a', 4999); P(open_, text, 0); text[256] = 0; P(open_, text, 0); text[255] = 0; P(open_, text, 0); P(open_, text, 0102, 0600); P(unlink_, text);
    P(rename_, "d/g", "d/h"); P(rename_, "d/g", "d/h"); P(rename_, "d", "d/e/x"); P(rename_, "d/e", "d/h"); P(rename_, "d/h", "d/e"); P(rename_, "d/h", "d/h");
    P(rename_, "d/h/", "z"); P(rename_, "d/h", "z/"); P(rename_, "d", "dz/"); P(rename_, "dz", "d"); P(rename_, ".", "x"); P(rename_, "d", "..");
    P(mkdir_, "d/full", 0755); P(mkdir_, "d/full/in", 0755); P(mkdir_, "d/m", 0755); P(rename_, "d/m", "d/full"); P(rename_, "d/full", "d/m"); P(rename_, "d/m", "d/m/in/y"); P(rename_, "d/m/in", "d");
    P(renameat2_, CWD, "d/h", CWD, "d/m", 2); st("d/h"); st("d/m"); P(renameat2_, CWD, "d/h", CWD, "d/m", 2); P(renameat2_, CWD, "d/h", CWD, "d/m", 1); P(renameat2_, CWD, "d/h", CWD, "d/k", 3);
    P(renameat2_, CWD, "d/h", CWD, "d/none", 2); P(renameat2_, CWD, "d/h", CWD, "d/h2", 1); P(rename_, "d/h2", "d/h"); P(link_, "d/h", "d/hh"); P(rename_, "d/h", "d/hh"); st("d/hh"); st("d/h"); P(unlink_, "d/hh");
    list("d"); list("."); st("d"); st(".");
    fd = P(open_, "d", 0); P(rd_, fd, buf, 10); P(wr_, fd, buf, 10); P(lseek_, fd, 0, 0); P(getdents64_, fd, buf, 10); P(getdents64_, fd, BAD, 1000); P(ftruncate_, fd, 0); P(fsync_, fd); P(readdir_, fd, buf, 1);
    i = ((struct ent *)buf)->len; printf("  readdir %d %s\n", i, ((struct ent *)buf)->name); P(lseek_, fd, 0, 0);
    last = S(getdents_, fd, buf, 4096); printf("getdents %ld\n", last); P(getdents_, fd, buf, 4096); P(pread_, fd, buf, 10, 0, 0); P(close_, fd); P(getdents64_, 77, buf, 100); P(getdents64_, 0, buf, 100);
    P(chdir_, "d/h"); P(chdir_, "none"); P(chdir_, "d/m/.."); P(chdir_, "d"); last = S(getcwd_, buf, 4096); printf("%s\n", strrchr(buf, '/')); P(getcwd_, buf, 3); P(getcwd_, BAD, 4096); P(getcwd_, buf, 0);
    P(mkdir_, "gone", 0755); P(chdir_, "gone"); P(rmdir_, "../gone"); P(getcwd_, buf, 4096); P(open_, "x", 0102, 0600); P(mkdir_, "x", 0700); P(open_, ".", 0); P(open_, "..", 0); P(stat_, ".", buf); P(chdir_, "../..");
    dfd = P(open_, "d", 0200000); P(openat_, dfd, "h", 0); P(openat_, dfd, "/none", 0); P(openat_, 99, "h", 0); P(openat_, 99, "/", 0); P(openat_, last, "d", 0); P(openat_, 0, "x", 0);
    P(fchdir_, dfd); P(fchdir_, 99); P(chdir_, ".."); P(mkdirat_, dfd, "at", 0700); P(unlinkat_, dfd, "at", 0); P(unlinkat_, dfd, "at", 0x200); P(unlinkat_, dfd, "at", 4); P(symlinkat_, "h", dfd, "sl"); P(readlinkat_, dfd, "sl", buf, 9);
    P(linkat_, dfd, "sl", dfd, "sl2", 0); P(linkat_, dfd, "sl", dfd, "h3", 0x400); st("d/sl2"); st("d/h3"); P(linkat_, dfd, "h", dfd, "x", 1); P(renameat_, dfd, "sl2", CWD, "sl3"); P(fchmodat_, dfd, "h", 0604); st("d/h");
    P(mknod_, "fifo", 010644, 0); P(mknod_, "sock", 0140644, 0); P(mknod_, "chr", 020644, 0x103); P(mknod_, "blk", 060600, 0x801); P(mknod_, "reg", 0644, 0); P(mknod_, "dir", 040755, 0); P(mknod_, "bad", 030000, 0); P(mknod_, "reg", 0644, 0);
    st("fifo"); st("sock"); st("chr"); st("blk"); st("reg"); P(open_, "sock", 0); list("."); fd = P(open_, "chr", 2); P(wr_, fd, "x", 1); P(rd_, fd, buf, 1); P(close_, fd);
    P(open_, "fifo", 04001); fd = P(open_, "fifo", 04000); P(rd_, fd, buf, 5); P(open_, "fifo", 04001); P(wr_, last, "abc", 3); P(rd_, fd, buf, 5); P(lseek_, fd, 0, 0); P(close_, fd);
    P(chmod_, "reg", 07777); st("reg"); P(chown32_, "reg", 5, -1); st("reg"); P(chown32_, "reg", -1, 6); P(lchown32_, "ld", 7, 8); st("ld"); P(chown32_, "none", 1, 1); P(fchown32_, 99, 0, 0); P(chmod_, "none", 1); P(fchmod_, 99, 1);
    P(access_, "reg", 7); P(chmod_, "reg", 0); P(access_, "reg", 4); P(access_, "reg", 1); P(access_, "reg", 8); P(access_, "none", 0); P(faccessat_, dfd, "h", 4); P(faccessat2_, dfd, "", 0, 0x1000); P(faccessat2_, dfd, "h", 0, 1); P(chmod_, "reg", 0700); P(access_, "reg", 1); P(access_, "d", 1);
    { struct ts t[2] = {{1000, 5}, {2000, 6}}; struct stat64 s; long tv[4] = {11, 22, 33, 44}; long long t64[4] = {1LL << 31, 7, 5, 8};
      P(utimensat_, CWD, "reg", t, 0); S(stat64_, "reg", &s); printf("%u %u %u %u\n", s.at, s.atn, s.mt, s.mtn); t[0].nsec = 0x3ffffffe; t[1].sec = 9; P(utimensat_, CWD, "reg", t, 0); S(stat64_, "reg", &s); printf("%u %u %u %u\n", s.at, s.atn, s.mt, s.mtn);
      t[1].nsec = 1000000000; P(utimensat_, CWD, "reg", t, 0); P(utimes_, "reg", tv); S(stat64_, "reg", &s); printf("%u %u %u %u\n", s.at, s.atn, s.mt, s.mtn); tv[1] = 1000000; P(utimes_, "reg", tv); P(utime_, "reg", tv); S(stat64_, "reg", &s); printf("%u %u\n", s.at, s.mt);
      P(utimensat64_, CWD, "reg", t64, 0); S(stat64_, "reg", &s); printf("%u %u %u %u\n", s.at, s.atn, s.mt, s.mtn); P(utimensat_, CWD, "none", 0, 0); P(utimensat_, CWD, 0, 0, 0); P(utimensat_, dfd, 0, 0, 0); P(utimes_, "none", 0); P(utimensat_, CWD, "reg", 0, 1); P(utimensat_, CWD, "reg", BAD, 0); }
    P(fstat64_, 99, buf); P(stat64_, "none", buf); P(stat64_, "d", BAD); P(stat64_, "", buf); P(fstatat64_, dfd, "", buf, 0); P(fstatat64_, dfd, "", buf, 0x1000); P(fstatat64_, dfd, "h", buf, 2); P(stat_, "d", buf); P(stat64_, "reg/x", buf);
    P(statx_, CWD, "d", 0, 0x7ff, buf); printf("  mask %x mode %o nlink %u\n", *(unsigned *)buf & 0x7ff, *(unsigned short *)(buf + 28), *(unsigned *)(buf + 16)); P(statx_, CWD, "", 0, 0x7ff, buf); P(statx_, dfd, "", 0x1000, 0x7ff, buf); P(statx_, dfd, "h", 0x6000, 0, buf); P(statx_, dfd, "h", 0, 0x80000000, buf);
    P(statfs_, ".", buf); printf("  %x %d %d\n", ((int *)buf)[0], ((int *)buf)[1], ((int *)buf)[9]); P(statfs64_, ".", 84, buf); P(statfs64_, ".", 80, buf); P(statfs64_, "none", 84, buf); P(fstatfs64_, 99, 84, buf); P(fstatfs64_, dfd, 84, buf);
    P(open_, "d", 020200002, 0600); fd = last; P(wr_, fd, "tmp", 3); { struct stat64 s; S(fstat64_, fd, &s); printf("  nlink %u size %d\n", s.nlink, (int)s.size); } snprintf(text, 100, "/proc/self/fd/%d", fd); P(linkat_, CWD, text, CWD, "named", 0x400); st("named"); P(open_, "d", 020200000, 0600); P(open_, "reg", 020200002, 0600);
    fd = P(open_, "reg", 010000000); P(rd_, fd, buf, 1); P(wr_, fd, buf, 1); P(fstat64_, fd, buf); P(fcntl64_, fd, 3, 0); P(fchmod_, fd, 0600); P(ioctl_, fd, 0x5401, buf); P(lseek_, fd, 0, 0); P(close_, fd); P(open_, "ld", 010400000); P(fstat64_, last, buf);
    P(open_, "reg", 03, 0); P(rd_, last, buf, 1); P(wr_, last, buf, 1); P(open_, "reg", 0200101, 0600); P(open_, "noreg", 0200101, 0600);
    return 0;
}
