"""Settings of the earlier Artemis servers, turned into a file for ``artemis-node``.

``properties`` reads the Java format; ``java`` (with ``java_keys`` and ``java_place``), ``limits`` and ``rust`` know the
keys of the two servers; ``members`` turns their lists of HTTP addresses into members with Raft addresses; ``draft``
collects what was carried and what was not; ``output`` checks and writes the result.
"""
