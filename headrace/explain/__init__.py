"""`headrace explain`: why things are as they are, told from the evidence on the log."""
