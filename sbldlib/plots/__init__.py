"""Records in, Axes out: nothing here shows or saves a figure."""
