"""A run, from its folder to the ledger, and what is made of several."""
