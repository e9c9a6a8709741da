#ifndef _SYS_TYPES_H
#define _SYS_TYPES_H
#include <stddef.h>
typedef int pid_t;
typedef unsigned uid_t, gid_t, mode_t, nlink_t, useconds_t, id_t;
typedef long ssize_t, time_t, suseconds_t, clock_t, blksize_t;
typedef long long off_t, blkcnt_t;
typedef unsigned long long dev_t, ino_t;
typedef int clockid_t;
#endif
