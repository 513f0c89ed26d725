"""Python client for an Artemis cluster."""
