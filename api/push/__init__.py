"""The WebSockets of existing clients: Java's heartbeat and change pushes, and the Rust server's ``/ws``.

``java_heartbeat`` renews leases, ``java_changes`` and ``rust_socket`` push what the feed has for them. What a session
is and how it ends is common to all (``sessions``); how many sockets there may be and how a message gets out is
``api.sockets``. Our own watch is not here.
"""
