"""Bills held against the Shapley value, on an engine whose step time is known."""
