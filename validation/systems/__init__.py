"""The claims ledger: published figures of attention systems beside our predictions."""
