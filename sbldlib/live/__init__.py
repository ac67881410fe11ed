"""A run that is steered while it trains: what may be asked, its arms, its record, its replay."""
