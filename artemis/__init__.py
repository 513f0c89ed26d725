"""Artemis: a Raft-replicated, strongly consistent service registry.

This package is the pure domain. It knows no clock, no randomness, no IO, no thread, no event loop, no consensus
library and no web framework; a test enforces it. Arrows go one way::

    artemis.api -> artemis.consensus -> artemis        artemis.client -> artemis (model and errors only)

Reading order: ``model`` and ``commands`` (what travels), ``outcomes`` and ``errors`` (what comes back), ``registry``
(the state machine), ``services``, ``leases``, ``changes``, ``sessions`` (its parts), ``snapshot`` (its bytes).
``DESIGN.md`` beside this file has the decisions and their price.
"""
