"""Second implementations of the seams, and small tools that several suites share."""
