"""Which layers run: find blocks, skip them, draw a plan, allocate, schedule."""
