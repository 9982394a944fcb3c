"""`python -m cascadesim` is the command `cascadesim`."""

from cascadesim.simulator.cli.commands import main

if __name__ == "__main__":
    main()
