"""Starts a program and tells what it took: launch.py TIMES CORE STDOUT PROGRAM ARGUMENT...; one line of wall s, CPU s, peak KiB each time.

A process of its own, and a small one: the peak of a child begins with what its parent held when it was started, so a floor of some 9 MB is left.
CORE is a number, or - for all of them.
"""
import os
import sys
import time

times, core, stdout, *command = sys.argv[1:]
if core != "-":
    os.sched_setaffinity(0, [int(core)])
actions = [(os.POSIX_SPAWN_OPEN, 1, stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)]
for _ in range(int(times)):
    began = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - began
    if status:
        sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss)
