"""The replicated log: the only part of Artemis that imports PySyncObj. See ``DESIGN.md`` beside this file.

Reading order: ``ports`` (what the engine needs from the world), ``wire`` (what nodes say to each other), ``journal``
and ``snapshots`` (what is on disk), ``core`` (PySyncObj behind guards), ``proposals`` and ``reads`` (what clients
ask), ``engine`` (all of it together, without IO), ``node`` (the engine on asyncio, TCP and files).
"""
