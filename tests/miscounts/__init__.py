"""Networks and files that parameter counters are known to count wrong: see README.md."""
