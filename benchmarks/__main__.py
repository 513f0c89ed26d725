"""``python -m benchmarks`` is ``benchmarks.run``; the names below as first argument are others."""

import sys

from benchmarks import commit, java_clients, run, scale, watchers

NAMED = {"commit": commit.main, "java-clients": java_clients.main, "scale": scale.main, "watchers": watchers.main}

if sys.argv[1:2] and sys.argv[1] in NAMED:
    NAMED[sys.argv[1]](sys.argv[2:], prog_name=f"python -m benchmarks {sys.argv[1]}")
else:
    run.main(prog_name="python -m benchmarks")
