"""`headrace drift`: what changed, drawn, and what followed from it."""
