"""Real processes, real faults, a recorded history and checkers that read nothing but the history.

::

    http1      one HTTP/1.1 connection that knows whether the first byte of a request left
    registry   the registry operations as requests and answers; what an attempt proves (ok, fail, info)
    process    one artemis-node process: start, signal, reap, log
    cluster    several of them: addresses, readiness, leader, teardown
    history    events, their file, and their pairing into operations
    pool       connections that are kept and used again
    proxy      links that can be cut per direction, and what was said on them
    namespaces the same with packets that are lost in the kernel
    workload   the generator: unique elements added and whole-service reads, on all nodes
    nemesis    kill -9, SIGSTOP and cut links, of leader and followers, by a seeded plan
    owners     clients with short leases that stop and come back
    leases     a run with them; tails is its arithmetic, lease_report the verdict
    watchers   clients that watch one node after the other
    hopping    a run with them; replay holds what they were told against reads
    images     loop-mounted file systems whose files are copied as a power cut leaves them
    powercut   power cuts of all nodes under load
    diskfaults full and stuck disks
    strace     a running process's system calls
    promises   the verdict on them: was it on disk before it was promised
    strangers  an attack on the Raft ports
    metrics    single values of a node's /metrics
    load       writes for the instruments above
    checker    the verdict: a pure function of a history
    run        one run from start to verdict
    report     the summary table

Run it as ``python -m jepsen_lite run --time 60`` with ``jepsen-lite`` on the import path.
"""
