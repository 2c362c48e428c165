"""Logits and the baseline -> per-token scores -> a file's summary; arrays in, arrays out."""

from harness.score.reference import reduce_logits
from harness.score.summary import METRICS_VERSION, stack, summarize
from harness.score.tokens import ChunkScores, score_chunk

__all__ = [
    "METRICS_VERSION",
    "ChunkScores",
    "reduce_logits",
    "score_chunk",
    "stack",
    "summarize",
]
