"""Is there one order of all operations that explains what the clients saw?

``dfs`` and ``bfs`` are two searches for such an order, ``brute`` is the definition itself, usable for a few operations,
and ``certificate`` checks an order that the servers gave along with their answers. ``check`` runs the searches over
many keys. Everything here is a pure function of its input: no clock, no chance.
"""
