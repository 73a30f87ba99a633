"""Keys and values of prompts seen before, shared by every row that begins the same way."""

from dlm_runtime.cache.prefix import CacheStats, PrefixCache

__all__ = ["CacheStats", "PrefixCache"]
