"""``python -m benchmarks`` is ``benchmarks.run``, with ``commit`` as first argument ``benchmarks.commit``."""

import sys

from benchmarks import commit, run

if sys.argv[1:2] == ["commit"]:
    commit.main(sys.argv[2:], prog_name="python -m benchmarks commit")
else:
    run.main(prog_name="python -m benchmarks")
