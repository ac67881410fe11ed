"""A trained translator under the lens: what it writes, what it looks at, what flows through it."""
