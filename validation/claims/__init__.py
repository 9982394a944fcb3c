"""The tables of claims, one module for each model: `suites` finds them here."""
