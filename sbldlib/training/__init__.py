"""The training loop: a generator of step records, its callbacks, optimiser and live controls."""
