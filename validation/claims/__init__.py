"""The claims, a table (claims.csv), and the suites that they are about: `suites` finds the modules here."""
