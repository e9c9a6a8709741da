"""The kernel around the memory management: tasks, scheduling, signals, exec, user copy, time.

boot.py      the CPU's first tables
kernel.py    one system: tasks by pid, boot, endings
loop.py      pick, run, trap
task.py      task_struct and its relatives
sched.py     what a task waits for, and whose turn it is
uaccess.py   guest memory
fork.py      copy_process
exec.py      execve (binfmt.py: headers, binprm.py: stack)
exit.py      zombies, wait
signals.py   sending, queues, stops
sigframe.py  frames on the guest's stack
deliver.py   on return to user mode
timers.py    clocks, itimers, POSIX timers
futex.py     sleeping on a word
table.py     system calls by number
events.py    the event hash
"""
