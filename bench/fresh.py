"""Runs a command, and tells the seconds until its first line and the most memory that it used: `fresh.py COMMAND...`.

A small process of its own, for the system counts what a parent had in memory as its child's.
"""

import json
import resource
import subprocess
import sys
import time

begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
process.stdout.readline()
seconds = time.perf_counter() - begun
process.stdout.read()
if process.wait() == 0:
    print(json.dumps({"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}))
