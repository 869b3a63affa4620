"""What tests of graphs need: trace a function as a program in milliseconds, hold a pass to its contract, compare a
model's graphs with a file.
"""

from fouriercache.testing.assertion import assert_graph_matches
from fouriercache.testing.mismatch import GraphMismatch
from fouriercache.testing.programs import check_pass, compare, feed, trace

__all__ = ["GraphMismatch", "assert_graph_matches", "check_pass", "compare", "feed", "trace"]
