"""Outcomes to every output: text out of data; only `progress` writes to a stream."""
