"""``/openapi.json`` and the page that shows it: what this node serves, made from its table of endpoints."""
