"""`headrace backtest`: what another policy would have made of the rows that a log holds."""
